"""ModelService."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf import empty_pb2
from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc

from engine.repository.models import Model, ModelVersion
from engine.repository.repository import Repository
from engine.servicers.model_messages import read_change, show_model, show_version
from engine.servicers.pushes import Pushes, provenance_of
from engine.variants.making import Variants, Wish
from engine.variants.reports import Precision
from mesh.call import Context
from mesh.catalogue import Catalogue
from mesh.entries import Entry
from mesh.pagination import Pages
from mesh.shelf import Shelf

__all__ = ["ModelServicer"]


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Keeps models.

    Args:
        repository: the core.
        catalogue: knows what is kept.
        pages: makes and checks page tokens.
        variants: makes smaller versions.
    """

    def __init__(self, repository: Repository, catalogue: Catalogue, pages: Pages, variants: Variants) -> None:
        self._variants = variants
        self._repository = repository
        self._models: Shelf[Model, pb.Model] = Shelf(catalogue, pages, Model, "models", show_model, lambda _: Model())
        self._versions: Shelf[ModelVersion, pb.ModelVersion] = Shelf(
            catalogue, pages, ModelVersion, "versions", show_version, lambda _: ModelVersion("", ())
        )
        self._catalogue = catalogue
        self._pushes = Pushes(repository)

    async def GetModel(self, request: pb.GetModelRequest, _: Context) -> pb.Model:
        """One model."""
        return self._with_serving(await self._models.get(request.name))

    async def ListModels(self, request: pb.ListModelsRequest, _: Context) -> pb.ListModelsResponse:
        """A page of models."""
        models, token = await self._models.list(request.parent, request)
        return pb.ListModelsResponse(models=[self._with_serving(model) for model in models], next_page_token=token)

    async def UpdateModel(self, request: pb.UpdateModelRequest, _: Context) -> pb.Model:
        """A changed model, with its versions loaded and unloaded as its policy says then."""
        sent = request.model
        change = read_change(sent, request.update_mask, validate_only=request.validate_only)
        changed = await self._repository.lifecycle.update_model(sent.name, sent.etag, change)
        return self._with_serving(self._models.message(changed))

    async def DeleteModel(self, request: pb.DeleteModelRequest, _: Context) -> empty_pb2.Empty:
        """One model less, with all its versions."""
        await self._repository.lifecycle.delete_model(request.name, request.etag)
        return empty_pb2.Empty()

    async def PushModel(self, requests: AsyncIterator[pb.PushModelRequest], _: Context) -> pb.ModelVersion:
        """A new version from an upload; nothing of it is seen before all of it is there and can be opened."""
        return self._message(await self._pushes.push(requests))

    async def DeriveModelVariant(self, request: pb.DeriveModelVariantRequest, _: Context) -> pb.ModelVersion:
        """A smaller version of a version, with what that did to its answers."""
        wish = Wish(
            request.parent,
            request.source,
            Precision[pb.ModelVariant.Precision.Name(request.precision)],
            request.model_id,
            tuple(request.samples),
            request.load,
            request.request_id,
        )
        return self._message(await self._variants.make(wish, provenance_of(pb.Source())))

    async def BeginModelUpload(self, request: pb.BeginModelUploadRequest, _: Context) -> pb.ModelUpload:
        """How far an upload has come, which begins where there is none."""
        return await self._pushes.begin(request)

    async def CancelModelUpload(self, request: pb.CancelModelUploadRequest, _: Context) -> empty_pb2.Empty:
        """One unfinished upload less."""
        await self._pushes.cancel(request)
        return empty_pb2.Empty()

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, _: Context) -> pb.ModelVersion:
        """One version."""
        return self._message(await self._catalogue.get(ModelVersion, request.name))

    async def ListModelVersions(self, request: pb.ListModelVersionsRequest, _: Context) -> pb.ListModelVersionsResponse:
        """A page of a model's versions."""
        await self._catalogue.get(Model, request.parent)
        versions, token = await self._versions.list(request.parent, request)
        shown = [self._message(await self._catalogue.get(ModelVersion, version.name)) for version in versions]
        return pb.ListModelVersionsResponse(model_versions=shown, next_page_token=token)

    async def DeleteModelVersion(self, request: pb.DeleteModelVersionRequest, _: Context) -> empty_pb2.Empty:
        """One version less."""
        await self._repository.lifecycle.delete_version(request.name, request.etag)
        return empty_pb2.Empty()

    async def LoadModelVersion(self, request: pb.LoadModelVersionRequest, _: Context) -> pb.ModelVersion:
        """A version in memory."""
        return self._message(await self._repository.lifecycle.load(request.name))

    async def UnloadModelVersion(self, request: pb.UnloadModelVersionRequest, _: Context) -> pb.ModelVersion:
        """A version out of memory."""
        return self._message(await self._repository.lifecycle.unload(request.name))

    def _with_serving(self, model: pb.Model) -> pb.Model:
        model.serving_version = self._repository.serving(model.name)
        return model

    def _message(self, entry: Entry[ModelVersion]) -> pb.ModelVersion:
        message = self._versions.message(entry)
        message.state = getattr(pb.ModelVersion, self._repository.state(entry))
        if message.state != pb.ModelVersion.FAILED:  # here; why it fails in another engine is not what is asked
            message.state_message = ""
        return message
