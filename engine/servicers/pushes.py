"""Uploads of versions: their messages become files, and whole files a version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

from tiation.engine.v1 import model_pb2 as pb

from engine.errors import EngineError, ReadOnlyModelError, UploadError
from engine.repository.completion import to_the_end
from engine.repository.models import File, ModelVersion, Provenance
from engine.repository.repository import Repository
from engine.repository.upload import Upload, begin
from mesh.call import current_call
from mesh.entries import Entry
from mesh.errors import Code
from mesh.identity import SYSTEM_TENANT, current_caller
from mesh.resource import join, tenant_of
from mesh.shelf import timestamp

__all__ = ["Pushes", "provenance_of"]

_FLUSH_BYTES = 4 * 1024 * 1024


class Pushes:
    """Takes uploads in.

    Args:
        repository: the core.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def begin(self, request: pb.BeginModelUploadRequest) -> pb.ModelUpload:
        """How far an upload has come, which begins where there is none."""
        _refuse_system(request.parent)
        tenant, files = tenant_of(request.parent), _files(request.files)
        known = await self._repository.pushed.known_files(tenant)
        progress = await asyncio.to_thread(self._repository.uploads.begin, tenant, request.upload_id, files, known)
        answer = pb.ModelUpload(
            upload_id=request.upload_id, expire_time=timestamp(datetime.fromtimestamp(progress.expires, UTC))
        )
        for file in files:
            answer.files.add(path=file.path, received_bytes=progress.received[file.path], size_bytes=file.size_bytes)
        return answer

    async def cancel(self, request: pb.CancelModelUploadRequest) -> None:
        """Forget an upload."""
        await asyncio.to_thread(self._repository.uploads.cancel, tenant_of(request.parent), request.upload_id)

    async def push(self, requests: AsyncIterator[pb.PushModelRequest]) -> Entry[ModelVersion]:
        """A new version from an upload.

        Raises:
            EngineError: the upload is not what its header says, or is no model.
        """
        first = await anext(requests)
        if first.WhichOneof("part") != "header":
            raise UploadError("the first message must be the header")
        header = first.header
        _refuse_system(header.parent)
        earlier = await self._repository.pushed.by(join(header.parent, "models", header.model_id), header.request_id)
        if earlier is not None:
            return earlier
        if header.upload_id:
            return await self._continued(requests, header)
        files = _files(header.files)
        upload = await asyncio.to_thread(begin, self._repository.folder, files, self._repository.sharing.uploads)
        try:
            await _receive(requests, upload)
            return await self._keep(header, upload)
        finally:
            await asyncio.to_thread(upload.abandon)

    async def _continued(
        self, requests: AsyncIterator[pb.PushModelRequest], header: pb.PushModelHeader
    ) -> Entry[ModelVersion]:
        """As `push`, for an upload that may be broken off: what came of it stays for the next call."""
        uploads, tenant = self._repository.uploads, tenant_of(header.parent)
        with uploads.writing(tenant, header.upload_id, _files(header.files)) as upload:
            try:
                await _receive(requests, upload)
            finally:
                await asyncio.to_thread(upload.pause)
            try:
                kept = await self._keep(header, upload)
            except EngineError as error:
                if error.code is Code.INVALID_ARGUMENT:  # whole, and no model: nothing more can come of it
                    await asyncio.to_thread(uploads.finished, tenant, header.upload_id)
                raise
            await asyncio.to_thread(uploads.finished, tenant, header.upload_id)
            return kept

    async def _keep(self, header: pb.PushModelHeader, upload: Upload) -> Entry[ModelVersion]:
        return await self._repository.pushed.keep(
            join(header.parent, "models", header.model_id),
            header.version,
            upload.folder,
            _files(header.files),
            dict(header.labels),
            load=not header.skip_load,
            request_id=header.request_id,
            provenance=provenance_of(header.source),
        )


def provenance_of(source: pb.Source) -> Provenance:
    """Who pushes now, with what, and from where as they say."""
    caller, call = current_caller(), current_call.get()
    client = call.metadata.get("user-agent", "") if call is not None else ""
    return Provenance(
        subject=caller.subject,
        actor=caller.actor,
        run=caller.run,
        client=client[:256],
        source_uri=source.uri,
        source_revision=source.revision,
    )


def _refuse_system(parent: str) -> None:
    if tenant_of(parent) == SYSTEM_TENANT:
        raise ReadOnlyModelError("models of tenants/system ship with the platform", resource=parent)


def _files(sent: Iterable[pb.ModelFile]) -> list[File]:
    return [File(file.path, file.size_bytes, file.sha256) for file in sent]


async def _receive(requests: AsyncIterator[pb.PushModelRequest], upload: Upload) -> None:
    """Write an upload's pieces, on a thread, some megabytes at a time."""
    held: list[pb.PushModelPiece] = []
    size = 0

    def flush(pieces: list[pb.PushModelPiece]) -> None:
        for piece in pieces:
            upload.write(piece.path, piece.data, piece.offset if piece.HasField("offset") else None)

    async for request in requests:
        if request.WhichOneof("part") != "piece":
            raise UploadError("after the header there are only pieces")
        held.append(request.piece)
        size += len(request.piece.data)
        if size >= _FLUSH_BYTES:
            await to_the_end(asyncio.to_thread(flush, held))
            held, size = [], 0
    await to_the_end(asyncio.to_thread(flush, held))
    await to_the_end(asyncio.to_thread(upload.finish))
