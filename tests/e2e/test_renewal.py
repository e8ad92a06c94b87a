"""Certificates that live for seconds: every one of them ends several times, and no call notices."""

from __future__ import annotations

import time

from mesh.config import SERVICES
from tests.fakes.installed import Installed, installed

TTL_S = 12
FLOW = """
document: {dsl: 1.0.0, namespace: tests, name: steady, version: 1.0.0}
do:
  - think:
      call: infer
      with: {model: all-minilm-l6-v2, inputs: {text: [hello]}}
      output: {as: '${ {dimensions: (.embedding[0] | length)} }'}
"""


def test_every_call_succeeds_while_every_certificate_is_replaced(tmp_path):
    with installed(tmp_path / "home", TIATION_SECURITY__SVID_TTL_S=str(TTL_S)) as here:
        flow = tmp_path / "steady.yaml"
        flow.write_text(FLOW)
        here.command("agents", "apply", str(flow))
        first = certificates(here)
        pids = {name: service["pid"] for name, service in here.gateway["services"].items()}
        end = time.monotonic() + 2.5 * TTL_S
        runs = 0
        while time.monotonic() < end:
            ended = here.json("run", "steady", "--input", "{}", "--follow")
            assert ended["output"] == {"dimensions": 384}
            runs += 1
            time.sleep(0.5)
        assert runs > 10
        assert not set(first) & set(certificates(here))
        assert {name: service["pid"] for name, service in here.gateway["services"].items()} == pids


def certificates(here: Installed) -> list[str]:
    """What every service and the front proxy show at the moment, as text."""
    files = [here.home / name / "svid.json" for name in SERVICES]
    files += [here.home / "gateway" / name for name in ("sds-svid.json", "sds-front.json")]
    return [file.read_text() for file in files]
