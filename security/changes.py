"""What a revision of the policy changed: an entry of the directory, by kind and name, or a key that was taken back."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["REVOCATION", "Change"]

REVOCATION = "Revocation"
"""The kind of a change whose name is the uid of an API key that was taken back, or is good again."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        kind: the entry's kind, `Binding`, or `REVOCATION`.
        name: the entry's name, or the key's uid.
    """

    kind: str
    name: str
