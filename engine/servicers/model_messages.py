"""Models and versions between the contract's messages and the repository's own types."""

from __future__ import annotations

import msgspec
from google.protobuf.field_mask_pb2 import FieldMask
from tiation.engine.v1 import model_pb2 as pb

from engine.repository.changes import ModelChange
from engine.repository.models import Model, ModelVersion, VersionPolicy
from engine.variants.reports import VariantReport
from mesh.masks import masked_fields

__all__ = ["read_change", "show_model", "show_version"]

_CHANGEABLE = ("labels", "version_policy", "aliases")


def show_model(body: Model) -> pb.Model:
    """A model's own fields."""
    message = pb.Model(latest_version=body.latest)
    policy = body.policy
    if policy.every:
        message.version_policy.all.SetInParent()
    elif policy.versions is not None:
        message.version_policy.specific.versions.extend(policy.versions)
        message.version_policy.specific.SetInParent()
    else:
        message.version_policy.latest.count = policy.latest
    for alias, weights in body.aliases.items():
        message.aliases[alias].weights.update(weights)
    return message


def read_change(sent: pb.Model, mask: FieldMask, *, validate_only: bool) -> ModelChange:
    """What an update changes.

    Raises:
        InvalidError: the mask names a field that may not be changed.
    """
    fields = masked_fields(sent, mask, _CHANGEABLE)
    return ModelChange(
        policy=_policy(sent.version_policy) if "version_policy" in fields else None,
        aliases={name: dict(alias.weights) for name, alias in sent.aliases.items()} if "aliases" in fields else None,
        labels=dict(sent.labels) if "labels" in fields else None,
        validate_only=validate_only,
    )


def show_version(body: ModelVersion) -> pb.ModelVersion:
    """A version's own fields; its state is the repository's."""
    message = pb.ModelVersion(kind=body.kind, state_message=body.failure, inferred=body.inferred)
    came = body.provenance
    message.provenance.subject, message.provenance.actor, message.provenance.run = came.subject, came.actor, came.run
    message.provenance.client, message.provenance.signature_key_id = came.client, came.key_id
    message.provenance.source.uri, message.provenance.source.revision = came.source_uri, came.source_revision
    if body.variant is not None:
        message.variant.CopyFrom(_variant(body.variant))
    for file in body.files:
        message.files.add(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)
    for spec in body.inputs:
        message.inputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    for spec in body.outputs:
        message.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    return message


def _variant(report: VariantReport) -> pb.ModelVariant:
    message = pb.ModelVariant(
        source=report.source,
        precision=report.precision.name,
        rows=report.rows,
        made_up=report.made_up,
        source_bytes=report.source_bytes,
        size_bytes=report.size_bytes,
        source_ms=report.source_ms,
        own_ms=report.own_ms,
        device=report.device,
    )
    for output in report.outputs:
        message.outputs.add(**msgspec.structs.asdict(output))
    return message


def _policy(sent: pb.VersionPolicy) -> VersionPolicy:
    match sent.WhichOneof("choice"):
        case "all":
            return VersionPolicy(every=True)
        case "specific":
            return VersionPolicy(versions=tuple(sorted(sent.specific.versions)))
        case _:
            return VersionPolicy(latest=sent.latest.count or 1)
