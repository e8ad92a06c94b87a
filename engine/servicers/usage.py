"""What a prediction used up, noted on the call's record."""

from __future__ import annotations

from mesh.call import note_usage

__all__ = ["note_predicted"]


def note_predicted(rows: int, tokens: int, written: int = 0) -> None:
    """Note how many rows were computed, and how many tokens were read and written for them."""
    note_usage("rows", rows)
    if tokens:
        note_usage("tokens_in", tokens)
    if written:
        note_usage("tokens_out", written)
