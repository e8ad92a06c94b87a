"""Reading an HTTP answer: its body as a value, what its status means, how long the system wants to be left alone."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from integration.adapters.http_client import HttpAnswer
from integration.errors import AnswerInvalidError
from integration.pacing import heeded_s
from integration.strict import exact_numbers

__all__ = ["body_of", "charset_of", "meaning_of", "retry_after", "summary"]

_EPOCH = 1_000_000_000
_RESETS = ("ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset")
_PASSING = frozenset({408, 425})
_FINAL = frozenset({501, 505})
_MAX_DEPTH = 100


def body_of(answer: HttpAnswer) -> Any:  # noqa: ANN401 -- any JSON
    """The body as a value: JSON where it says so, else text, or base64 where it is no text; None where it is empty.

    Whole numbers that a double cannot hold come as text, so that they arrive as they are.

    Raises:
        AnswerInvalidError: it says JSON and is none.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not answer.body:
        return None
    if kind.endswith(("/json", "+json")) or not kind:
        try:
            too_deep = AnswerInvalidError(f"the answer is nested deeper than {_MAX_DEPTH} levels")
            return exact_numbers(msgspec.json.decode(answer.body), _MAX_DEPTH, too_deep)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if kind:
                raise AnswerInvalidError(f"the answer says {kind} and is none: {error}") from None
    try:
        return answer.body.decode(charset_of(answer.headers))
    except (UnicodeDecodeError, LookupError):
        return base64.b64encode(answer.body).decode()


def charset_of(headers: Mapping[str, str]) -> str:
    """The character set that the answer names, or UTF-8."""
    for part in headers.get("content-type", "").split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or "utf-8"
    return "utf-8"


def meaning_of(answer: HttpAnswer) -> str:
    """What a status means where no rule says otherwise: `refused`, `retryable` or `rate_limited`."""
    status = answer.status
    if status == 429 or (status == 503 and "retry-after" in answer.headers):
        return "rate_limited"
    return "retryable" if status in _PASSING or (status >= 500 and status not in _FINAL) else "refused"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds for which the system wants to be left alone, a day at most; None where it does not say.

    `Retry-After` (RFC 9110, 10.2.3) is seconds or a date; the `RateLimit-Reset` headers are seconds, or, as some write
    them, a point in time.
    """
    clock = now or datetime.now(UTC)
    for name in ("retry-after", *_RESETS):
        value = headers.get(name, "").split(",")[0].strip() if name != "retry-after" else headers.get(name, "").strip()
        if not value:
            continue
        seconds = _number(value)
        if seconds is not None:
            return heeded_s(seconds - clock.timestamp() if seconds > _EPOCH and name != "retry-after" else seconds)
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            continue
        return heeded_s(((date if date.tzinfo else date.replace(tzinfo=UTC)) - clock).total_seconds())
    return None


def summary(answer: HttpAnswer) -> str:
    """A few words of an answer that nobody expected, on one line."""
    text = answer.body[:400].decode(errors="replace")
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())[:200]
    return f": {line}" if line else ""


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
