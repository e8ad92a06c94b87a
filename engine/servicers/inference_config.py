"""How a model is configured, in the words of Triton's clients: what its manifest says, and what was found at load."""

from __future__ import annotations

import json
from collections.abc import Sequence

from inference import model_config_pb2 as pb

from engine.ensembles.references import source_of
from engine.manifest import EnsembleManifest
from engine.repository.loaded import Loaded
from engine.repository.models import VersionPolicy
from engine.scheduler.policy import BatchPolicy
from engine.servables import SequenceModel, Servable, TabularModel, TextGenerator
from engine.servicers.inference_texts import specs_of
from engine.tensor import TensorSpec

__all__ = ["config_of", "platform_of"]

_GPU, _CPU = pb.ModelInstanceGroup.KIND_GPU, pb.ModelInstanceGroup.KIND_CPU


def config_of(name: str, loaded: Loaded, versions: VersionPolicy, device: str) -> pb.ModelConfig:
    """How a model is configured.

    Args:
        name: by which it was asked for.
        loaded: one of its versions.
        versions: which of them shall be in memory.
        device: where models run that do not say.
    """
    servable, manifest = loaded.servable, loaded.manifest
    policy = servable.policy
    rows = policy.max_rows if policy is not None else 0
    config = pb.ModelConfig(
        name=name,
        platform=platform_of(servable),
        backend=servable.platform,
        max_batch_size=rows,
        default_model_filename=getattr(manifest, "file", None) or "",
        version_policy=_versions(versions),
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=isinstance(servable, TextGenerator)),
        response_cache=pb.ModelResponseCache(enable=loaded.answers is not None),
    )
    for spec in specs_of(servable):
        free = spec not in servable.inputs
        config.input.add(name=spec.name, data_type=_data_type(spec.datatype), dims=_dims(spec, rows), optional=free)
    for spec in servable.outputs:
        config.output.add(name=spec.name, data_type=_data_type(spec.datatype), dims=_dims(spec, rows))
    if isinstance(manifest, EnsembleManifest):
        config.ensemble_scheduling.CopyFrom(_ensemble(manifest))
    elif isinstance(servable, SequenceModel):
        config.sequence_batching.CopyFrom(_sequences(servable, rows))
    elif policy is not None:
        config.dynamic_batching.CopyFrom(_batching(policy))
    if not isinstance(manifest, EnsembleManifest):
        config.instance_group.extend(_instances(name, policy.instances if policy is not None else (), device))
    config.parameters["kind"].string_value = str(manifest.__struct_config__.tag)
    if isinstance(servable, TabularModel):
        config.parameters["columns"].string_value = _columns(servable)
    return config


def platform_of(servable: Servable) -> str:
    """What computes a model, with the format of its file as the protocol names platforms."""
    return "onnxruntime_onnx" if servable.platform == "onnxruntime" else servable.platform


def _versions(policy: VersionPolicy) -> pb.ModelVersionPolicy:
    if policy.every:
        return pb.ModelVersionPolicy(all=pb.ModelVersionPolicy.All())
    if policy.versions is not None:
        return pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=policy.versions))
    return pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=policy.latest))


def _batching(policy: BatchPolicy) -> pb.ModelDynamicBatching:
    """How requests are put together; where there are several priorities, each says how they wait at it."""
    made = pb.ModelDynamicBatching(
        preferred_batch_size=policy.preferred_rows,
        max_queue_delay_microseconds=round(policy.max_delay_s * 1e6),
        default_queue_policy=_queue(policy.max_waiting, policy.timeout_s),
    )
    if len(policy.levels) > 1:
        made.priority_levels, made.default_priority_level = len(policy.levels), policy.default_level
        for number, level in enumerate(policy.levels, 1):
            queue = _queue(level.max_waiting or policy.max_waiting, level.timeout_s or policy.timeout_s)
            made.priority_queue_policy[number].CopyFrom(queue)
    return made


def _queue(max_waiting: int, timeout_s: float) -> pb.ModelQueuePolicy:
    return pb.ModelQueuePolicy(
        default_timeout_microseconds=round(timeout_s * 1e6), allow_timeout_override=True, max_queue_size=max_waiting
    )


def _sequences(servable: SequenceModel, rows: int) -> pb.ModelSequenceBatching:
    """What a model remembers from step to step."""
    made = pb.ModelSequenceBatching(max_sequence_idle_microseconds=round(servable.running.max_idle_s * 1e6))
    made.oldest.max_candidate_sequences = servable.running.max_sequences
    made.oldest.preserve_ordering = True
    for state, spec in servable.states:
        made.state.add(
            input_name=state.input,
            output_name=state.output,
            data_type=_data_type(spec.datatype),
            dims=_dims(spec, rows),
        )
    return made


def _columns(servable: TabularModel) -> str:
    """The columns of a table in the order of the inputs, as JSON: `[{"name": …, "input": …, "categories": […]}]`."""
    found: list[dict[str, object]] = []
    for each in servable.columns.places:
        held = {"categories": each.column.categories} if each.column.categories else {}
        found.append({"name": each.column.name, "input": each.spec.name, **held})
    return json.dumps(found, ensure_ascii=False)


def _ensemble(manifest: EnsembleManifest) -> pb.ModelEnsembling:
    """The steps of an ensemble; a tensor between two is called as the manifest refers to it, `step.output`."""
    made = pb.ModelEnsembling()
    given = {reference: name for name, reference in manifest.outputs.items()}
    wires = [reference for step in manifest.steps for reference in step.inputs.values()]
    for step in manifest.steps:
        version = step.version if isinstance(step.version, int) else -1
        added = made.step.add(model_name=step.model, model_version=version)
        added.input_map.update({name: given.get(reference, reference) for name, reference in step.inputs.items()})
        for reference in (*wires, *given):
            source = source_of(reference)
            if source.step == step.called:
                added.output_map[source.tensor] = given.get(reference, reference)
    return made


def _instances(name: str, devices: Sequence[str], device: str) -> list[pb.ModelInstanceGroup]:
    """A group for each device, with as many sessions as there are on it."""
    named = [each or device for each in devices] or [device]
    groups = []
    for each in dict.fromkeys(named):
        kind, _, number = each.partition(":")
        gpus = [int(number or 0)] if kind != "cpu" else []
        group = pb.ModelInstanceGroup(name=f"{name}-{each}", kind=_GPU if gpus else _CPU, gpus=gpus)
        group.count = named.count(each)
        groups.append(group)
    return groups


def _data_type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _dims(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    """The shape; where requests share batches, without the batch's axis."""
    return spec.shape[1:] if rows else spec.shape
