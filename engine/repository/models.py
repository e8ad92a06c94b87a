"""Models and their versions, as they are kept and shown."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from engine.manifest import GraphManifest, Manifest
from engine.tensor import TensorSpec
from engine.variants.reports import VariantReport
from mesh.catalogue import Catalogue
from mesh.db import Transaction
from mesh.entries import Entry
from mesh.pagination import Page

__all__ = [
    "File",
    "Hold",
    "Model",
    "ModelCatalogue",
    "ModelVersion",
    "Provenance",
    "Spec",
    "VersionPolicy",
    "description",
    "instances_of",
    "loading_order",
    "version_name",
]

_ALL = Page(1_000_000, None)
"""A version's number is no higher."""


class File(msgspec.Struct, frozen=True):
    """One file of a version: name, bytes, SHA-256 in hexadecimal."""

    path: str
    size_bytes: int
    sha256: str


class Spec(msgspec.Struct, frozen=True):
    """An input or output; -1 stands for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which versions shall be in memory, where nobody says otherwise of one.

    Attributes:
        latest: the newest so many.
        versions: exactly these; None where that is not said.
        every: all of them.
    """

    latest: int = 1
    versions: tuple[int, ...] | None = None
    every: bool = False


class Model(msgspec.Struct, frozen=True):
    """A model.

    Attributes:
        latest: its newest version.
        policy: which of its versions shall be in memory.
        aliases: names for versions: of each the versions, and what share of the requests each gets.
    """

    latest: int = 0
    policy: VersionPolicy = VersionPolicy()
    aliases: dict[str, dict[int, int]] = {}


class Hold(StrEnum):
    """What an operator has said of one version, against the policy; it holds until the policy changes."""

    NONE = ""
    LOADED = "load"
    UNLOADED = "unload"


class Provenance(msgspec.Struct, frozen=True):
    """Where a version comes from.

    Attributes:
        subject: who pushed it, `tenants/{tenant}/principals/{principal}`.
        actor: the agent that did it for them; empty where they did it themselves.
        run: the run in which it did; empty outside runs.
        client: the program that pushed it, as it calls itself.
        source_uri: where its files come from, as the caller says.
        source_revision: which state of that, a git commit for example, as the caller says.
        key_id: of the key with which its files are signed; empty where that was not checked.
    """

    subject: str = ""
    actor: str = ""
    run: str = ""
    client: str = ""
    source_uri: str = ""
    source_revision: str = ""
    key_id: str = ""


class ModelVersion(msgspec.Struct, frozen=True):
    """One version.

    Attributes:
        kind: of its manifest.
        files: what was pushed.
        inputs: what it takes.
        outputs: what it gives.
        wanted: whether it shall be in memory, as policy, aliases and operators say together.
        hold: what an operator has said of it alone.
        failure: why it is not, though it shall be.
        inferred: what its manifest left out and its files told, as lines of the manifest.
        depth: how many ensembles stand above each other in it; 0 for a model that is none.
        request_id: of the push that made it; the same one again makes no other.
        provenance: where it comes from.
        variant: how it was made of another version; None where it was pushed.
        instances: the device of each session that its manifest asks for; none where it leaves that to the engine.
    """

    kind: str
    files: tuple[File, ...]
    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()
    wanted: bool = True
    hold: Hold = Hold.NONE
    failure: str = ""
    inferred: tuple[str, ...] = ()
    depth: int = 0
    request_id: str = ""
    provenance: Provenance = Provenance()
    variant: VariantReport | None = None
    instances: tuple[str, ...] = ()


class ModelCatalogue(Catalogue):
    """Keeps models; a model's versions go with it."""

    async def versions_of(self, model: str) -> list[Entry[ModelVersion]]:
        """Every version of a model."""
        return await self.page(ModelVersion, model, _ALL)

    async def versions_in(self, tenant: str) -> list[Entry[ModelVersion]]:
        """Every version of every model of a tenant, by name."""
        return await self._database.read(lambda transaction: self._rows.in_tenant(transaction, ModelVersion, tenant))

    def wrote(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Have a new version's model know of it, in the transaction that keeps the version."""
        if not isinstance(entry.body, ModelVersion) or entry.revision != 1:
            return
        name, number = entry.name.rsplit("/versions/", 1)
        model = self._rows.get(transaction, Model, name)
        if model is None:
            made = Entry(name, str(uuid.uuid4()), 1, entry.create_time, entry.create_time, Model(int(number)))
            self._rows.add(transaction, made)
        elif int(number) > model.body.latest:
            body = msgspec.structs.replace(model.body, latest=int(number))
            changed = replace(model, body=body, revision=model.revision + 1, update_time=entry.create_time)
            self._rows.replace(transaction, changed, model.revision)

    def deleting(self, transaction: Transaction, entry: Entry[Any]) -> None:
        """Bury the versions in the transaction that buries their model."""
        if isinstance(entry.body, Model):
            for version in self._rows.below(transaction, ModelVersion, entry.name, _ALL):
                self._rows.bury(transaction, ModelVersion, version.name, forever=False)


def version_name(model: str, version: int) -> str:
    """The name of a model's version."""
    return f"{model}/versions/{version}"


class _Described(Protocol):
    """What a model in memory says of itself."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""

    @property
    def inferred(self) -> Sequence[str]:
        """What its manifest left out."""


def description(manifest: Manifest, model: _Described, files: Sequence[File], **said: Any) -> ModelVersion:  # noqa: ANN401
    """What is kept of a version that was opened; `said` are further fields."""
    inputs, outputs = (
        tuple(Spec(spec.name, spec.datatype, tuple(spec.shape)) for spec in specs)
        for specs in (model.inputs, model.outputs)
    )
    kind = str(manifest.__struct_config__.tag)
    return ModelVersion(
        kind,
        tuple(files),
        inputs,
        outputs,
        inferred=tuple(model.inferred),
        depth=int(getattr(model, "depth", 0)),
        instances=instances_of(manifest),
        **said,
    )


def instances_of(manifest: Manifest) -> tuple[str, ...]:
    """The device of each session that a manifest asks for; none where it leaves that to the engine."""
    return manifest.scheduling.devices if isinstance(manifest, GraphManifest) else ()


def loading_order(entry: Entry[ModelVersion]) -> int:
    """What others stand on comes first."""
    if entry.body.kind == "ensemble":
        return 10 + entry.body.depth
    return {"onnx": 0, "text-embedding": 1, "text-classification": 2}.get(entry.body.kind, 3)
