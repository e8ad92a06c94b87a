"""What a process that stays can do without: large libraries that others import and that it never uses."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

__all__ = ["draw_nothing"]


def draw_nothing() -> None:
    """Keep `rich` out of a process that stays and has no terminal.

    structlog and httpx would import it, for tracebacks and a command line that we do not use: in each of a platform's
    processes a tenth of the time that it takes to start, and five megabytes for as long as it lives. To the import
    system None means that there is no such module.
    """
    sys.modules.setdefault("rich", cast("ModuleType", None))
