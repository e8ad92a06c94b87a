"""What the Open Inference Protocol's parameters say of a request: on what terms it is computed.

How they travel, as messages or as JSON, is the servicers'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from engine.errors import ParameterError
from engine.scheduler.terms import SequenceTerms, Terms

__all__ = ["Parameter", "key_of", "terms_of", "wants_timing"]

Parameter: TypeAlias = bool | int | float | str
"""A parameter's value."""

_MAX_ID = 128
"""Bytes of a sequence's id, as in Triton."""
_MAX_PRIORITY = 2**32
_MAX_TIMEOUT_US = 10**12


def terms_of(owner: str, parameters: Mapping[str, Parameter]) -> Terms:
    """The terms of a request; parameters that say nothing of them are left to others.

    Args:
        owner: the caller's tenant.
        parameters: `sequence_id`, a number or a text, with `sequence_start` and `sequence_end`; `priority`; `timeout`
            in microseconds; `cache`, false for an answer that is computed anew.

    Raises:
        ParameterError: naming the one that cannot be.
    """
    if not parameters:
        return Terms(owner)
    return Terms(
        owner,
        _whole(parameters, "priority", _MAX_PRIORITY),
        _whole(parameters, "timeout", _MAX_TIMEOUT_US) / 1e6,
        _sequence(parameters),
        fresh=not _truth(parameters, "cache", otherwise=True),
    )


def key_of(parameters: Mapping[str, Parameter]) -> str:
    """What keeps requests on one version of an alias: their sequence, or else `sticky_key`; empty where neither is."""
    return str(parameters.get("sequence_id") or parameters.get("sticky_key") or "")


def wants_timing(parameters: Mapping[str, Parameter]) -> bool:
    """Whether the answer shall say where its time went.

    Raises:
        ParameterError: `timing` is neither true nor false.
    """
    return _truth(parameters, "timing", otherwise=False)


def _sequence(parameters: Mapping[str, Parameter]) -> SequenceTerms | None:
    """Of which sequence the request is a part; 0 and an empty text are none."""
    value = parameters.get("sequence_id", 0)
    starts, ends = (_truth(parameters, name, otherwise=False) for name in ("sequence_start", "sequence_end"))
    if isinstance(value, bool | float):
        raise ParameterError("sequence_id", "must be a whole number or a text")
    if not value:
        if starts or ends:
            raise ParameterError("sequence_id", "is missing, or 0, and the request begins or ends a sequence")
        return None
    text = value if isinstance(value, str) else str(value % 2**64)  # some clients have only signed numbers
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_ID:
        raise ParameterError("sequence_id", f"has more than {_MAX_ID} bytes")
    return SequenceTerms(text, starts, ends)


def _truth(parameters: Mapping[str, Parameter], name: str, *, otherwise: bool) -> bool:
    value = parameters.get(name, otherwise)
    if not isinstance(value, bool):
        raise ParameterError(name, "must be true or false")
    return value


def _whole(parameters: Mapping[str, Parameter], name: str, most: int) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ParameterError(name, f"must be a whole number from 0 to {most}")
    return value
