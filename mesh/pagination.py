"""Pages of a list: how large one is, and opaque signed tokens for where the next one starts (AIP-158).

The order of a list and its statement live in each service's store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from mesh.errors import InvalidError

__all__ = ["DEFAULT_PAGE_SIZE", "MAX_PAGE_SIZE", "Page", "Pages"]

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
_MAC_BYTES = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """What to read: at most `limit` rows after `cursor`; a cursor of None means from the start."""

    limit: int
    cursor: str | None


class Pages:
    """Makes and checks page tokens.

    Args:
        secret: signs the tokens; the same in every replica of a service.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def start(self, bound_to: Sequence[str], page_size: int, page_token: str) -> Page:
        """The page that a request asks for.

        Args:
            bound_to: what the token belongs to: method, parent, filters. Another list refuses it.
            page_size: 0 means 50; more than 1000 means 1000.
            page_token: as `token` returned it; empty means the first page.

        Raises:
            InvalidError: a negative size, or a token that was not given for this list.
        """
        if page_size < 0:
            raise InvalidError("page_size", "must not be negative")
        limit = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        if not page_token:
            return Page(limit, None)
        try:
            raw = base64.urlsafe_b64decode(page_token + "=" * (-len(page_token) % 4))
        except (binascii.Error, ValueError):
            raw = b""
        mac, cursor = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not cursor or not hmac.compare_digest(mac, self._mac(bound_to, cursor)):
            raise InvalidError("page_token", "is not one that this list returned; leave it empty to start again")
        return Page(limit, cursor.decode())

    def token(self, bound_to: Sequence[str], cursor: str) -> str:
        """The token of the page that starts after `cursor`."""
        raw = cursor.encode()
        return base64.urlsafe_b64encode(self._mac(bound_to, raw) + raw).decode().rstrip("=")

    def cut(
        self, bound_to: Sequence[str], page: Page, rows: Sequence[T], cursors: Sequence[str]
    ) -> tuple[list[T], str]:
        """Cut `limit + 1` rows down to a page and the next page's token, empty on the last page.

        Args:
            bound_to: as in `start`.
            page: what was asked for.
            rows: up to `limit + 1` rows.
            cursors: the cursor of each row.
        """
        kept = list(rows[: page.limit])
        more = len(rows) > page.limit
        return kept, self.token(bound_to, cursors[page.limit - 1]) if more else ""

    def _mac(self, bound_to: Sequence[str], cursor: bytes) -> bytes:
        digest = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in bound_to:
            digest.update(len(part).to_bytes(4, "big") + part.encode())
        digest.update(cursor)
        return digest.digest()[:_MAC_BYTES]
