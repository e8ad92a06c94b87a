"""Durations as the DSL writes them: ISO 8601, or an object of days, hours, minutes, seconds and milliseconds."""

from __future__ import annotations

import math
import re

__all__ = ["MAX_DURATION_S", "seconds_of"]

MAX_DURATION_S = 3650 * 86_400.0
"""Ten years: what waits longer is a mistake."""
_UNITS = {"days": 86_400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0, "milliseconds": 0.001}
_ISO = re.compile(
    r"P(?=.)(?:(?P<weeks>\d+)W|(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?)"
)


def seconds_of(value: object) -> float:
    """How long that is, in seconds.

    Raises:
        ValueError: it is no duration; the message says what to write.
    """
    if isinstance(value, str):
        seconds = _iso(value)
    elif isinstance(value, dict) and value:
        seconds = sum(_part(str(unit), amount) for unit, amount in value.items())
    else:
        raise ValueError(_expected("that"))
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ValueError(f"a duration may be 0 to {MAX_DURATION_S / 86_400:.0f} days")
    return seconds


def _iso(text: str) -> float:
    match = _ISO.fullmatch(text) if text.isascii() and len(text) <= 64 else None
    if match is None:
        raise ValueError(_expected(f"`{text[:40]}`"))
    parts = {unit: float(amount) for unit, amount in match.groupdict().items() if amount is not None}
    return parts.pop("weeks", 0.0) * 7 * 86_400 + sum(_UNITS[unit] * amount for unit, amount in parts.items())


def _part(unit: str, amount: object) -> float:
    if unit not in _UNITS:
        raise ValueError(f"unknown key `{unit}`; a duration has {', '.join(_UNITS)}")
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not math.isfinite(amount) or amount < 0:
        raise ValueError(f"`{unit}` must be a number that is not negative")
    return _UNITS[unit] * amount


def _expected(what: str) -> str:
    return f"{what} is no duration; write `PT1H30M`, `P2D`, or an object such as `{{minutes: 5}}`"
