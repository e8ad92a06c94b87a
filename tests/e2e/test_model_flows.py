"""Sequences, ensembles and kept answers through the front door, asked by tritonclient and over REST."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

from tests.fakes.installed import CLONE, Installed
from tests.unit.engine.graphs import doubling, folder
from tests.unit.engine.test_sequences import MANIFEST, adding

FLOWERS = CLONE / "examples" / "ensemble"
CLIENT = """
import queue, sys
import numpy as np
import tritonclient.grpc as triton

address, ca, token = sys.argv[1:]
client = triton.InferenceServerClient(address, ssl=True, root_certificates=ca)
headers = {"authorization": "Bearer " + token}


def tensor(name, values, datatype="FP32"):
    given = triton.InferInput(name, list(values.shape), datatype)
    given.set_data_from_numpy(values)
    return given


def row(value):
    return [tensor("x", np.array([[value, -value]], np.float32))]


def refused(status, **said):
    try:
        client.infer(said.pop("model", "adder"), row(1), headers=headers, **said)
    except triton.InferenceServerException as error:
        assert error.status() == "StatusCode." + status, error
        return str(error)
    raise SystemExit("was answered: " + repr(said))

"""
SEQUENCES = (
    CLIENT
    + """
metadata = client.get_model_metadata("adder", headers=headers)
assert [i.name for i in metadata.inputs] == ["x"] and [o.name for o in metadata.outputs] == ["y"], metadata


def step(value, sequence, **said):
    answer = client.infer("adder", row(value), sequence_id=sequence, headers=headers, **said)
    return answer.as_numpy("y")[0, 0]


assert [step(1, 7, sequence_start=True), step(10, "b", sequence_start=True)] == [1, 10]
assert [step(2, 7), step(20, "b"), step(3, 7, sequence_end=True)] == [3, 30, 6]
assert "is not under way here" in refused("NOT_FOUND", sequence_id=7)
assert "end it first" in refused("ALREADY_EXISTS", sequence_id="b", sequence_start=True)
assert "sequence_id" in refused("INVALID_ARGUMENT")

answers = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
wide = np.ones((4000, 2), np.float32)
for number in range(1, 31):
    said = {"sequence_start": number == 1, "sequence_end": number == 30}
    client.async_stream_infer("adder", [tensor("x", wide)], sequence_id=100, request_id=f"w{number}", **said)
    client.async_stream_infer("adder", row(number), sequence_id=200, request_id=f"n{number}", **said)
    client.async_stream_infer("adder", row(-number), sequence_id="a text", request_id=f"t{number}", **said)
client.async_stream_infer("adder", row(1), sequence_id=300, request_id="late")
client.stop_stream()
sums = {"w": [], "n": [], "t": []}
for _ in range(90):
    result, error = answers.get(timeout=10)
    assert error is None, error
    sums[result.get_response().id[0]].append(result.as_numpy("y")[0, 0])
assert sums["w"] == list(range(1, 31)), sums["w"]
assert sums["n"] == [n * (n + 1) / 2 for n in range(1, 31)], sums["n"]
assert sums["t"] == [-each for each in sums["n"]], sums["t"]
assert "is not under way here" in str(answers.get(timeout=10)[1])
"""
)
SEQUENCES_OVER_HTTP = """
import sys
import numpy as np
import tritonclient.http as triton

address, ca, token = sys.argv[1:]
client = triton.InferenceServerClient(address, ssl=True, ssl_options={"ca_certs": ca})
headers = {"authorization": "Bearer " + token}


def step(value, sequence, as_bytes=True, **said):
    x = triton.InferInput("x", [1, 2], "FP32")
    x.set_data_from_numpy(np.array([[value, -value]], np.float32), binary_data=as_bytes)
    answer = client.infer("adder", [x], sequence_id=sequence, headers=dict(headers), **said)
    return answer.as_numpy("y")[0, 0]


def refused(status, **said):
    try:
        step(1, **said)
    except triton.InferenceServerException as error:
        assert error.status() == status, error
        return error.message()
    raise SystemExit("was answered: " + repr(said))


for one, other in ((70, "seventy"), (71, 72), ("one", "other")):
    assert [step(1, one, sequence_start=True), step(10, other, sequence_start=True)] == [1, 10]
    assert [step(2, one), step(20, other), step(3, one, as_bytes=False), step(30, other)] == [3, 30, 6, 60]
    assert "end it first" in refused("409", sequence=other, sequence_start=True)
    assert [step(4, one, sequence_end=True), step(40, other, sequence_end=True)] == [10, 100]
    assert "is not under way here" in refused("404", sequence=one)
    assert step(5, one, sequence_start=True, sequence_end=True) == 5
assert "sequence_id" in refused("400", sequence=0)
"""
SWAPPED = (
    CLIENT
    + """
answer = client.infer("adder", row(1), sequence_id=9, sequence_start=True, headers=headers)
print(answer.get_response().model_version, flush=True)
sys.stdin.readline()  # another version is pushed meanwhile
answer = client.infer("adder", row(2), sequence_id=9, headers=headers)
assert answer.as_numpy("y")[0, 0] == 3
old = answer.get_response().model_version
answer = client.infer("adder", row(5), sequence_id=10, sequence_start=True, sequence_end=True, headers=headers)
print(old, answer.get_response().model_version, flush=True)
client.infer("adder", row(2), sequence_id=9, sequence_end=True, headers=headers)
"""
)
FLOWER = (
    CLIENT
    + """
measures = np.array([[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]], np.float32)
answer = client.infer("flower-kinds", [tensor("measures", measures)], headers=headers)
print(b" ".join(answer.as_numpy("kind").tolist()).decode())
print(answer.as_numpy("probabilities").shape)
for _ in range(3):
    assert client.infer("keeper", row(2), headers=headers).as_numpy("y").tolist() == [[4, -4]]
client.infer("keeper", row(2), headers=headers, parameters={"cache": False})
assert "parameters[cache]" in refused("INVALID_ARGUMENT", model="keeper", parameters={"cache": "no"})
"""
)


@pytest.fixture
def client(home_of_all: Installed, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Runs a script with tritonclient, which shares no process with our own stubs."""

    def run(script: str) -> subprocess.Popen[str]:
        (tmp_path / "client.py").write_text(script)
        return subprocess.Popen(
            [sys.executable, str(tmp_path / "client.py"), home_of_all.address, str(home_of_all.home / "ca.pem"),
             home_of_all.token()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return run


def said(process: subprocess.Popen[str]) -> list[str]:
    """What a script printed, if it came to its end."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.fixture
def adder(home_of_all: Installed, tmp_path: Path) -> Path:
    """The folder of a model that adds up, which is there as `adder`."""
    made = folder(tmp_path / "adder", MANIFEST.replace("name: m", "name: adder"), model=adding())
    home_of_all.command("models", "push", str(made))
    return made


def test_tritonclient_sends_sequences_one_by_one_and_in_streams(client, adder: Path):
    said(client(SEQUENCES))


def test_tritonclient_sends_sequences_over_http(client, adder: Path):
    said(client(SEQUENCES_OVER_HTTP))


def test_a_sequence_ends_on_its_version_while_others_begin_on_the_next(home_of_all: Installed, client, adder: Path):
    process = client(SWAPPED)
    assert process.stdout is not None
    before = int(process.stdout.readline())
    home_of_all.command("models", "push", str(adder))
    process.stdin.write("\n")
    process.stdin.flush()
    assert said(process) == [f"{before} {before + 1}"]


def test_a_step_may_come_over_rest(home_of_all: Installed, adder: Path):
    def step(value: float, **parameters: object) -> object:
        body = {
            "parameters": {"sequence_id": "rest", **parameters},
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, 0]}],
        }
        with home_of_all.rest() as rest:
            answer = rest.post("/v2/models/adder/infer", json=body)
        return answer.json()["outputs"][0]["data"][0] if answer.status_code == 200 else answer.status_code

    assert [step(1, sequence_start=True), step(2), step(3, sequence_end=True), step(4)] == [1, 3, 6, 404]


def test_the_ensemble_of_the_example_names_flowers_and_kept_answers_are_counted(
    home_of_all: Installed, client, tmp_path: Path
):
    subprocess.run([sys.executable, str(FLOWERS / "make_models.py"), str(tmp_path / "made")], check=True, timeout=60)
    for name in ("flower-scale", "flower-network", "flower-names"):
        home_of_all.command("models", "push", str(tmp_path / "made" / name))
    home_of_all.command("models", "push", str(FLOWERS / "flower-kinds"))
    keeper = folder(tmp_path / "keeper", "name: keeper\nkind: onnx\nresponse_cache: true\n", model=doubling(["n", 2]))
    home_of_all.command("models", "push", str(keeper))
    assert said(client(FLOWER)) == ["setosa virginica", "(2, 3)"]
    refused = home_of_all.command("models", "unload", "flower-scale:1", check=False)
    assert "flower-kinds stands on" in refused.stdout + refused.stderr
    figures = home_of_all.metrics("engine")
    model = 'model="tenants/default/models/keeper",version="1"'
    assert f"nv_cache_num_hits_per_model{{{model}}} 2" in figures
    assert f"nv_cache_num_misses_per_model{{{model}}} 1" in figures
    assert f"nv_inference_exec_count{{{model}}} 2" in figures
    with home_of_all.rest() as rest:
        measures, _ = load_iris(return_X_y=True)
        rows = {"name": "measures", "datatype": "FP32", "shape": [150, 4], "data": np.ravel(measures).tolist()}
        answer = rest.post("/v2/models/flower-kinds/infer", json={"inputs": [rows]})
        assert answer.status_code == 200, answer.text
        kinds = next(output for output in answer.json()["outputs"] if output["name"] == "kind")
        assert kinds["data"][::50] == ["setosa", "versicolor", "virginica"]
        wrong = {**rows, "shape": [200, 3]}
        answer = rest.post("/v2/models/flower-kinds/infer", json={"inputs": [wrong]})
        assert (answer.status_code, "measures" in answer.text) == (400, True), answer.text
