"""Signed models: what somebody trusted has signed is opened, and nothing else, at the push and at each load."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SignatureError
from engine.repository.models import ModelVersion, Provenance
from engine.repository.signatures import Signatures
from mesh.model_signature import SignatureInvalidError, key_id, sign, verify
from tests.unit.engine.shelf import MODEL, Shelf

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"1" * 32), Ed25519PrivateKey.from_private_bytes(b"2" * 32)
DIGESTS = {"model.onnx": "ab" * 32, "model.yaml": "cd" * 32}
SIGNED = sign(DIGESTS, "m", KEY)


def trust(shelf: Shelf, key: Ed25519PrivateKey, tenant: str = "") -> Signatures:
    keys = shelf.root / "keys"
    (keys / tenant).mkdir(parents=True, exist_ok=True)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (keys / tenant / f"{key_id(key.public_key())[:8]}.pem").write_bytes(pem)
    return Signatures(keys)


async def test_a_signed_version_is_taken_in_and_its_key_is_kept(shelf: Shelf):
    repository = await shelf.started(signatures=trust(shelf, KEY))
    came = Provenance(subject="tenants/t/principals/ada", source_uri="https://git.example/m", source_revision="4f2a")
    made = await shelf.push(repository, key=KEY, provenance=came)
    assert repository.state(made) == "READY"
    kept = (await shelf.catalogue.get(ModelVersion, made.name)).body.provenance
    assert (kept.key_id, kept.subject, kept.source_revision) == (
        key_id(KEY.public_key()), "tenants/t/principals/ada", "4f2a",
    )  # fmt: skip


async def test_what_is_not_signed_or_by_somebody_else_is_refused_and_leaves_nothing(shelf: Shelf):
    repository = await shelf.started(signatures=trust(shelf, KEY))
    with pytest.raises(SignatureError, match="is missing, and"):
        await shelf.push(repository)
    with pytest.raises(SignatureError, match="key that is not trusted"):
        await shelf.push(repository, key=OTHER)
    assert await shelf.catalogue.every(ModelVersion) == []
    assert not (shelf.root / "models/t/m").exists()


@pytest.mark.parametrize("file", ["model.onnx", "model.yaml"])
async def test_what_was_changed_after_the_push_is_not_loaded(shelf: Shelf, file: str):
    repository = await shelf.started(signatures=trust(shelf, KEY))
    made = await shelf.push(repository, key=KEY)
    await repository.stop()
    path = shelf.root / "models/t/m/1" / file
    path.write_bytes(path.read_bytes() + b"#")
    repository = await shelf.started(signatures=trust(shelf, KEY))
    entry = await shelf.catalogue.get(ModelVersion, made.name)
    assert repository.state(entry) == "FAILED"
    assert f"{file}: has other content than was signed" in entry.body.failure
    with pytest.raises(SignatureError):
        await repository.lifecycle.load(made.name)


async def test_a_file_that_was_laid_beside_the_signed_ones_is_refused(shelf: Shelf):
    repository = await shelf.started(signatures=trust(shelf, KEY))
    made = await shelf.push(repository, key=KEY)
    await repository.lifecycle.unload(made.name)
    (shelf.root / "models/t/m/1/weights.bin").write_bytes(b"x")
    with pytest.raises(SignatureError, match=r"weights\.bin: was not signed"):
        await repository.lifecycle.load(made.name)


async def test_a_key_of_one_tenant_signs_for_that_tenant_alone(shelf: Shelf):
    repository = await shelf.started(signatures=trust(shelf, KEY, "t"))
    await shelf.push(repository, key=KEY)
    with pytest.raises(SignatureError, match="not trusted"):
        await shelf.push(repository, "tenants/other/models/m", manifest="name: m\nkind: onnx\n", key=KEY)


async def test_a_key_that_was_taken_away_is_trusted_no_more(shelf: Shelf):
    repository = await shelf.started(signatures=trust(shelf, KEY))
    made = await shelf.push(repository, key=KEY)
    await repository.lifecycle.unload(made.name)
    for path in (shelf.root / "keys").glob("*.pem"):
        path.unlink()
    with pytest.raises(SignatureError, match="0 are"):
        await repository.lifecycle.load(made.name)
    assert repository.versions_of(MODEL) == []


async def test_a_key_file_that_is_none_is_named(shelf: Shelf):
    signatures = trust(shelf, KEY)
    (shelf.root / "keys" / "aaa.pem").write_text("hello")
    repository = await shelf.started(signatures=signatures)
    with pytest.raises(SignatureError, match=r"engine\.signature_keys: aaa\.pem holds no Ed25519 public key"):
        await shelf.push(repository, key=KEY)


def test_the_statement_is_in_totos_and_the_envelope_dsses():
    envelope = json.loads(SIGNED)
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    KEY.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), encoded)
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert [each["name"] for each in statement["predicate"]["resources"]] == ["model.onnx", "model.yaml"]


@given(st.dictionaries(st.sampled_from(["model.onnx", "model.yaml", "w.bin"]), st.sampled_from(["ab" * 32, "ef" * 32])))
def test_no_other_files_are_what_was_signed(digests):
    if digests == DIGESTS:
        return
    with pytest.raises(SignatureInvalidError):
        verify(SIGNED, digests, [KEY.public_key()])


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_a_changed_byte_never_verifies_as_something_else(at, by):
    changed = bytearray(SIGNED)
    changed[at] ^= by
    try:
        assert verify(bytes(changed), DIGESTS, [KEY.public_key()]) == key_id(KEY.public_key())
    except SignatureInvalidError:
        return
    payloads = [base64.b64decode(json.loads(each)["payload"]) for each in (bytes(changed), SIGNED)]
    assert payloads[0] == payloads[1]


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda of: st.lists(of) | st.dictionaries(st.sampled_from(["payload", "payloadType", "signatures", "sig"]), of),
    ).map(lambda tree: json.dumps(tree).encode())
)
def test_what_is_no_envelope_is_refused_clearly(envelope):
    with pytest.raises(SignatureInvalidError, match=r"model\.sig"):
        verify(envelope, DIGESTS, [KEY.public_key()])
