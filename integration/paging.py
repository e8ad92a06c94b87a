"""Going through the pages of an answer: where the next one is, and when it is enough.

How a page is fetched and read is the connector's. Nothing is ever cut off without a word: a limit that is reached is
an error.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from integration.errors import AnswerInvalidError, AnswerTooLargeError
from integration.manifest import MAX_BYTES, CursorPaging, LinkPaging, OffsetPaging, PagePaging, Paging

__all__ = ["Page", "Place", "first_place", "links", "page_parameters", "programs_for", "turned"]

_LINK = re.compile(r'\s*<([^>]*)>((?:\s*;\s*[a-zA-Z*-]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s";,]+))*)\s*(?:,|$)')
_PARAMETER = re.compile(r';\s*([a-zA-Z*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]+))')


@dataclass(frozen=True, slots=True)
class Place:
    """How far one has come.

    Attributes:
        cursor: of the page that is next.
        items: everything so far.
        pages: how many pages that was.
        size: how many bytes.
        seen: digests of the cursors so far.
        last: digest of the page before.
    """

    cursor: Any = None
    items: tuple[Any, ...] = ()
    pages: int = 0
    size: int = 0
    seen: frozenset[str] = frozenset()
    last: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its items, the cursor that it names, whether it says that there is more, its `next` link."""

    items: Any
    next: Any = None
    more: Any = None
    link: str = ""


def first_place(paging: Paging, cursor: Any) -> Place:  # noqa: ANN401 -- any JSON
    """Where to begin: at what the caller names, else at the first page.

    Raises:
        AnswerInvalidError: what the caller names is no cursor.
    """
    if cursor in (None, ""):
        start = {PagePaging: getattr(paging, "start", 1), OffsetPaging: 0}.get(type(paging))
        return Place(start)
    if isinstance(paging, (PagePaging, OffsetPaging)):
        text = str(cursor)
        if isinstance(cursor, bool) or not text.isascii() or not text.isdecimal() or len(text) > 18:
            raise AnswerInvalidError("the cursor is none of this operation's; leave it out to begin at the start")
        return Place(int(text))
    if not isinstance(cursor, (str, int)) or isinstance(cursor, bool):
        raise AnswerInvalidError("the cursor is none of this operation's; leave it out to begin at the start")
    return Place(cursor)


def page_parameters(paging: Paging, place: Place) -> dict[str, Any]:
    """The query parameters that ask for a page."""
    match paging:
        case PagePaging() | OffsetPaging():
            size = {} if paging.size is None else {paging.size_parameter: paging.size}
            return {paging.parameter: place.cursor} | size
        case CursorPaging() if place.cursor is not None:
            return {paging.parameter: place.cursor}
        case _:
            return {}


def programs_for(paging: Paging) -> dict[str, Any]:
    """What is to be read from a page, as expressions by the name of what they give."""
    match paging:
        case CursorPaging():
            return {"items": paging.items, "next": paging.next}
        case PagePaging() | OffsetPaging() if paging.more:
            return {"items": paging.items, "more": paging.more}
        case _:
            return {"items": paging.items}


def turned(paging: Paging, place: Place, page: Page) -> Place:
    """The place after a page; its cursor is None where that was the last one.

    Raises:
        AnswerInvalidError: the page holds no list, or the pages go round in a circle.
        AnswerTooLargeError: there is more than the operation may return.
    """
    if not isinstance(page.items, list):
        raise AnswerInvalidError("`paging.items` gives no list; let it point at the items of a page")
    encoded = msgspec.json.encode(page.items)
    digest = hashlib.sha256(encoded).hexdigest()
    if page.items and digest == place.last:
        raise AnswerInvalidError(
            "the system answers the same page twice; does it know the parameters that `paging` names?"
        )
    after = replace(
        place,
        items=place.items + tuple(page.items),
        pages=place.pages + 1,
        size=place.size + len(encoded),
        last=digest,
        cursor=_following(paging, place, page),
    )
    if len(after.items) > paging.max_items or after.size > MAX_BYTES:
        raise AnswerTooLargeError(
            f"there are more than {paging.max_items} items or {MAX_BYTES} bytes; ask for less, or page by page "
            "(`paging.returns: page`)"
        )
    if after.cursor is None or paging.returns == "page":
        return after
    if after.pages >= paging.max_pages:
        raise AnswerTooLargeError(
            f"there are more than {paging.max_pages} pages; raise `paging.max_pages`, or ask page by page "
            "(`paging.returns: page`)"
        )
    mark = hashlib.sha256(msgspec.json.encode(after.cursor)).hexdigest()
    if mark in place.seen or after.cursor == place.cursor:
        raise AnswerInvalidError("the system names a cursor that it has named before; its pages have no end")
    return replace(after, seen=place.seen | {mark})


def _following(paging: Paging, place: Place, page: Page) -> Any:  # noqa: ANN401 -- any JSON
    """The cursor of the next page; None where there is none."""
    match paging:
        case CursorPaging():
            if page.next is None or page.next is False or page.next == "":
                return None
            if not isinstance(page.next, (str, int)) or isinstance(page.next, bool):
                raise AnswerInvalidError("`paging.next` gives neither a text nor a whole number")
            return page.next
        case LinkPaging():
            return page.link or None
        case PagePaging() | OffsetPaging():
            ended = page.more is False or (paging.more and not page.more)
            short = paging.size is not None and len(page.items) < paging.size and not paging.more
            if ended or short or not page.items:
                return None
            return place.cursor + (1 if isinstance(paging, PagePaging) else len(page.items))


def links(header: str) -> Mapping[str, str]:
    """The targets of a `Link` header by their relation, the first of each (RFC 8288, section 3)."""
    found: dict[str, str] = {}
    at = 0
    while at < len(header):
        match = _LINK.match(header, at)
        if match is None or match.end() == at:
            break
        for name, quoted, plain in _PARAMETER.findall(match.group(2)):
            if name.lower() == "rel":
                for relation in (quoted or plain).lower().split():
                    found.setdefault(relation, match.group(1))
                break
        at = match.end()
    return found
