"""Asks a server over and over with the program in `bench/load`, the same for every server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.serving.workloads import Bodies

__all__ = ["Found", "Target", "ask", "built"]

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / ".cache" / "bin" / "bench-load"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server is and how it is spoken to.

    Attributes:
        address: `host:port` of a server of the inference protocol; empty where it takes JSON.
        urls: where JSON goes, by model.
        flags: of the program: certificates, headers.
    """

    address: str = ""
    urls: Mapping[str, str] | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a load: answers a second, and how long they took, milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float


def built() -> Path:
    """The program; built where it is not, or is older than its source."""
    source = ROOT / "bench" / "load"
    newest = max(path.stat().st_mtime for path in source.iterdir())
    if PROGRAM.exists() and PROGRAM.stat().st_mtime > newest:
        return PROGRAM
    if shutil.which("go") is None:
        sys.exit("Go is missing; the load is made by a small Go program (bench/load)")
    cache = ROOT / ".cache"
    folders = {"GOPATH": cache / "go", "GOMODCACHE": cache / "go" / "pkg" / "mod", "GOCACHE": cache / "go-build"}
    environment = {**os.environ, "GOFLAGS": "-modcacherw", **{name: str(path) for name, path in folders.items()}}
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["go", "build", "-o", str(PROGRAM), "."], cwd=source, env=environment, check=True)
    return PROGRAM


def ask(target: Target, model: str, bodies: Bodies, *, clients: int, seconds: float, expect: int) -> Found:
    """Load a server and see how it answers.

    Args:
        target: the server.
        model: which of its models, where that is said by a URL.
        bodies: what to ask in turn.
        clients: how many ask at once.
        seconds: how long it is measured, after a second to warm up: a model may get a second session once it is busy.
        expect: bytes that an answer has at least.

    Raises:
        RuntimeError: an answer was wrong, or none came.
    """
    where = ["-target", target.address] if target.address else ["-json", (target.urls or {})[model]]
    files: Sequence[Path] = bodies.protocol if target.address else bodies.json
    command = [str(built()), *where, *target.flags, "-clients", str(clients), "-expect", str(expect)]
    command += ["-time", f"{seconds}s", "-warm", "1s"]
    for file in files:
        command += ["-body", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 4 + 60, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    said = json.loads(done.stdout)
    if said["failed"] or not said["answered"]:
        raise RuntimeError(f"{said['failed']} of {said['failed'] + said['answered']} failed: {said.get('error')}")
    return Found(said["per_s"], said["p50_ms"], said["p99_ms"])
