"""What a platform's processes import: nothing that they do not need, as each starts with all that it imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mesh.config import SERVICES

HEAVY = {
    "alembic", "datasketches", "duckdb", "httpx", "numpy", "onnxruntime", "opentelemetry", "PIL", "psycopg", "pyarrow",
    "pyrage", "rich", "sklearn", "sqlalchemy", "tokenizers",
}  # fmt: skip
NEEDED = {
    "security": {"sqlalchemy"},
    "engine": {"sqlalchemy", "numpy", "onnxruntime", "tokenizers"},
    "orchestrator": {"sqlalchemy"},
    "integration": {"sqlalchemy", "httpx"},
    "analytics": {"sqlalchemy", "numpy", "datasketches"},
}


def imported(*modules: str) -> set[str]:
    """The heavy packages that a fresh process has after it has imported modules as `serve` and `up` do."""
    code = f"""
import json, sys
from cli.lean import draw_nothing
draw_nothing()
import {", ".join(modules)}
print(json.dumps(sorted({{name.partition(".")[0] for name, module in sys.modules.items() if module}})))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout)) & HEAVY


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_no_large_library_but_those_that_it_works_with(service: str):
    assert imported("mesh.host", f"{service}.app") == NEEDED[service]


def test_the_supervisor_imports_none_at_all():
    assert imported("cli.supervisor.supervisor", "cli.supervisor.start") == set()


def test_a_command_that_starts_the_platform_in_the_background_does_not_load_the_supervisor():
    code = "import sys; import cli.supervisor.start; print('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
