"""Files of ours that are no Python: beside the packages in a clone, within this one where pip installed it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CLONE", "asset", "is_clone"]

CLONE = Path(__file__).parents[1]
"""The clone, or the folder into which pip installed the packages."""
_CARRIED = Path(__file__).with_name("carried")
"""Where pyproject.toml has the wheel carry them."""


def is_clone() -> bool:
    """Whether this runs from a clone, where `make` does what is left to do."""
    return (CLONE / "Makefile").is_file()


def asset(path: str) -> Path:
    """A file or folder, by its path in the clone."""
    return CLONE / path if is_clone() else _CARRIED / path
