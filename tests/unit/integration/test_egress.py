"""Where integration may connect to: checked on the address that is really connected to, however it is spelled."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.adapters.egress import Guard, open_target
from integration.adapters.http_client import HttpClient, HttpRequest, check_headers
from integration.errors import CallTimeoutError, LocationForbiddenError, SystemRefusedError, SystemUnavailableError
from mesh.config import SettingsError
from tests.fakes.web import Reply, peer, reply

CLOSED = Guard.of([], [], private=False)
PRIVATE = Guard.of([], [], private=True)


def resolver(*answers):
    """Names whose addresses change with every question."""
    turns = iter(answers)

    async def resolve(host, port):
        return next(turns)

    return resolve


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.1.2", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("::ffff:0:127.0.0.1", "loopback"),
        ("::ffff:0:a9fe:a9fe", "metadata"),
        ("2002:7f00:1::", "loopback"),
        ("2001:0:4136:e378:8000:63bf:80ff:fffe", "loopback"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("::ffff:a9fe:a9fe", "metadata"),
        ("169.254.1.1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("0.0.0.0", "unspecified"),  # noqa: S104 -- an address to be refused
        ("::", "unspecified"),
        ("224.0.0.251", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("198.18.0.1", "reserved"),
        ("2001:db8::1", "reserved"),
        ("10.1.2.3", "private"),
        ("172.31.0.1", "private"),
        ("192.168.1.1", "private"),
        ("100.64.0.1", "private"),
        ("fd12::1", "private"),
        ("::ffff:10.0.0.1", "private"),
    ],
)
def test_special_addresses_are_refused_by_their_kind(address, kind):
    with pytest.raises(LocationForbiddenError) as caught:
        CLOSED.check("name", 443, address)
    assert caught.value.metadata["kind"] == kind
    if kind == "private":
        PRIVATE.check("name", 443, address)
        assert "integration.private_networks" in caught.value.message
    else:
        with pytest.raises(LocationForbiddenError):
            PRIVATE.check("name", 443, address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "172.32.0.1", "64:ff9b::808:808"])
def test_public_addresses_are_reached_but_not_in_the_clear_where_that_matters(address):
    CLOSED.check("name", 443, address)
    with pytest.raises(LocationForbiddenError, match="without TLS"):
        CLOSED.check("name", 80, address, public=False)
    Guard.of([], [f"{address}"], private=False).check("name", 80, address, public=False)


def test_what_the_operator_names_is_reached():
    guard = Guard.of(["Localhost", "metadata:8080", "[::1]:9000"], ["10.1.0.0/16"], private=False)
    guard.check("localhost", 1234, "127.0.0.1")
    guard.check("metadata", 8080, "169.254.169.254")
    guard.check("::1", 9000, "::1")
    guard.check("anything", 443, "10.1.2.3")
    guard.check("anything", 443, "::ffff:10.1.2.3")
    for host, port, address in (
        ("metadata", 80, "169.254.169.254"),
        ("other", 80, "127.0.0.1"),
        ("x", 443, "10.2.0.1"),
    ):
        with pytest.raises(LocationForbiddenError):
            guard.check(host, port, address)


def test_a_network_that_is_none_stops_the_service_with_its_name():
    with pytest.raises(SettingsError, match=r"allowed_networks.*10\.1\.2\.3/8"):
        Guard.of([], ["10.1.2.3/8"], private=False)


@pytest.mark.parametrize(
    "uri",
    [
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0x7f.0.0.1/",
        "http://1.2.3.4.5/",
        "http://user@example.com/",
        "http://user:pw@example.com/",
        "http://example.com\\@169.254.169.254/",
        "http://example.com@169.254.169.254/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:25/",
        "http://example.com:22/",
        "http:///path",
        "http://exa mple.com/",
        "http://example.com/\r\nhost: evil",
        "http://[::1/",
        "http://[::g]/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "//example.com/",
        "example.com",
        "",
        "http://ⓛocalhost/",
        "http://a..b/",
        "http://%6c%6fcalhost/",
    ],
)
def test_an_address_that_could_be_misread_is_refused(uri):
    with pytest.raises(LocationForbiddenError):
        open_target(uri)


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("HTTPS://Example.COM./a?b=c#d", "https://example.com/a?b=c"),
        ("http://[::FFFF:127.0.0.1]:8080/", "http://[::ffff:7f00:1]:8080/"),
        ("https://exämple.de/", "https://xn--exmple-cua.de/"),
        ("http://127。0。0。1/", "http://127.0.0.1/"),
        ("http://snake_case.internal/", "http://snake_case.internal/"),
    ],
)
def test_an_address_has_one_plain_form(uri, plain):
    assert str(open_target(uri)) == plain


@given(st.text(alphabet="htps:/@.[]%01279afx\\#?lo", max_size=40))
def test_no_text_ends_in_anything_but_a_plain_address_or_one_error(text):
    try:
        url = open_target(text)
    except LocationForbiddenError:
        return
    assert url.scheme in ("http", "https")
    assert url.host
    assert not url.userinfo
    assert str(open_target(str(url))) == str(url)


async def fetch(client, uri, **more):
    try:
        return await client.send(HttpRequest("GET", uri, {}, timeout_s=5.0, confidential=False, **more))
    finally:
        await client.close()


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to():
    async with peer(lambda _: reply("inside")) as shop:
        asked = []

        async def rebinding(host, port):
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

        guard = Guard.of([], ["127.0.0.0/8"], private=False)
        answer = await fetch(HttpClient(guard, rebinding), f"http://rebind.example.com:{shop.port}/")
        assert answer.body == b'"inside"'
        assert asked == ["rebind.example.com"]  # one question, one answer, no second look


async def test_a_name_that_leads_inside_is_refused_before_a_byte_is_sent():
    async with peer(lambda _: reply("inside")) as shop:
        for addresses in (["127.0.0.1"], ["::ffff:127.0.0.1"], ["8.8.8.8", "127.0.0.1"]):
            with pytest.raises(LocationForbiddenError) as caught:
                await fetch(HttpClient(CLOSED, resolver(addresses)), f"http://innocent.example.com:{shop.port}/")
            assert caught.value.outcome_known
        assert shop.connections == 0


async def test_the_name_behind_a_redirect_is_looked_up_and_checked_too():
    async with peer(lambda _: reply("inside")) as inside:
        target = f"http://second.example.com:{inside.port}/"

        async def names(host, port):
            return ["127.0.0.1"] if host == "first.example.com" else ["127.0.0.2"]

        async with peer(lambda _: Reply(302, {"location": target})) as outside:
            guard = Guard.of(["first.example.com"], [], private=False)
            with pytest.raises(LocationForbiddenError, match=r"second\.example\.com"):
                await fetch(HttpClient(guard, names), f"http://first.example.com:{outside.port}/", redirects=5)
        assert inside.connections == 0


async def test_a_name_without_an_address_is_unavailable():
    with pytest.raises(SystemUnavailableError, match="has no address"):
        await fetch(HttpClient(CLOSED), "http://nowhere.invalid/")
    with pytest.raises(SystemUnavailableError, match="has no address"):
        await fetch(HttpClient(CLOSED, resolver([])), "http://nowhere.example.com/")


async def test_the_next_address_is_tried_where_the_first_does_not_answer():
    async with peer(lambda _: reply("second")) as shop:
        guard = Guard.of([], ["127.0.0.0/8"], private=False)
        client = HttpClient(guard, resolver(["127.0.0.9", "127.0.0.1"]))
        assert (await fetch(client, f"http://two.example.com:{shop.port}/")).body == b'"second"'


@pytest.mark.parametrize(
    "headers",
    [{"host": "a"}, {"Transfer-Encoding": "chunked"}, {"a b": "c"}, {"a": "b\r\nc: d"}, {"": "x"}, {"ä": "x"}],
)
def test_headers_that_would_change_the_request_are_refused(headers):
    with pytest.raises(SystemRefusedError):
        check_headers(headers)


async def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    async with peer(lambda _: reply("direct")) as shop:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        guard = Guard.of(["localhost"], [], private=False)
        assert (await fetch(HttpClient(guard), shop.url)).body == b'"direct"'


async def test_a_name_server_that_does_not_answer_costs_no_more_than_the_request_may_take():
    async def silent(host, port):
        await asyncio.sleep(60)

    client = HttpClient(CLOSED, silent)
    with pytest.raises(CallTimeoutError) as caught:
        await client.send(HttpRequest("GET", "https://slow.example.com/", {}, timeout_s=0.2))
    assert caught.value.outcome_known
