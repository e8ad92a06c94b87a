"""Pushes a model from any machine, with an API key: what `tiation models push` does where the platform's home is.

python push.py FOLDER --address models.corp.example:8443 --ca ca.pem --key-file ci.key

FOLDER holds model.yaml and the files that it names. The key's principal needs `engine.models.push` in the tenant.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
from tiation.engine.v1 import model_pb2, model_pb2_grpc
from tiation.security.v1 import token_pb2, token_pb2_grpc

PIECE_BYTES = 512 * 1024
TIMEOUT_S = 30
PUSH_TIMEOUT_S = 3600


def token_for(channel: grpc.Channel, tenant: str, api_key: str) -> str:
    """Exchange an API key for an access token, which lives for minutes; the key itself goes nowhere else."""
    tokens = token_pb2_grpc.TokenServiceStub(channel)
    request = token_pb2.ExchangeApiKeyRequest(parent=tenant, api_key=api_key)
    return tokens.ExchangeApiKey(request, timeout=TIMEOUT_S).token


def described(path: Path) -> model_pb2.ModelFile:
    """A file as the header announces it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return model_pb2.ModelFile(path=path.name, size_bytes=path.stat().st_size, sha256=digest)


def parts(header: model_pb2.PushModelHeader, paths: list[Path]) -> Iterator[model_pb2.PushModelRequest]:
    """The stream: the header, then every file in pieces, in the header's order."""
    yield model_pb2.PushModelRequest(header=header)
    for path in paths:
        with path.open("rb") as file:
            while data := file.read(PIECE_BYTES):
                yield model_pb2.PushModelRequest(piece=model_pb2.PushModelPiece(path=path.name, data=data))


def push(channel: grpc.Channel, tenant: str, folder: Path, name: str, token: str) -> model_pb2.ModelVersion:
    """Push a folder's files as a new version of a model, and wait until it is loaded or cannot be."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    header = model_pb2.PushModelHeader(
        parent=tenant, model_id=name, files=[described(path) for path in paths], request_id=str(uuid.uuid4())
    )
    models = model_pb2_grpc.ModelServiceStub(channel)
    metadata = [("authorization", f"Bearer {token}")]
    return models.PushModel(parts(header, paths), metadata=metadata, timeout=PUSH_TIMEOUT_S)


def main() -> None:
    """Read the command line, push, and say what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="127.0.0.1:8443", help="host:port of the front door")
    parser.add_argument("--ca", type=Path, default=Path("ca.pem"), help="what it is trusted by: ca.pem of the home")
    parser.add_argument("--key-file", type=Path, required=True, help="what `tiation keys create --out` wrote")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--name", default="", help="the model's id; else the folder's name")
    options = parser.parse_args()
    tenant, folder = f"tenants/{options.tenant}", options.folder
    if not (folder / "model.yaml").exists():
        sys.exit(f"{folder}: model.yaml is missing; it says what the model is")
    credentials = grpc.ssl_channel_credentials(options.ca.read_bytes())
    with grpc.secure_channel(options.address, credentials) as channel:
        try:
            token = token_for(channel, tenant, options.key_file.read_text().strip())
            version = push(channel, tenant, folder, options.name or folder.resolve().name, token)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")
    if version.state == model_pb2.ModelVersion.FAILED:
        sys.exit(f"{version.name} cannot be loaded: {version.state_message}")
    print(version.name)


if __name__ == "__main__":
    main()
