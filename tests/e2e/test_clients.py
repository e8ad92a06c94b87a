"""Clients that nobody here wrote: grpcurl, tritonclient, curl, and a stub in any language's manner."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.fakes.installed import CLONE, Installed

GRPCURL = shutil.which("grpcurl", path=f"{CLONE / '.cache' / 'bin'}:/usr/local/bin:/usr/bin")
GOLDEN = json.loads((CLONE / "tests" / "data" / "minilm_golden.json").read_text())


def grpcurl(here: Installed, *arguments: str, data: str = "") -> str:
    """What grpcurl prints."""
    assert GRPCURL, "grpcurl is missing; run `make setup-test`, which needs Go"
    command = [GRPCURL, "-cacert", str(here.home / "ca.pem"), "-H", f"authorization: Bearer {here.token()}"]
    finished = subprocess.run(
        [*command, *(["-d", data] if data else []), here.address, *arguments],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_grpcurl_lists_and_describes_every_public_service(home_of_all: Installed):
    listed = grpcurl(home_of_all, "list").split()
    for service in (
        "tiation.engine.v1.ModelService", "tiation.engine.v1.DecisionService", "tiation.orchestrator.v1.RunService",
        "tiation.integration.v1.ConnectionService", "tiation.security.v1.TokenService",
        "inference.GRPCInferenceService", "grpc.health.v1.Health",
    ):  # fmt: skip
        assert service in listed
        assert service.rsplit(".", 1)[1] in grpcurl(home_of_all, "describe", service)


def test_grpcurl_calls_with_reflection(home_of_all: Installed):
    answer = grpcurl(
        home_of_all,
        "tiation.engine.v1.ModelService/GetModel",
        data='{"name": "tenants/system/models/all-minilm-l6-v2"}',
    )
    assert json.loads(answer)["name"] == "tenants/system/models/all-minilm-l6-v2"


TRITON = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

address, ca, token, golden = sys.argv[1:]
texts = json.load(open(golden))
client = triton.InferenceServerClient(address, ssl=True, root_certificates=ca)
headers = {"authorization": "Bearer " + token}
assert client.is_server_live(headers=headers)
assert client.is_server_ready(headers=headers)
assert client.is_model_ready("all-minilm-l6-v2", headers=headers)
metadata = client.get_model_metadata("all-minilm-l6-v2", headers=headers, as_json=True)
assert {i["name"]: i["datatype"] for i in metadata["inputs"]}["text"] == "BYTES", metadata
data = np.array([t.encode() for t in texts], dtype=np.object_)
text = triton.InferInput("text", [len(texts)], "BYTES")
text.set_data_from_numpy(data)
answer = client.infer("all-minilm-l6-v2", [text], headers=headers, request_id="r7")
embedding = answer.as_numpy("embedding")
assert embedding.dtype == np.float32 and embedding.shape == (len(texts), 384), embedding.shape
assert answer.get_response().id == "r7"

streamed, failed = [], []
client.start_stream(lambda result, error: (failed if error else streamed).append(error or result), headers=headers)
for number in range(4):
    client.async_stream_infer("all-minilm-l6-v2", [text], request_id=str(number))
client.async_stream_infer("never-was", [text])
client.stop_stream()
assert [r.get_response().id for r in streamed] == ["0", "1", "2", "3"], streamed
assert len(failed) == 1, failed
assert all(np.allclose(r.as_numpy("embedding"), embedding, atol=1e-5) for r in streamed)

wrong = []
for name, shape, dtype, values in (
    ("text", [1], "FP32", np.zeros(1, np.float32)),
    ("no-such-input", [1], "BYTES", np.array([b"x"], np.object_)),
    ("text", [1, 1], "BYTES", np.array([[b"x"]], np.object_)),
):
    bad = triton.InferInput(name, shape, dtype)
    bad.set_data_from_numpy(values)
    try:
        client.infer("all-minilm-l6-v2", [bad], headers=headers)
    except triton.InferenceServerException as error:
        wrong.append(error.status())
assert wrong == ["StatusCode.INVALID_ARGUMENT"] * 3, wrong
try:
    client.infer("never-was", [text], headers=headers)
except triton.InferenceServerException as error:
    assert error.status() == "StatusCode.NOT_FOUND", error.status()
else:
    raise SystemExit("an unknown model answered")
np.save(sys.stdout.buffer, embedding)
"""


def test_tritonclient_gets_the_golden_embeddings_and_clear_errors(home_of_all: Installed, tmp_path: Path):
    texts, expected = golden()
    (tmp_path / "texts.json").write_text(json.dumps(texts))
    script = tmp_path / "client.py"
    script.write_text(TRITON)
    finished = subprocess.run(
        [sys.executable, str(script), home_of_all.address, str(home_of_all.home / "ca.pem"), home_of_all.token(),
         str(tmp_path / "texts.json")],
        capture_output=True, timeout=90, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr.decode()
    from io import BytesIO

    embedding = np.load(BytesIO(finished.stdout))
    cosines = (embedding * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.9999


def golden() -> tuple[list[str], np.ndarray]:
    """The texts and the embeddings that they must have."""
    return GOLDEN["texts"], np.array(GOLDEN["embeddings"], np.float32)


def test_the_description_of_the_api_and_the_health_need_no_token(home_of_all: Installed):
    for path, token in (("/openapi.json", ""), ("/healthz", "")):
        with home_of_all.rest(token) as client:
            assert client.get(path).status_code == 200
    with home_of_all.rest("") as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert "/v1/tenants/{tenant}/agents" in document["paths"]


def test_the_three_ways_in_that_up_prints_work_as_they_are(home_of_all: Installed):
    said = home_of_all.said
    parts = [said.index(mark) for mark in ("# Python", "# REST", "# gRPC", "Stop with")]
    path = f"{CLONE / '.cache' / 'bin'}:{os.environ['PATH']}"
    for begin, end in itertools.pairwise(parts):
        way = said[begin:end]
        ran = subprocess.run(
            ["bash", "-c", way],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PATH": path},
        )
        assert ran.returncode == 0, way + ran.stdout + ran.stderr
        assert "code" not in ran.stdout, ran.stdout


def test_the_three_ways_in_that_the_readme_shows_work(home_of_all: Installed):
    readme = (CLONE / "README.md").read_text()
    blocks = re.findall(r"```(python|sh)\n(.*?)```", readme, re.DOTALL)
    ways = [(language, block) for language, block in blocks if "8443" in block]
    assert [language for language, _ in ways] == ["python", "sh", "sh"]
    path = f"{CLONE / '.cache' / 'bin'}:{os.environ['PATH']}"
    for language, block in ways:
        way = block.replace(".tiation/", f"{home_of_all.home}/").replace("127.0.0.1:8443", home_of_all.address)
        way = way.replace("tiation token", f"tiation token --home {home_of_all.home}")
        command = [str(CLONE / ".venv/bin/python"), "-c", way] if language == "python" else ["bash", "-c", way]
        environment = {**os.environ, "PATH": path}
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=CLONE, env=environment
        )
        assert ran.returncode == 0, way + ran.stdout + ran.stderr
        assert "code" not in ran.stdout, ran.stdout


def test_a_tensor_of_the_wrong_length_is_one_clear_error(home_of_all: Installed):
    from inference import grpc_service_pb2, grpc_service_pb2_grpc

    with home_of_all.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for raw, word in ((b"\x09\0\0\0abc", "past the end"), (b"\x01\0\0\0abc", "left over"), (b"", "at least")):
            request = grpc_service_pb2.ModelInferRequest(model_name="all-minilm-l6-v2")
            request.inputs.add(name="text", datatype="BYTES", shape=[1])
            request.raw_input_contents.append(raw)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert word in caught.value.details()


@pytest.mark.parametrize("workers", [8])
def test_concurrent_inference_agrees_with_the_golden_answers(home_of_all: Installed, workers: int):
    from concurrent.futures import ThreadPoolExecutor

    from inference import grpc_service_pb2, grpc_service_pb2_grpc

    texts, expected = golden()
    with home_of_all.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)

        def ask(number: int) -> float:
            text = texts[number % len(texts)].encode()
            request = grpc_service_pb2.ModelInferRequest(model_name="all-minilm-l6-v2")
            request.inputs.add(name="text", datatype="BYTES", shape=[1])
            request.raw_input_contents.append(len(text).to_bytes(4, "little") + text)
            answer = stub.ModelInfer(request, timeout=30)
            found = np.frombuffer(answer.raw_output_contents[0], np.float32)
            wanted = expected[number % len(texts)]
            return float(found @ wanted / np.linalg.norm(wanted))

        with ThreadPoolExecutor(workers) as pool:
            assert min(pool.map(ask, range(64))) >= 0.9999
