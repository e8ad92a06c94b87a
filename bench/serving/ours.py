"""The platform's engine as a server to be measured: through its front door, and as services of the mesh reach it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.serving.load import Target
from bench.serving.workloads import write_tiny
from mesh.config import Settings
from security.app import issue_svid
from tests.fakes.installed import installed

__all__ = ["platform"]


@contextmanager
def platform(**variables: str) -> Iterator[dict[str, Target]]:
    """Start a platform with the tiny model beside its own; the ways to its engine by the names of their rows.

    Args:
        variables: of its environment.
    """
    with tempfile.TemporaryDirectory() as scratch, installed(Path(scratch) / "home", **variables) as here:
        tiny = Path(scratch) / "tiny-mlp"
        write_tiny(tiny)
        here.command("models", "push", str(tiny))
        svid = issue_svid(here.home, Settings(), "gateway")
        for name in ("trust_bundle", "private_key", "certificate_chain"):
            path = Path(scratch) / name
            path.touch(mode=0o600)
            path.write_text(svid[name])
        token = ("-header", f"authorization=Bearer {here.token()}")
        mutual = ("-ca", f"{scratch}/trust_bundle", "-cert", f"{scratch}/certificate_chain")
        mutual += ("-key", f"{scratch}/private_key", "-name", "engine.tiation.local")
        front = ("-ca", str(here.home / "ca.pem"), "-name", "localhost")
        yield {
            "tiation, mesh": Target(here.gateway["services"]["engine"]["address"], flags=(*mutual, *token)),
            "tiation, gateway": Target(here.address, flags=(*front, *token)),
        }
