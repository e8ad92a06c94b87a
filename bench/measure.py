"""What every benchmark shares: quantiles, the machine, and where results go. No measuring of its own."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["quantile", "write_results"]

RESULTS = Path(__file__).parent / "results"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def write_results(name: str, rows: list[dict[str, object]], ratios: dict[str, float]) -> Path:
    """Write rows and ratios with the machine and the command; print them as a table."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "rows": rows,
        "ratios": ratios,
        "machine": {
            "cpu": next(
                (
                    line.split(":")[1].strip()
                    for line in Path("/proc/cpuinfo").read_text().splitlines()
                    if line.startswith("model name")
                ),
                platform.machine(),
            ),
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
        },
        "command": f"python {_program()} {' '.join(sys.argv[1:])}".strip(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
    headings = list(dict.fromkeys(key for row in rows for key in row))
    print("  ".join(f"{heading:>18}" for heading in headings))
    for row in rows:
        print("  ".join(f"{_shown(row.get(heading, '')):>18}" for heading in headings))
    for what, ratio in ratios.items():
        print(f"{what}: {ratio:.3f}")
    return path


def _program() -> str:
    """What was run, as it is run from the clone."""
    path = Path(sys.argv[0])
    return f"-m bench.{path.parent.name}" if path.name == "__main__.py" else f"{path.parent.name}/{path.name}"


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
