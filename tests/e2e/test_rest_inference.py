"""The Open Inference Protocol over REST, through the front proxy: tritonclient, kserve, curl's kind of requests."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.e2e.test_clients import golden
from tests.fakes.installed import CLONE, Installed
from tests.unit.engine.graphs import folder
from tests.unit.engine.test_datatypes import KINDS, echo

MODEL = "/v2/models/all-minilm-l6-v2"
KSERVE = CLONE / ".cache" / "kserve" / "bin" / "python"
TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hello"]}

TRITON = """
import json, sys
import numpy as np
import tritonclient.http as triton

address, ca, token, golden = sys.argv[1:]
texts = json.load(open(golden))
client = triton.InferenceServerClient(address, ssl=True, ssl_options={"ca_certs": ca})
headers = {"authorization": "Bearer " + token}
assert client.is_server_live() and client.is_server_ready()
assert client.get_server_metadata()["name"] == "tiation"
assert client.is_model_ready("all-minilm-l6-v2", headers=headers)
assert not client.is_model_ready("never-was", headers=headers)
metadata = client.get_model_metadata("all-minilm-l6-v2", headers=headers)
assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}], metadata
data = np.array([t.encode() for t in texts], dtype=np.object_)
found = []
for as_bytes in (True, False):
    text = triton.InferInput("text", [len(texts)], "BYTES")
    text.set_data_from_numpy(data, binary_data=as_bytes)
    for outputs in (None, [triton.InferRequestedOutput("embedding", binary_data=as_bytes)]):
        for packed in (None, "gzip", "deflate"):
            answer = client.infer("all-minilm-l6-v2", [text], outputs=outputs, headers=dict(headers), request_id="r7",
                                  request_compression_algorithm=packed, response_compression_algorithm="gzip")
            assert answer.get_response()["id"] == "r7"
            found.append(answer.as_numpy("embedding"))
assert all(f.dtype == np.float32 and np.allclose(f, found[0], atol=1e-5) for f in found)
pending = [client.async_infer("all-minilm-l6-v2", [text], headers=dict(headers)) for _ in range(4)]
assert all(np.allclose(p.get_result().as_numpy("embedding"), found[0], atol=1e-5) for p in pending)

wrong = triton.InferInput("text", [1], "FP32")
wrong.set_data_from_numpy(np.zeros(1, np.float32))
for model, inputs, status, word in (
    ("all-minilm-l6-v2", [wrong], "400", "the model wants BYTES"), ("never-was", [text], "404", "never-was"),
):
    try:
        client.infer(model, inputs, headers=dict(headers))
    except triton.InferenceServerException as error:
        assert (error.status(), word in error.message()) == (status, True), error
    else:
        raise SystemExit("it answered")
np.save("found.npy", found[0])
"""

TRITON_EXTENSIONS = """
import secrets, sys
import ml_dtypes
import numpy as np
import tritonclient.http as triton
import tritonclient.utils.shared_memory as shm

address, ca, token, _ = sys.argv[1:]
client = triton.InferenceServerClient(address, ssl=True, ssl_options={"ca_certs": ca})
headers = {"authorization": "Bearer " + token}

kinds = {"BOOL": bool, "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1", "INT16": "i2",
         "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8", "BF16": ml_dtypes.bfloat16}
for rows in (2, 0):
    for json in (False, True):
        inputs, outputs, sent = [], [], {}
        for kind, dtype in kinds.items():
            sent[kind] = (np.arange(rows * 3).reshape(rows, 3) % 2).astype(dtype)
            as_bytes = not json or kind in ("FP16", "BF16")
            inputs.append(triton.InferInput(kind, [rows, 3], kind))
            inputs[-1].set_data_from_numpy(sent[kind], binary_data=as_bytes)
            outputs.append(triton.InferRequestedOutput(kind + "_back", binary_data=as_bytes))
        answer = client.infer("rest-echo", inputs, outputs=outputs, headers=dict(headers))
        for kind, array in sent.items():
            back = answer.as_numpy(kind + "_back")
            assert back.shape == array.shape and (back == array).all(), (kind, rows, json, back)

key = "/default.rest-" + secrets.token_hex(4)
region = shm.create_shared_memory_region("r", key, 64)
try:
    shm.set_shared_memory_region(region, [np.array([1, 2, 3], np.float32)])
    client.register_system_shared_memory("r", key, 64, headers=headers)
    (shown,) = client.get_system_shared_memory_status("r", headers=headers)
    assert (shown["name"], shown["byte_size"]) == ("r", 64), shown
    inputs = [each for each in inputs if each.name() != "FP32"]
    for each in inputs:
        each.set_shape([1, 3])
        each.set_data_from_numpy(np.zeros((1, 3), kinds[each.name()]))
    inputs.append(triton.InferInput("FP32", [1, 3], "FP32"))
    inputs[-1].set_shared_memory("r", 12)
    output = triton.InferRequestedOutput("FP32_back")
    output.set_shared_memory("r", 12, 32)
    answer = client.infer("rest-echo", inputs, outputs=[output], headers=dict(headers))
    assert answer.get_output("FP32_back")["shape"] == [1, 3]
    assert list(shm.get_contents_as_numpy(region, np.float32, [3], 32)) == [1, 2, 3]
    client.unregister_system_shared_memory(headers=headers)
    assert client.get_system_shared_memory_status(headers=headers) == []
finally:
    shm.destroy_shared_memory_region(region)

inputs = [each for each in inputs if each.name() != "FP32"]
inputs.append(triton.InferInput("FP32", [1, 3], "FP32"))
inputs[-1].set_data_from_numpy(np.array([[1, 3, 2]], np.float32))
for as_bytes in (True, False):
    wanted = triton.InferRequestedOutput("FP32_back", binary_data=as_bytes, class_count=2)
    answer = client.infer("rest-echo", inputs, outputs=[wanted], headers=dict(headers), query_params={"any": "thing"})
    told = answer.as_numpy("FP32_back")
    shown = [text.decode() if isinstance(text, bytes) else text for text in told[0]]
    assert shown == ["3.000000:1", "2.000000:2"], told

index = client.get_model_repository_index(headers=headers)
assert {"name": "rest-echo", "version": "1", "state": "READY", "reason": ""} in index, index
assert client.get_model_config("rest-echo", headers=headers)["name"] == "rest-echo"
(counted,) = client.get_inference_statistics("rest-echo", headers=headers)["model_stats"]
assert counted["inference_stats"]["success"]["count"] == 7, counted
assert len(client.get_inference_statistics(headers=headers)["model_stats"]) > 1
client.unload_model("rest-echo", headers=headers)
assert not client.is_model_ready("rest-echo", headers=headers)
client.load_model("rest-echo", headers=headers)
assert client.is_model_ready("rest-echo", headers=headers)
assert "trace_level" in client.get_trace_settings(headers=headers)
assert "log_info" in client.get_log_settings(headers=headers)
assert client.get_cuda_shared_memory_status(headers=headers) == []
large = triton.InferInput("FP32", [5_000_000], "FP32")
large.set_data_from_numpy(np.zeros(5_000_000, np.float32))
for status, refused in (
    ("413", lambda: client.infer("rest-echo", [large], headers=dict(headers))),
    ("501", lambda: client.update_log_settings({"log_info": True}, headers=headers)),
    ("501", lambda: client.update_trace_settings(settings={"trace_rate": "1"}, headers=headers)),
    ("501", lambda: client.load_model("rest-echo", config="{}", headers=headers)),
    ("400", lambda: client.load_model("all-minilm-l6-v2", headers=headers)),
    ("404", lambda: client.load_model("never-was", headers=headers)),
    ("400", lambda: client.register_system_shared_memory("r", "/r", 8, headers=headers)),
):
    try:
        refused()
    except triton.InferenceServerException as error:
        assert error.status() == status, (status, error)
    else:
        raise SystemExit(status)
np.save("found.npy", np.zeros(1))
"""

KSERVE_CLIENT = """
import asyncio, json, ssl, sys
import grpc, httpx, numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

address, ca, token, golden = sys.argv[1:]
texts = json.load(open(golden))
name, url = "all-minilm-l6-v2", "https://" + address
headers = {"authorization": "Bearer " + token}

def request(as_bytes):
    text = InferInput("text", [len(texts)], "BYTES")
    text.set_data_from_numpy(np.array([t.encode() for t in texts], np.object_), binary_data=as_bytes)
    return InferRequest(model_name=name, infer_inputs=[text], request_id="r7")

async def main():
    found = []
    config = RESTConfig(protocol="v2", verify=ssl.create_default_context(cafile=ca))
    async with InferenceRESTClient(config) as client:
        assert await client.is_server_live(url) and await client.is_server_ready(url)
        assert await client.is_model_ready(url, name, headers=headers)
        assert not await client.is_model_ready(url, "never-was", headers=headers)
        for as_bytes in (True, False):
            answer = await client.infer(url, request(as_bytes), name, headers=dict(headers))
            assert answer.id == "r7", answer.id
            found.append(answer.outputs[0].as_numpy())
        try:
            await client.infer(url, request(True), "never-was", headers=dict(headers))
        except httpx.HTTPStatusError as error:
            assert "there is no model" in str(error), error
        else:
            raise SystemExit("an unknown model answered")
    client = InferenceGRPCClient(address, creds=grpc.ssl_channel_credentials(open(ca, "rb").read()))
    metadata = [("authorization", headers["authorization"])]
    assert await client.is_server_live() and await client.is_server_ready()
    assert await client.is_model_ready(name, headers=metadata)
    answer = await client.infer(request(True), headers=metadata)
    found.append(answer.outputs[0].as_numpy())
    await client.close()
    assert all(np.allclose(f, found[0], atol=1e-5) for f in found)
    np.save("found.npy", found[0])

asyncio.run(main())
"""

KSERVE_DATATYPES = """
import asyncio, ssl, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

address, ca, token, _ = sys.argv[1:]
headers = {"authorization": "Bearer " + token}
kinds = {"BOOL": "?", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1", "INT16": "i2",
         "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8"}

def values(dtype, rows):
    if dtype == "?":
        return np.array([[True, False, True], [False, False, True]])[:rows]
    limits = np.finfo(dtype) if dtype.startswith("f") else np.iinfo(dtype)
    return np.array([[limits.min, limits.max, 0], [1, 2, 3]], dtype)[:rows]

def request(sent, as_bytes):
    inputs = []
    for kind, array in sent.items():
        inputs.append(InferInput(kind, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array, binary_data=as_bytes or kind == "FP16")
    parameters = {"binary_data_output": as_bytes}
    return InferRequest(model_name="kserve-echo", infer_inputs=inputs, parameters=parameters)

async def main():
    wrong = []
    config = RESTConfig(protocol="v2", verify=ssl.create_default_context(cafile=ca))
    async with InferenceRESTClient(config) as client:
        for rows in (2, 0):
            sent = {kind: values(dtype, rows) for kind, dtype in kinds.items()}
            for as_bytes in (True, False):
                answer = await client.infer("https://" + address, request(sent, as_bytes), "kserve-echo", dict(headers))
                back = {output.name.removesuffix("_back"): output for output in answer.outputs}
                for kind, array in sent.items():
                    got = back[kind].as_numpy()
                    if (back[kind].datatype, got.dtype, got.shape) != (kind, array.dtype, array.shape):
                        wrong.append((rows, as_bytes, kind, back[kind].datatype, got.dtype, got.shape))
                    elif got.tobytes() != array.tobytes():
                        wrong.append((rows, as_bytes, kind, got))
    assert not wrong, wrong
    np.save("found.npy", np.zeros(1))

asyncio.run(main())
"""


def run_client(here: Installed, place: Path, python: str, script: str) -> np.ndarray:
    """What a script of a client's own process found for the golden texts."""
    (place / "texts.json").write_text(json.dumps(golden()[0]))
    (place / "client.py").write_text(script)
    arguments = [here.address, str(here.home / "ca.pem"), here.token(), str(place / "texts.json")]
    finished = subprocess.run(
        [python, str(place / "client.py"), *arguments],
        capture_output=True, timeout=90, check=False, cwd=place, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr.decode()
    return np.load(place / "found.npy")


def check_golden(found: np.ndarray) -> None:
    _, expected = golden()
    cosines = (found * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.9999


def test_tritonclient_over_http_gets_the_golden_embeddings(home_of_all: Installed, tmp_path: Path):
    check_golden(run_client(home_of_all, tmp_path, sys.executable, TRITON))


def test_tritonclients_datatypes_and_extensions_work_over_http(home_of_all: Installed, tmp_path: Path):
    folder(
        tmp_path / "rest-echo", "name: rest-echo\nkind: onnx", model=echo(*(kind for kind in KINDS if kind != "BYTES"))
    )
    home_of_all.command("models", "push", str(tmp_path / "rest-echo"))
    run_client(home_of_all, tmp_path, sys.executable, TRITON_EXTENSIONS)
    home_of_all.command("models", "delete", "rest-echo")


def test_kserves_clients_get_the_golden_embeddings(home_of_all: Installed, tmp_path: Path):
    assert KSERVE.exists(), "kserve is missing; run `make setup-test`"
    check_golden(run_client(home_of_all, tmp_path, str(KSERVE), KSERVE_CLIENT))


def test_kserves_datatypes_come_back_as_they_went_with_elements_and_without(home_of_all: Installed, tmp_path: Path):
    kinds = [kind for kind in KINDS if kind not in ("BYTES", "BF16")]  # kserve has no BF16
    folder(tmp_path / "kserve-echo", "name: kserve-echo\nkind: onnx", model=echo(*kinds))
    home_of_all.command("models", "push", str(tmp_path / "kserve-echo"))
    run_client(home_of_all, tmp_path, str(KSERVE), KSERVE_DATATYPES)
    home_of_all.command("models", "delete", "kserve-echo")


def error_of(answer: httpx.Response, status: int) -> str:
    """The one thing that an error says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert list(body) == ["error"]
    return body["error"]


def test_errors_read_as_the_protocol_says_whoever_refuses(home_of_all: Installed):
    with home_of_all.rest() as client, home_of_all.rest("") as nobody, home_of_all.rest("x.y.z") as liar:
        assert "there is no model `never-was`" in error_of(client.get("/v2/models/never-was"), 404)
        assert "shape [2] holds 2" in error_of(
            client.post(f"{MODEL}/infer", json={"inputs": [{**TEXT, "shape": [2]}]}), 400
        )
        assert "access token" in error_of(nobody.get(MODEL), 401)
        assert "token" in error_of(liar.post(f"{MODEL}/infer", json={"inputs": [TEXT]}), 401)
        assert "nothing at this path" in error_of(client.get("/v2/nothing"), 404)
        assert "takes GET only" in error_of(client.delete(MODEL), 405)
        assert "bytes" in error_of(client.post(f"{MODEL}/infer", content=b"x" * 17_000_000), 413)
        for name in ("UPPER", "a" * 64):
            assert "model_name" in error_of(client.get(f"/v2/models/{name}"), 400)


@pytest.mark.parametrize(
    ("headers", "body", "word"),
    [
        ({}, b"", "no JSON"),
        ({"content-type": "text/xml"}, b"<inputs/>", "no JSON"),
        ({"inference-header-content-length": "999"}, b"{}", "Inference-Header-Content-Length"),
        ({"inference-header-content-length": "x"}, b"{}", "Inference-Header-Content-Length"),
        ({"content-encoding": "br"}, b"{}", "Content-Encoding"),
        ({"content-encoding": "gzip"}, b"{}", "gzip"),
        ({"content-encoding": "gzip"}, gzip.compress(bytes(70_000_000), 9), "unpacked"),
        ({}, b'{"parameters": ' + b'{"a":' * 100_000, "nested"),
        ({}, json.dumps({"inputs": [{**TEXT, "data": ["x" * 1_000_000]}]}).encode(), "at most 65536"),
        ({}, json.dumps({"inputs": [TEXT, TEXT]}).encode(), "twice"),
        ({}, json.dumps({"inputs": [TEXT], "outputs": [{"name": "embedding"}] * 2}).encode(), "twice"),
    ],
)
def test_bodies_that_are_wrong_are_refused_in_a_sentence(home_of_all: Installed, headers, body, word):
    with home_of_all.rest() as client:
        answer = client.post(f"{MODEL}/infer", content=body, headers=headers)
        assert word in error_of(answer, 400)


def test_a_request_and_its_record_are_of_the_model(home_of_all: Installed):
    with home_of_all.rest() as client:
        answer = client.post(f"{MODEL}/versions/1/infer", json={"id": "r1", "inputs": [TEXT]})
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["id"], body["model_version"]) == ("r1", "1")
        assert len(body["outputs"][0]["data"]) == 384
        ready = client.get("/v2/health/ready")
        assert ready.json() == {"ready": True}


def test_another_tenants_model_is_not_found(home_of_all: Installed):
    with home_of_all.rest(home_of_all.token(tenant="system")) as client:
        answer = client.get("/v2/models/all-minilm-l6-v2")
        assert answer.status_code == 200, answer.text
        assert error_of(client.get("/v2/models/never-was/ready"), 503)
