"""How large a value may be that a run keeps: the journal holds every one of them, and every message must carry it."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["MAX_DEPTH", "MAX_EVALUATED_BYTES", "MAX_VALUE_BYTES", "MESSAGE_GROWTH", "fault_of"]

MAX_VALUE_BYTES = 256 * 1024
MAX_EVALUATED_BYTES = 4 * 1024 * 1024
"""What the sandbox takes; a step may make a smaller value of one that is larger than what is kept."""
MESSAGE_GROWTH = 8
"""No JSON grows so much when it becomes a message; the worst is a list of digits, `1,` of which takes 11 bytes."""
MAX_DEPTH = 30
"""protobuf reads 100 levels of messages, and a level of JSON takes three of them."""


def fault_of(value: Any) -> str:  # noqa: ANN401 -- any JSON
    """What keeps a value from being journalled, as `is …`; empty where nothing does."""
    if _deeper(value, MAX_DEPTH):
        return f"is nested deeper than {MAX_DEPTH} levels"
    size = len(msgspec.json.encode(value))
    return f"is {size} bytes; at most {MAX_VALUE_BYTES} are kept" if size > MAX_VALUE_BYTES else ""


def _deeper(value: Any, levels: int) -> bool:  # noqa: ANN401 -- any JSON
    if not isinstance(value, (dict, list)):
        return False
    if levels == 0:
        return True
    below = value.values() if isinstance(value, dict) else value
    return any(isinstance(each, (dict, list)) and _deeper(each, levels - 1) for each in below)
