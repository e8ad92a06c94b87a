"""Triton's own client, unchanged, against a platform: all of its protocol that is served, and what is refused."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from onnx import helper

from tests.fakes.installed import CLONE, Installed
from tests.unit.engine.graphs import doubling, folder, model
from tests.unit.engine.test_datatypes import KINDS, echo

SCRIPT = Path(__file__).with_name("triton_client.py")
CHECKS = [
    element.id
    for script in (SCRIPT, SCRIPT.with_name("triton_writing.py"))
    for node in ast.parse(script.read_text()).body
    if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CHECKS"
    for element in node.value.elts
    if isinstance(element, ast.Name)  # the other script's are starred
]


def texts() -> bytes:
    """A graph that gives texts back."""
    kind = (KINDS["BYTES"], ["n"])
    return model([helper.make_node("Identity", ["BYTES"], ["BYTES_back"])], {"BYTES": kind}, {"BYTES_back": kind})


@pytest.fixture(scope="module")
def found(home_of_all: Installed, tmp_path_factory) -> dict[str, str]:
    """What went wrong by check; empty where nothing did."""
    place = tmp_path_factory.mktemp("models")
    numbers = [name for name in KINDS if name != "BYTES"]
    models = {
        "oip-double": doubling(["n", 2]),
        "oip-spare": doubling(["n", 2]),
        "oip-numbers": echo(*numbers, shape=("n", 2)),
        "oip-texts": texts(),
    }
    for name, graph in models.items():
        folder(place / name, f"name: {name}\nkind: onnx\n", model=graph)
        home_of_all.command("models", "push", str(place / name))
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), home_of_all.address, str(home_of_all.home / "ca.pem"), home_of_all.token()],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    for name in models:
        home_of_all.command("models", "delete", name, check=False)
    return json.loads(finished.stdout)


@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient(found: dict[str, str], check: str):
    assert found[check] == ""


def test_every_check_was_made(found: dict[str, str]):
    assert list(found) == CHECKS
    assert len(CHECKS) >= 21


def test_what_was_asked_is_among_the_figures_under_tritons_names(found: dict[str, str], home_of_all: Installed):
    scraped = home_of_all.metrics("engine")
    label = '{model="tenants/default/models/oip-double",version="1"}'
    assert found
    for name in ("nv_inference_request_success", "nv_inference_count", "nv_inference_compute_infer_duration_us"):
        (line,) = [line for line in scraped.splitlines() if line.startswith(f"{name}{label} ")]
        assert float(line.rsplit(" ", 1)[1]) > 0


def test_the_lines_of_the_guide_run_as_they_are(home_of_all: Installed):
    guide = (CLONE / "docs" / "inference-protocol.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) == 4
    lines = "\n".join(blocks).replace(".tiation/", f"{home_of_all.home}/")
    lines = lines.replace("127.0.0.1:8443", home_of_all.address)
    ran = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, timeout=60, check=False, cwd=CLONE
    )
    assert ran.returncode == 0, ran.stderr
    first, versions, *text, last = ran.stdout.strip().split("\n")
    assert versions == "['1']"  # asked without headers: the plug-in brought the token
    assert (first, last.endswith("/default.images")) == ("(1, 384)", True)
    assert len("".join((*text, last))) > len("/default.images") + 20


def test_a_client_that_never_reads_its_stream_is_read_no_further_and_hurts_nobody(
    home_of_all: Installed, tmp_path: Path
):
    from inference import grpc_service_pb2 as pb
    from inference import grpc_service_pb2_grpc

    folder(tmp_path / "oip-unread", "name: oip-unread\nkind: onnx\n", model=doubling(["n", 2]))
    home_of_all.command("models", "push", str(tmp_path / "oip-unread"))
    taken, over = 0, threading.Event()

    def request(rows: int) -> pb.ModelInferRequest:
        made = pb.ModelInferRequest(model_name="oip-unread", raw_input_contents=[bytes(8 * rows)])
        made.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
        return made

    def without_end():
        nonlocal taken
        while not over.is_set():
            yield request(1 << 17)
            taken += 1

    engine = psutil.Process(home_of_all.pid("engine"))
    before = engine.memory_info().rss
    with home_of_all.channel() as channel, home_of_all.channel() as other:
        unread = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(without_end())
        last = -1
        while taken != last:  # until nothing more is taken from it
            last = taken
            time.sleep(1.0)
            assert taken < 500
        assert taken >= 8
        assert engine.memory_info().rss - before < 400 << 20
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(other)
        began = time.monotonic()
        assert stub.ModelInfer(request(1), timeout=5).raw_output_contents[0] == bytes(8)
        assert time.monotonic() - began < 2
        over.set()
        unread.cancel()
    home_of_all.command("models", "delete", "oip-unread", check=False)
