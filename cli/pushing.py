"""Bringing a model's files: in pieces, with progress on a terminal, and on from where it broke off.

What is said around it is `cli.commands.models`'.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import grpc
from tiation.engine.v1 import model_pb2 as pb

from cli.client import BREAKS, TIMEOUT_S, FileError

__all__ = ["file_of", "files_and_skipped", "push_files"]

_PIECE_BYTES = 512 * 1024
_PUSH_TIMEOUT_S = 3600.0
_GIVE_UP_S = 30.0
"""So long it goes on trying while nothing more arrives."""
_PAUSE_S = 0.5
_SHOWN_FROM_BYTES = 8 * 1024 * 1024
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""As `ModelFile.path` in the contract."""
_FILE_NAME_RULE = "1 to 128 letters from A to Z, digits, `.`, `_` and `-`, not beginning with `-`"
_NAMESPACE = uuid.UUID("6f1d3a0e-58c9-4f5e-9a35-0f2b7a7f3c11")
"""Uploads of the same files to the same model have one id, so that another command goes on where one was ended."""


def files_and_skipped(folder: Path) -> tuple[list[Path], list[str]]:
    """The files of a model's folder, and the names of the folders in it, which are not brought; no hidden ones.

    Raises:
        FileError: a file's name is one that no file of a model can have.
    """
    shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in shown if path.is_file()]
    for path in files:
        if not _FILE_NAME.fullmatch(path.name):
            raise FileError(
                f"{folder}: {path.name!r} can be no name of a model's file, which has {_FILE_NAME_RULE}", file=folder
            )
    return files, [_in_a_line(path.name) for path in shown if path.is_dir()]


def file_of(path: Path) -> pb.ModelFile:
    """A file as the header describes it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return pb.ModelFile(path=path.name, size_bytes=path.stat().st_size, sha256=digest)


def push_files(stub: Any, header: pb.PushModelHeader, files: Sequence[Path], *, show: bool) -> pb.ModelVersion:  # noqa: ANN401
    """Have a model's files in the platform, as a new version.

    Args:
        stub: of the model service.
        header: what is brought; it gets the ids under which it goes on.
        files: in the header's order.
        show: whether to show progress.

    Raises:
        grpc.RpcError: it is refused, or the platform does not come back.
    """
    header.upload_id = str(uuid.uuid5(_NAMESPACE, repr([header.parent, header.model_id, *map(_line, header.files)])))
    header.request_id = str(uuid.uuid4())
    total = sum(file.size_bytes for file in header.files)
    best, deadline = -1, 0.0
    with click.progressbar(length=total, label="uploading", hidden=not show or total < _SHOWN_FROM_BYTES) as bar:
        while True:
            try:
                received = _received(stub, header)
                here = sum(received.values())
                bar.update(here - bar.pos)
                if here > best:
                    best, deadline = here, time.monotonic() + _GIVE_UP_S
                version: pb.ModelVersion = stub.PushModel(_parts(header, files, received, bar), timeout=_PUSH_TIMEOUT_S)
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() not in BREAKS or time.monotonic() > deadline > 0:
                    raise
                deadline = deadline or time.monotonic() + _GIVE_UP_S
                time.sleep(_PAUSE_S)
            else:
                return version


def _in_a_line(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _line(file: pb.ModelFile) -> tuple[str, str]:
    return file.path, file.sha256


def _received(stub: Any, header: pb.PushModelHeader) -> dict[str, int]:  # noqa: ANN401 -- see `connect`
    """How many bytes of each file are there."""
    request = pb.BeginModelUploadRequest(parent=header.parent, upload_id=header.upload_id, files=header.files)
    return {file.path: file.received_bytes for file in stub.BeginModelUpload(request, timeout=TIMEOUT_S).files}


def _parts(
    header: pb.PushModelHeader,
    files: Sequence[Path],
    received: Mapping[str, int],
    bar: Any,  # noqa: ANN401 -- click's
) -> Iterator[pb.PushModelRequest]:
    """What has not come yet."""
    yield pb.PushModelRequest(header=header)
    for path in files:
        offset = received[path.name]
        with path.open("rb") as file:
            file.seek(offset)
            while data := file.read(_PIECE_BYTES):
                yield pb.PushModelRequest(piece=pb.PushModelPiece(path=path.name, data=data, offset=offset))
                offset += len(data)
                bar.update(len(data))
