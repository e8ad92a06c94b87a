"""Engine settings that an operator makes together: models in S3, signatures required, a memory budget."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from moto.server import ThreadedMotoServer
from onnx import TensorProto, helper
from tiation.engine.v1 import model_pb2, model_pb2_grpc
from tiation.security.v1 import token_pb2, token_pb2_grpc

from engine.adapters.models_in_s3 import S3Settings, s3_client
from mesh.model_signature import digests_of, key_id, sign
from tests.fakes.installed import Installed, installed
from tests.unit.engine.graphs import doubling, folder, model

MIB = 1 << 20
BUDGET = 120 * MIB
KEY = Ed25519PrivateKey.from_private_bytes(b"1" * 32)
MODELS = "/v1/tenants/default/models"


@dataclass
class Platform:
    """A platform with these settings, and the bucket in which its models are."""

    here: Installed
    s3: Any
    work: Path

    def bucket(self, name: str) -> dict[str, bytes]:
        """The objects of a model's versions, by their keys."""
        listed = self.s3.list_objects_v2(Bucket="models", Prefix=f"company/default/models/{name}/")
        keys = [item["Key"] for item in listed.get("Contents", ())]
        return {key: self.s3.get_object(Bucket="models", Key=key)["Body"].read() for key in keys}

    def signed(self, name: str, graph: bytes) -> Path:
        """A folder of a model that the trusted key has signed."""
        made = folder(self.work / name, f"name: {name}\nkind: onnx\n", model=graph)
        (made / "model.sig").write_bytes(sign(digests_of(made), name, KEY))
        return made

    def copy(self, name: str) -> Path:
        """Where the home has what it fetched of a model's first version."""
        return self.here.home / "engine" / "models" / "default" / name / "1"

    def version(self, name: str) -> dict[str, Any]:
        """A model's first version, as REST shows it."""
        with self.here.rest() as client:
            return client.get(f"{MODELS}/{name}/versions/1").raise_for_status().json()

    def asked(self, name: str) -> list[float]:
        """What a model answers to 1.5 and 2."""
        x = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2.0]}
        with self.here.rest() as client:
            answer = client.post(f"/v2/models/{name}/infer", json={"inputs": [x]})
        assert answer.status_code == 200, answer.text
        return answer.json()["outputs"][0]["data"]


@pytest.fixture(scope="module")
def platform(tmp_path_factory) -> Iterator[Platform]:
    work = tmp_path_factory.mktemp("settings")
    (work / "keys").mkdir()
    (work / "none").mkdir()
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (work / "keys" / "ours.pem").write_bytes(pem)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        s3 = s3_client(S3Settings(endpoint, "us-east-1", "id", "secret"))
        s3.create_bucket(Bucket="models")
        settings = {
            "STORAGE": "s3://models/company",
            "STORAGE_ENDPOINT": endpoint,
            "STORAGE_REGION": "us-east-1",
            "STORAGE_KEY_ID": "id",
            "STORAGE_SECRET": "secret",
            "SIGNATURES": "require",
            "SIGNATURE_KEYS": str(work / "keys"),
            "MEMORY_BUDGET_BYTES": str(BUDGET),
            "SYSTEM_MODELS": str(work / "none"),
        }
        variables = {f"TIATION_ENGINE__{name}": value for name, value in settings.items()}
        with installed(work / "home", **variables) as here:
            yield Platform(here, s3, work)
    finally:
        server.stop()


def table(megabytes: int) -> bytes:
    """y = x + the row of a table of so many megabytes where x is largest; a session takes little more than that."""
    rows = np.zeros((megabytes * MIB // 8, 2), np.float32)
    rows[:2] = [[10, 20], [30, 40]]
    nodes = [
        helper.make_node("ArgMax", ["x"], ["at"], axis=1, keepdims=0),
        helper.make_node("Gather", ["rows", "at"], ["row"]),
        helper.make_node("Add", ["x", "row"], ["y"]),
    ]
    x = {"x": (TensorProto.FLOAT, ["n", 2])}
    return model(nodes, x, {"y": x["x"]}, {"rows": rows})


def test_only_what_is_signed_is_taken_and_it_lies_in_the_bucket(platform: Platform):
    made = platform.signed("signed", doubling(["n", 2]))
    (made / "model.sig").rename(platform.work / "model.sig")
    refused = platform.here.command("models", "push", str(made), check=False)
    assert refused.returncode == 1
    assert "model.sig: is missing, and engine.signatures is `require`" in refused.stderr
    assert platform.bucket("signed") == {}
    (platform.work / "model.sig").rename(made / "model.sig")
    pushed = platform.here.json("models", "push", str(made))
    assert (pushed["name"], pushed["state"]) == ("tenants/default/models/signed/versions/1", "READY")
    assert platform.asked("signed") == [3.0, 4.0]
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    assert sorted(files) == ["model.onnx", "model.sig", "model.yaml"]
    place = "company/default/models/signed/versions/1"
    assert platform.bucket("signed") == {f"{place}/{name}": data for name, data in {**files, ".whole": b""}.items()}


def test_what_went_for_another_comes_back_from_the_bucket_and_what_never_fits_is_refused(platform: Platform):
    for name in ("first", "second"):  # each fits, both together do not
        platform.here.command("models", "push", str(platform.signed(name, table(64))))
        assert platform.asked(name) == [31.5, 42.0]
    assert [platform.version(name)["state"] for name in ("first", "second")] == ["EVICTED", "READY"]
    shutil.rmtree(platform.copy("first"))  # the home's is a copy and no more
    assert platform.asked("first") == [31.5, 42.0]
    assert [platform.version(name)["state"] for name in ("first", "second")] == ["READY", "EVICTED"]
    assert hashlib.sha256((platform.copy("first") / "model.onnx").read_bytes()).hexdigest() in {
        file["sha256"] for file in platform.version("first")["files"]
    }
    refused = platform.here.command("models", "push", str(platform.signed("huge", table(121))), check=False)
    assert refused.returncode == 1
    assert f"all models together may take {BUDGET} of cpu's memory" in refused.stderr
    assert "Raise engine.memory_budget_bytes to at least" in refused.stderr
    assert platform.version("first")["state"] == "READY"
    assert platform.bucket("huge") == {}


def test_a_version_says_who_pushed_it_with_what_from_where_and_who_signed_it(platform: Platform, tmp_path: Path):
    here, made = platform.here, platform.signed("described", doubling(["n", 2]))
    here.command("roles", "create", "pusher", "--permission", "engine.models.push")
    here.command("principals", "create", "ci")
    here.command("bindings", "create", "ci-pushes", "--principal", "ci", "--role", "pusher")
    here.command("keys", "create", "ci-key", "--principal", "ci", "--out", str(tmp_path / "ci.key"))
    here.command("tenants", "get", "default")  # what a service answers after a change knows of it
    source = model_pb2.Source(uri="https://git.example.com/models/described", revision="4f2a91c")
    header = model_pb2.PushModelHeader(parent="tenants/default", model_id="described", source=source)
    pieces = []
    for path in sorted(made.iterdir()):
        data = path.read_bytes()
        header.files.add(path=path.name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        pieces.append(model_pb2.PushModelRequest(piece=model_pb2.PushModelPiece(path=path.name, data=data)))
    root = grpc.ssl_channel_credentials((here.home / "ca.pem").read_bytes())
    with grpc.secure_channel(here.address, root, [("grpc.primary_user_agent", "release-robot/7")]) as channel:
        request = token_pb2.ExchangeApiKeyRequest(
            parent="tenants/default", api_key=(tmp_path / "ci.key").read_text().strip()
        )
        token = token_pb2_grpc.TokenServiceStub(channel).ExchangeApiKey(request, timeout=30).token
        model_pb2_grpc.ModelServiceStub(channel).PushModel(
            iter([model_pb2.PushModelRequest(header=header), *pieces]),
            metadata=[("authorization", f"Bearer {token}")], timeout=30,
        )  # fmt: skip
    came = platform.version("described")["provenance"]
    assert came.pop("client").startswith("release-robot/7 grpc-python/")
    assert came == {
        "subject": "tenants/default/principals/ci",
        "actor": "",
        "run": "",
        "source": {"uri": source.uri, "revision": source.revision},
        "signatureKeyId": key_id(KEY.public_key()),
    }
    where = ("--source", "https://git.example.com/by-hand", "--revision", "v2")
    here.command("models", "push", str(platform.signed("by-hand", doubling(["n", 2]))), *where)
    came = platform.version("by-hand")["provenance"]
    assert came["subject"] == "tenants/system/principals/operator"
    assert came["client"].startswith("grpc-python/")
    assert came["source"] == {"uri": where[1], "revision": where[3]}
