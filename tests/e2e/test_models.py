"""Models pushed through the front door: a good one lives, a bad one is refused whole."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from google.rpc import error_details_pb2, status_pb2
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from onnx import TensorProto, helper

from tests.fakes.installed import CLONE, Installed
from tests.unit.engine.tables import price_pipeline
from tests.unit.engine.test_sequences import MANIFEST as REMEMBERING
from tests.unit.engine.test_sequences import adding

MANIFEST = "name: {name}\nkind: onnx\n"


def doubling(name: str = "doubling") -> onnx.ModelProto:
    """y = x + x for float32 (n, 2)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], name, [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def external(location: str) -> onnx.ModelProto:
    """A model that keeps its weights in another file."""
    model = doubling()
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    model.graph.initializer.append(weight)
    return model


def folder(tmp_path: Path, name: str, content: bytes, manifest: str = MANIFEST) -> Path:
    """A folder as `models push` takes it."""
    made = tmp_path / name
    made.mkdir()
    (made / "model.yaml").write_text(manifest.format(name=name))
    (made / "model.onnx").write_bytes(content)
    return made


def test_a_pushed_model_answers_is_unloaded_loaded_and_deleted(home_of_all: Installed, tmp_path: Path):
    pushed = folder(tmp_path, "doubling", doubling().SerializeToString())
    for version in (1, 2):
        made = home_of_all.json("models", "push", str(pushed))
        assert made["name"] == f"tenants/default/models/doubling/versions/{version}"
        assert made["state"] == "READY"
    with home_of_all.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        request = grpc_service_pb2.ModelInferRequest(model_name="doubling")
        request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, 2.0])
        answer = stub.ModelInfer(request)
        assert answer.model_version == "2"
        assert np.frombuffer(answer.raw_output_contents[0], np.float32).tolist() == [3.0, 4.0]
    with home_of_all.rest() as client:
        model = "/v1/tenants/default/models/doubling"
        unloaded = client.post(f"{model}/versions/2:unload", json={})
        assert unloaded.json()["state"] == "UNLOADED", unloaded.text
        assert client.get(model).json()["servingVersion"] == "1"
        assert client.post(f"{model}/versions/2:load", json={}).json()["state"] == "READY"
        assert len(client.get(f"{model}/versions").json()["modelVersions"]) == 2
        refused = client.delete(f"{model}/versions/2")
        assert (refused.status_code, "unload it first" in refused.text) == (400, True), refused.text
        assert client.post(f"{model}/versions/2:unload", json={}).json()["state"] == "UNLOADED"
        assert client.delete(f"{model}/versions/2").status_code == 200
        assert client.get(f"{model}/versions/2").status_code == 404
        assert client.delete(model).status_code == 200
        assert client.get(model).status_code == 404
        assert client.delete("/v1/tenants/system/models/all-minilm-l6-v2").status_code in (403, 404)


def test_a_model_whose_queue_is_full_says_when_there_will_be_room(home_of_all: Installed, tmp_path: Path):
    manifest = MANIFEST + "scheduling: {{max_queue: 1, max_delay_ms: 1000}}\n"  # the first one waits for others
    pushed = folder(tmp_path, "crowded", doubling().SerializeToString(), manifest)
    home_of_all.command("models", "push", str(pushed))
    request = grpc_service_pb2.ModelInferRequest(model_name="crowded")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, 2.0])
    with home_of_all.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        asked = [stub.ModelInfer.future(request, timeout=30) for _ in range(4)]
        errors = [error for error in (each.exception() for each in asked) if error is not None]
        assert len(errors) == 3
        for error in errors:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
            status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
            assert (status.code, status.message) == (error.code().value[0], error.details())
            kinds = [detail.type_url.rsplit(".", 1)[1] for detail in status.details]
            assert kinds == ["ErrorInfo", "RetryInfo"]
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            status.details[0].Unpack(info)
            status.details[1].Unpack(retry)
            assert info.reason == "QUEUE_FULL"
            assert 0 < retry.retry_delay.ToMilliseconds() <= 60_000
    home_of_all.command("models", "delete", "crowded")


def test_policy_and_aliases_by_command_and_by_every_protocol(home_of_all: Installed, tmp_path: Path):
    pushed = folder(tmp_path, "aliased", doubling().SerializeToString())
    home_of_all.command("models", "push", str(pushed))
    home_of_all.command("models", "alias", "aliased", "production", "1")
    home_of_all.command("models", "push", str(pushed))
    said = home_of_all.command("models", "policy", "aliased", "--latest", "2").stdout
    assert "latest 2; aliases production=1; 2 serves" in said
    states = home_of_all.command("models", "versions", "aliased").stdout.splitlines()
    assert [line.split()[:2] for line in states[1:]] == [["1", "ready"], ["2", "ready"]]
    with home_of_all.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, version in (("aliased", "production"), ("aliased:production", "")):
            request = grpc_service_pb2.ModelInferRequest(model_name=name, model_version=version)
            request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, 2.0])
            assert stub.ModelInfer(request).model_version == "1"
    refused = home_of_all.command("models", "unload", "aliased:1", check=False)
    assert "alias `production`" in refused.stderr
    with home_of_all.rest() as client:
        model = "/v1/tenants/default/models/aliased"
        etag = client.get(model).json()["etag"]
        body = {"aliases": {"canary": {"weights": {"1": 90, "2": 10}}}, "etag": etag}
        changed = client.patch(f"{model}?updateMask=aliases", json=body)
        assert changed.json()["aliases"] == {"canary": {"weights": {"1": 90, "2": 10}}}, changed.text
        assert client.patch(f"{model}?updateMask=aliases", json=body).status_code == 409
        assert client.patch(f"{model}?updateMask=latestVersion", json=body).status_code == 400
        assert client.delete(model).status_code == 200


def test_a_push_whose_version_cannot_be_warmed_up_says_why_and_fails(home_of_all: Installed, tmp_path: Path):
    manifest = MANIFEST + "warm_up: [{{shapes: {{x: [3, 5]}}}}]\n"
    bad = folder(tmp_path, "unready", doubling().SerializeToString(), manifest)
    refused = home_of_all.command("models", "push", str(bad), check=False)
    assert refused.returncode == 1
    assert "tenants/default/models/unready/versions/1 cannot be loaded: warm_up[0]" in refused.stderr
    home_of_all.command("models", "delete", "unready")


def test_a_profile_says_how_fast_a_model_is_and_with_which_load(home_of_all: Installed):
    loads = ("--concurrency", "1,3", "--batch", "1,4", "--seconds", "0.3")
    found = home_of_all.json("models", "profile", "all-minilm-l6-v2", "--tenant", "system", *loads)
    assert [(line["concurrency"], line["batch"]) for line in found["lines"]] == [(1, 1), (3, 1), (1, 4), (3, 4)]
    assert all(line["items_per_s"] > 0 and line["p50_ms"] <= line["p99_ms"] for line in found["lines"])
    assert found["lines"][2]["average_batch"] == 4
    assert found["best"] in found["lines"]
    said = home_of_all.command(
        "models", "profile", "tenants/system/models/digits", "--concurrency", "1", "--batch", "1", "--seconds", "0.2"
    )
    assert "Best: 1 client with 1 row a request" in said.stdout
    refused = home_of_all.command("models", "profile", "nothing-such", check=False)
    assert (refused.returncode, "nothing-such" in refused.stderr) == (1, True)


def test_a_profile_of_a_model_that_writes_counts_tokens(home_of_all: Installed):
    loads = ("--concurrency", "1,2", "--tokens", "8", "--seconds", "0.5")
    found = home_of_all.json("models", "profile", "docs-writer", *loads)
    assert [line["concurrency"] for line in found["lines"]] == [1, 2]
    assert all(line["tokens_per_s"] > 0 and line["first_p50_ms"] > 0 < line["answers"] for line in found["lines"])
    refused = home_of_all.command("models", "profile", "docs-writer", "--shape", "x=3", check=False)
    assert (refused.returncode, "writes on from texts" in refused.stderr) == (2, True)


def test_a_profile_of_a_table_or_of_a_model_that_remembers_sends_what_it_takes(home_of_all: Installed, tmp_path: Path):
    table = folder(
        tmp_path, "prices", price_pipeline(),
        "name: {name}\nkind: tabular\ncolumns: [area, {{name: town, categories: [Bern, Basel, Chur]}}]\n",
    )  # fmt: skip
    sums = folder(
        tmp_path, "sums", adding(), REMEMBERING.replace("{", "{{").replace("}", "}}").replace(": m\n", ": sums\n")
    )
    for made, name in ((table, "prices"), (sums, "sums")):
        home_of_all.command("models", "push", str(made))
        found = home_of_all.json(
            "models", "profile", name, "--concurrency", "2", "--batch", "2", "--seconds", "0.3"
        )  # fmt: skip
        assert found["best"]["items_per_s"] > 0
        refused = home_of_all.command("models", "profile", name, "--shape", "z=3", check=False)
        assert (refused.returncode, "has no input `z`; it takes " in refused.stderr) == (1, True)
        home_of_all.command("models", "delete", name)


def test_a_smaller_variant_answers_nearly_the_same_and_says_how_nearly(home_of_all: Installed, tmp_path: Path):
    samples = tmp_path / "samples.txt"
    samples.write_text("How do I reset my password?\nWhere is my parcel?\n")
    source = "tenants/system/models/all-minilm-l6-v2"
    made = json.loads(
        home_of_all.command(
            "models", "variant", source, "--precision", "int8", "--samples", str(samples), "--load", "--output", "json",
            timeout_s=300,
        ).stdout
    )  # fmt: skip
    assert (made["name"], made["state"]) == ("tenants/default/models/all-minilm-l6-v2-int8/versions/1", "READY")
    report = made["variant"]
    assert (report["source"], report["precision"], report["rows"]) == (f"{source}/versions/1", "INT8", 2)
    assert int(report["sizeBytes"]) < 0.4 * int(report["sourceBytes"])
    assert report["outputs"][0]["cosineMin"] > 0.97
    shown = home_of_all.command("models", "get", "all-minilm-l6-v2-int8:1").stdout
    assert f"int8 of {source}/versions/1" in shown
    vectors = [
        np.array(home_of_all.json("models", "embed", name, "--text", "A parcel")["embeddings"][0]["values"])
        for name in (source, "all-minilm-l6-v2-int8")
    ]
    assert 0.97 < vectors[0] @ vectors[1] < 0.9999999
    refused = home_of_all.command("models", "variant", f"{source}:7", "--precision", "fp16", check=False)
    assert "versions/7" in refused.stderr
    home_of_all.command("models", "delete", "all-minilm-l6-v2-int8")


def bad_models() -> dict[str, tuple[bytes, str, str]]:
    """What must be refused: content, manifest, a word that the answer must hold."""
    good = doubling().SerializeToString()
    whole = (CLONE / ".models" / "all-minilm-l6-v2" / "1" / "model.onnx").read_bytes()[: 1 << 20]
    return {
        "truncated": (whole, MANIFEST, "truncated"),
        "no-onnx": (b"#!/bin/sh\necho hello\n" * 100, MANIFEST, "ONNX"),
        "empty": (b"", MANIFEST, "model.onnx"),
        "outside": (external("../../../../etc/passwd").SerializeToString(), MANIFEST, "outside"),
        "absolute": (external("/etc/passwd").SerializeToString(), MANIFEST, "outside"),
        "unknown-key": (good, MANIFEST + "colour: blue\n", "colour"),
        "wrong-name": (good, "name: other\nkind: onnx\n", "other"),
        "no-yaml": (good, "name: [", "line"),
    }


@pytest.mark.parametrize(
    "case", ["truncated", "no-onnx", "empty", "outside", "absolute", "unknown-key", "wrong-name", "no-yaml"]
)
def test_a_bad_model_is_refused_whole(home_of_all: Installed, tmp_path: Path, case: str):
    content, manifest, word = bad_models()[case]
    pushed = folder(tmp_path, case, content, manifest)
    refused = home_of_all.command("models", "push", str(pushed), "--name", case, check=False)
    assert refused.returncode == 1
    assert word in refused.stderr, refused.stderr
    assert "INTERNAL" not in refused.stderr
    with home_of_all.rest() as client:
        assert client.get(f"/v1/tenants/default/models/{case}").status_code == 404
    kept = home_of_all.home / "engine" / "models"
    assert not list(kept.glob(".upload-*"))
    assert not (kept / "default" / case).exists()
