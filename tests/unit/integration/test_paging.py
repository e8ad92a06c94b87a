"""Going through pages: all of them or one by one, never without an end, never cut off without a word."""

from __future__ import annotations

import pytest

from integration.errors import AnswerInvalidError, AnswerTooLargeError
from integration.paging import links
from tests.fakes.web import peer, reply

ITEMS = [{"id": number} for number in range(23)]


def by_page(asked):
    page, size = int(asked.query["page"]), int(asked.query.get("per_page", 10))
    return reply({"data": ITEMS[(page - 1) * size : page * size], "more": page * size < len(ITEMS)})


def by_offset(asked):
    start, size = int(asked.query["offset"]), int(asked.query["limit"])
    return reply(ITEMS[start : start + size])


def by_cursor(asked):
    start = int(asked.query.get("after", "c0").removeprefix("c"))
    following = f"c{start + 10}" if start + 10 < len(ITEMS) else None
    return reply({"data": ITEMS[start : start + 10], "meta": {"next": following}})


def by_link(asked):
    page = int(asked.query.get("page", 1))
    end = page * 10 >= len(ITEMS)
    header = f'<{asked.path}?page={page + 1}&key={asked.query.get("key", "")}>; rel="next", </x>; rel=first'
    return reply(ITEMS[(page - 1) * 10 : page * 10], link="" if end else header)


WAYS = {
    "page": (by_page, {"kind": "page", "size": 10, "items": "${ .body.data }"}),
    "page and a word": (by_page, {"kind": "page", "items": "${ .body.data }", "more": "${ .body.more }"}),
    "page until it is empty": (by_page, {"kind": "page", "items": "${ .body.data }"}),
    "offset": (by_offset, {"kind": "offset", "size": 7}),
    "cursor": (
        by_cursor,
        {"kind": "cursor", "items": "${ .body.data }", "next": "${ .body.meta.next }", "parameter": "after"},
    ),
    "link": (by_link, {"kind": "link"}),
}


@pytest.mark.parametrize("way", WAYS)
async def test_all_items_come_in_order(bench, way):
    handler, paging = WAYS[way]
    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": paging})
        done = await bench.invoke(entry, "all")
        assert done.output == {"items": ITEMS, "next_cursor": None}
        assert 3 <= len(shop.asked) <= 4


@pytest.mark.parametrize("way", WAYS)
async def test_one_page_comes_with_a_cursor_that_leads_on(bench, way):
    handler, paging = WAYS[way]
    config = {"auth": {"kind": "api_key", "in": "query", "name": "key"}}
    async with peer(handler) as shop:
        entry = await bench.connect(
            {"base_url": shop.url, **config},
            {"key": "s3cret"},
            one={"path": "/a", "paging": paging | {"returns": "page"}},
        )
        items, cursor = [], None
        while True:
            output = (await bench.invoke(entry, "one", {"cursor": cursor})).output
            items += output["items"]
            cursor = output["next_cursor"]
            assert "s3cret" not in str(output)
            if cursor is None:
                break
        assert items == ITEMS
        assert {asked.query["key"] for asked in shop.asked} == {"s3cret"}


@pytest.mark.parametrize("way", [way for way in WAYS if way != "cursor"])
async def test_a_cursor_that_is_none_of_the_operations_is_refused(bench, way):
    handler, paging = WAYS[way]
    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url}, one={"path": "/a", "paging": paging | {"returns": "page"}})
        for cursor in ("/admin?x=1", "http://169.254.169.254/", -1, 1.5, {"a": 1}, True):
            with pytest.raises(AnswerInvalidError, match="cursor"):
                await bench.invoke(entry, "one", {"cursor": cursor})
        assert not shop.asked


async def test_a_link_cursor_of_one_operation_does_not_lead_another(bench):
    paging = {"kind": "link", "returns": "page"}
    async with peer(by_link) as shop:
        entry = await bench.connect(
            {"base_url": shop.url}, one={"path": "/a", "paging": paging}, two={"path": "/b", "paging": paging}
        )
        cursor = (await bench.invoke(entry, "one")).output["next_cursor"]
        with pytest.raises(AnswerInvalidError, match="cursor"):
            await bench.invoke(entry, "two", {"cursor": cursor})


async def test_pages_that_go_round_in_a_circle_are_an_error(bench):
    turns = {"": "a", "a": "b", "b": "c", "c": "a"}

    def handler(asked):
        at = asked.query.get("cursor", "")
        return reply({"items": [at], "next": turns[at]})

    async with peer(handler) as shop:
        paging = {"kind": "cursor", "items": "${ .body.items }", "next": "${ .body.next }"}
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": paging})
        with pytest.raises(AnswerInvalidError, match="named before"):
            await bench.invoke(entry, "all")
        assert len(shop.asked) == 4


async def test_a_server_that_knows_no_pages_is_found_out(bench):
    async with peer(lambda _: reply(ITEMS[:10])) as shop:
        paging = {"kind": "page", "size": 10}
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": paging})
        with pytest.raises(AnswerInvalidError, match="same page twice"):
            await bench.invoke(entry, "all")
        assert len(shop.asked) == 2


@pytest.mark.parametrize("limit", [{"max_pages": 2}, {"max_items": 15}])
async def test_a_limit_that_is_reached_is_an_error_and_not_an_end(bench, limit):
    handler, paging = WAYS["cursor"]
    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": paging | limit})
        with pytest.raises(AnswerTooLargeError, match="page by page"):
            await bench.invoke(entry, "all")
        assert len(shop.asked) == 2


async def test_bytes_of_all_pages_together_have_a_bound(bench):
    def handler(asked):
        at = int(asked.query.get("cursor", 0))
        return reply({"items": ["x" * 900_000 + str(at)], "next": at + 1})

    async with peer(handler) as shop:
        paging = {"kind": "cursor", "items": "${ .body.items }", "next": "${ .body.next }"}
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": paging})
        with pytest.raises(AnswerTooLargeError, match="bytes"):
            await bench.invoke(entry, "all")
        assert len(shop.asked) == 5


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:8081/a?page=2", "http://other.example.com/a", "/elsewhere?page=2", "//evil.example.com/a"],
)
async def test_a_link_that_leads_elsewhere_is_not_followed(bench, target):
    async with peer(lambda _: reply([1], link=f'<{target}>; rel="next"')) as shop:
        entry = await bench.connect({"base_url": f"{shop.url}/api"}, all={"path": "/a", "paging": {"kind": "link"}})
        with pytest.raises(AnswerInvalidError, match="another place"):
            await bench.invoke(entry, "all")
        assert len(shop.asked) == 1


async def test_a_page_that_fails_for_a_moment_is_fetched_again_without_those_before(bench):
    count = 0

    def handler(asked):
        nonlocal count
        count += 1
        return reply("", 502) if count == 2 else by_cursor(asked)

    async with peer(handler) as shop:
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": WAYS["cursor"][1]})
        done = await bench.invoke(entry, "all")
        assert done.output["items"] == ITEMS
        assert [asked.query.get("after") for asked in shop.asked] == [None, "c10", "c10", "c20"]
        assert done.attempts == 2


async def test_items_that_are_no_list_are_an_error(bench):
    async with peer(lambda _: reply({"data": 7})) as shop:
        entry = await bench.connect({"base_url": shop.url}, all={"path": "/a", "paging": {"kind": "page"}})
        with pytest.raises(AnswerInvalidError, match="gives no list"):
            await bench.invoke(entry, "all")


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('<https://a/b?page=2>; rel="next"', {"next": "https://a/b?page=2"}),
        ('<a>; rel=prev, <b>; title="x, y; rel=no"; rel="next last"', {"prev": "a", "next": "b", "last": "b"}),
        ('<a>; rel="next"; rel="last", <b>;rel=next', {"next": "a"}),
        ("<a,b;c>; REL=Next", {"next": "a,b;c"}),
        ("", {}),
        ("garbage", {}),
        ("<a>", {}),
        ("<a; rel=next", {}),
    ],
)
def test_the_link_header_is_read_as_its_standard_says(header, found):
    assert links(header) == found
