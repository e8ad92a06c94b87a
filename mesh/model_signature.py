"""Signatures of a folder of files: an in-toto statement of their digests in a DSSE envelope, signed with Ed25519.

The statement has the form of sigstore's model signing (predicate `https://model_signing/signature/v1.0`), the envelope
that of https://github.com/secure-systems-lab/dsse; there is no certificate and no log around it, and no network. Whose
keys are trusted, and what becomes of a folder that is refused, is for those who call this.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = [
    "SIGNATURE_FILE",
    "KeyFileError",
    "SignatureInvalidError",
    "digests_of",
    "key_id",
    "private_key",
    "public_key",
    "sign",
    "verify",
]

SIGNATURE_FILE = "model.sig"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_MAX_BYTES = 1 << 20
_MAX_SIGNATURES = 16


class SignatureInvalidError(Exception):
    """A folder is not what somebody who is trusted has signed; the text says why."""


class KeyFileError(Exception):
    """A file holds no Ed25519 key in PEM."""


def private_key(pem: bytes) -> Ed25519PrivateKey:
    """A private key from PEM (PKCS#8), without a password.

    Raises:
        KeyFileError: it is none.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("holds no Ed25519 private key in PEM; make one with `openssl genpkey -algorithm ed25519`")
    return key


def public_key(pem: bytes) -> Ed25519PublicKey:
    """A public key from PEM (SubjectPublicKeyInfo).

    Raises:
        KeyFileError: it is none.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError("holds no Ed25519 public key in PEM; get it with `openssl pkey -in KEY -pubout`")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: the SHA-256 of its SubjectPublicKeyInfo in DER, in hexadecimal."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(encoding, form)).hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder, by name; without hidden ones and the signature. Reads all of them."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name != SIGNATURE_FILE:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def sign(digests: Mapping[str, str], name: str, key: Ed25519PrivateKey) -> bytes:
    """The envelope, as JSON.

    Args:
        digests: SHA-256 in hexadecimal of each file.
        name: what the model is called.
        key: signs it.
    """
    payload = _statement(digests, name)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD_TYPE,
        "signatures": [
            {"keyid": key_id(key.public_key()), "sig": base64.b64encode(key.sign(_encoded(payload))).decode()}
        ],
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def verify(envelope: bytes, digests: Mapping[str, str], keys: Iterable[Ed25519PublicKey]) -> str:
    """See that a folder is what was signed.

    Args:
        envelope: as JSON.
        digests: of the files as they are.
        keys: those that are trusted.

    Returns:
        The id of the key that signed it.

    Raises:
        SignatureInvalidError: it is not.
    """
    payload, signatures = _opened(envelope)
    signer = _signer(payload, signatures, list(keys))
    signed = _resources(payload)
    for file in sorted(digests):
        if file not in signed:
            raise SignatureInvalidError(f"{file}: was not signed")
        if signed[file] != digests[file]:
            raise SignatureInvalidError(f"{file}: has other content than was signed")
    for file in sorted(set(signed) - set(digests)):
        raise SignatureInvalidError(f"{file[:128]}: was signed and is missing")
    return signer


def _statement(digests: Mapping[str, str], name: str) -> bytes:
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[file]) for file in sorted(digests))).hexdigest()
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE_FILE],
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": digests[file]} for file in sorted(digests)],
        },
    }
    return json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _encoded(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = _PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _opened(envelope: bytes) -> tuple[bytes, list[bytes]]:
    """The payload, and the signatures."""
    if len(envelope) > _MAX_BYTES:
        raise SignatureInvalidError(f"{SIGNATURE_FILE}: has more than {_MAX_BYTES} bytes")
    try:
        tree: Any = json.loads(envelope)
        kind = tree["payloadType"]
        payload = base64.b64decode(tree["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in tree["signatures"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SignatureInvalidError(f"{SIGNATURE_FILE}: is no DSSE envelope") from None
    if kind != _PAYLOAD_TYPE or not 1 <= len(signatures) <= _MAX_SIGNATURES:
        raise SignatureInvalidError(f"{SIGNATURE_FILE}: is no DSSE envelope of an in-toto statement")
    return payload, signatures


def _signer(payload: bytes, signatures: Iterable[bytes], keys: list[Ed25519PublicKey]) -> str:
    encoded = _encoded(payload)
    for signature in signatures:
        for key in keys:
            try:
                key.verify(signature, encoded)
            except InvalidSignature:
                continue
            return key_id(key)
    raise SignatureInvalidError(
        f"{SIGNATURE_FILE}: was changed, or was made with a key that is not trusted ({len(keys)} are)"
    )


def _resources(payload: bytes) -> dict[str, str]:
    """The digests in a statement that is known to be somebody's who is trusted."""
    try:
        statement: Any = json.loads(payload)
        if statement["_type"] != _STATEMENT or statement["predicateType"] != _PREDICATE:
            raise SignatureInvalidError(f"{SIGNATURE_FILE}: signs something else than a model")
        resources = statement["predicate"]["resources"]
        found = {str(each["name"]): str(each["digest"]) for each in resources if each["algorithm"] == "sha256"}
        if len(found) != len(resources):
            raise SignatureInvalidError(f"{SIGNATURE_FILE}: names a file twice, or uses another digest than SHA-256")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SignatureInvalidError(f"{SIGNATURE_FILE}: holds no statement of files") from None
    return found
