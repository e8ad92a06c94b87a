"""The `tiation` command, the supervisor that runs a platform on one machine, and the front proxy's configuration."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import cast

__all__ = ["FAILURE", "draw_nothing"]

FAILURE = "tiation: "
"""What every error line of the command begins with."""


def draw_nothing() -> None:
    """Keep `rich` out of a process that stays and has no terminal.

    structlog and httpx would import it, for tracebacks and a command line that we do not use: in each of a platform's
    processes a tenth of the time that it takes to start, and five megabytes for as long as it lives. To the import
    system None means that there is no such module.
    """
    sys.modules.setdefault("rich", cast("ModuleType", None))
