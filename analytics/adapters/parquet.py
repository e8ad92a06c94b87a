"""Parquet, written by DuckDB in a process of its own: its memory goes with it, and nothing of it is loaded before."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from analytics.errors import ExportFailedError

__all__ = ["DuckdbParquet"]

_TIMEOUT_S = 110.0
_MEMORY = "256MB"


class DuckdbParquet:
    """Turns CSV files into Parquet files."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("analytics.parquet")

    async def write(self, source: Path, target: Path, columns: Mapping[str, str]) -> None:
        """Write a Parquet file from a CSV file.

        Raises:
            ExportFailedError: it could not be written in time, or at all.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", __name__, str(source), str(target), json.dumps(dict(columns)),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={},
        )  # fmt: skip
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, said = await process.communicate()
        except TimeoutError:
            raise ExportFailedError("the file was not written in time; export a shorter range") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            self._log.error("parquet not written", error=said.decode(errors="replace")[-2000:])
            raise ExportFailedError("the file could not be written; analytics' log says why")


def _convert(source: str, target: str, columns: str) -> None:
    """What the process does."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY, "threads": 1, "temp_directory": str(Path(target).parent),
        "autoinstall_known_extensions": False, "autoload_known_extensions": False,
    }  # fmt: skip
    with duckdb.connect(":memory:", config=settings) as connection:
        table = connection.read_csv(source, header=True, dtype=json.loads(columns), na_values="")
        table.write_parquet(target, compression="zstd")


if __name__ == "__main__":
    _convert(*sys.argv[1:4])
