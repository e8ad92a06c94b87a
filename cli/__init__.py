"""The `tiation` command, the supervisor that runs a platform on one machine, and the front proxy's configuration."""

from __future__ import annotations

__all__ = ["FAILURE"]

FAILURE = "tiation: "
"""What every error line of the command begins with."""
