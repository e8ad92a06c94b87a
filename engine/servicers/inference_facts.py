"""What the Open Inference Protocol tells of models and of the server: configurations, statistics, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference import grpc_service_pb2 as pb
from inference import model_config_pb2 as config_pb

from engine.ensembles.references import source_of
from engine.figures import Duration
from engine.manifest import EnsembleManifest
from engine.repository.repository import Loaded
from engine.scheduler.policy import BatchPolicy
from engine.servables import Batching, SequenceModel
from engine.tensor import TensorSpec

__all__ = ["Facts", "config_of", "statistics_of"]

_TYPES: Mapping[str, str] = {"BYTES": "TYPE_STRING"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the operator has set, as far as the protocol has words for it.

    Attributes:
        device: where models run, `cpu` or `cuda`.
        log_level: debug, info, warning or error.
        traced: whether spans are sent.
        sample_ratio: share of the traces that are kept.
    """

    device: str
    log_level: str
    traced: bool
    sample_ratio: float

    def trace_settings(self) -> pb.TraceSettingResponse:
        """How requests are traced, under Triton's names."""
        rate = round(1 / self.sample_ratio) if self.traced and self.sample_ratio else 0
        answer = pb.TraceSettingResponse()
        for name, value in (
            ("trace_level", "TIMESTAMPS" if rate else "OFF"),
            ("trace_rate", str(rate)),
            ("trace_count", "-1"),
            ("log_frequency", "0"),
            ("trace_mode", "opentelemetry"),
        ):
            answer.settings[name].value.append(value)
        return answer

    def log_settings(self) -> pb.LogSettingsResponse:
        """What is logged, under Triton's names."""
        answer = pb.LogSettingsResponse()
        shown = {"error": 0, "warning": 1, "info": 2, "debug": 3}[self.log_level]
        answer.settings["log_error"].bool_param = True
        answer.settings["log_warning"].bool_param = shown >= 1
        answer.settings["log_info"].bool_param = shown >= 2
        answer.settings["log_verbose_level"].uint32_param = int(shown >= 3)
        answer.settings["log_file"].string_param = ""
        answer.settings["log_format"].string_param = "ecs-json"
        return answer


def config_of(name: str, loaded: Loaded, versions: list[int], facts: Facts) -> config_pb.ModelConfig:
    """How a model is configured.

    Args:
        name: by which it was asked for.
        loaded: one of its versions.
        versions: those of its versions that are in memory.
        facts: of the engine.
    """
    servable, manifest = loaded.servable, loaded.manifest
    policy = servable.policy if isinstance(servable, Batching) else None
    rows = policy.max_rows if policy is not None else 0
    config = config_pb.ModelConfig(
        name=name,
        platform=servable.platform,
        backend=servable.platform,
        max_batch_size=rows,
        default_model_filename=getattr(manifest, "file", None) or "",
    )
    config.version_policy.specific.versions.extend(versions)
    for spec in servable.inputs:
        config.input.add(name=spec.name, data_type=_data_type(spec), dims=_dims(spec, rows))
    for spec in servable.outputs:
        config.output.add(name=spec.name, data_type=_data_type(spec), dims=_dims(spec, rows))
    if isinstance(servable, SequenceModel):
        config.sequence_batching.CopyFrom(_sequences(servable, rows))
    elif isinstance(manifest, EnsembleManifest):
        config.ensemble_scheduling.CopyFrom(_ensemble(manifest))
    elif policy is not None:
        config.dynamic_batching.CopyFrom(_batching(policy))
    kind = config_pb.ModelInstanceGroup.KIND_GPU if facts.device == "cuda" else config_pb.ModelInstanceGroup.KIND_CPU
    config.instance_group.add(name=name, kind=kind, count=1)
    config.model_transaction_policy.decoupled = False
    config.response_cache.enable = loaded.answers is not None
    config.parameters["kind"].string_value = str(manifest.__struct_config__.tag)
    return config


def _sequences(servable: SequenceModel, rows: int) -> config_pb.ModelSequenceBatching:
    """What a model remembers from step to step."""
    made = config_pb.ModelSequenceBatching(max_sequence_idle_microseconds=round(servable.running.max_idle_s * 1e6))
    made.oldest.max_candidate_sequences = servable.running.max_sequences
    made.oldest.preserve_ordering = True
    for state, spec in servable.states:
        made.state.add(
            input_name=state.input, output_name=state.output, data_type=_data_type(spec), dims=_dims(spec, rows)
        )
    return made


def _ensemble(manifest: EnsembleManifest) -> config_pb.ModelEnsembling:
    """The steps of an ensemble; a tensor between two is called as the manifest refers to it, `step.output`."""
    made = config_pb.ModelEnsembling()
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


def statistics_of(name: str, loaded: Loaded) -> pb.ModelStatistics:
    """What was counted of a version.

    Args:
        name: by which the caller finds it.
        loaded: the version.
    """
    now = loaded.figures.statistics()
    answer = pb.ModelStatistics(
        name=name,
        version=str(loaded.version),
        last_inference=now.last_inference_ms,
        inference_count=now.inferences,
        execution_count=now.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(now.success),
            fail=_duration(now.fail),
            queue=_duration(now.queue),
            compute_input=_duration(now.compute_input),
            compute_infer=_duration(now.compute_infer),
            compute_output=_duration(now.compute_output),
            cache_hit=_duration(now.cache_hit),
            cache_miss=_duration(now.cache_miss),
        ),
    )
    for batch in now.batches:
        answer.batch_stats.add(
            batch_size=batch.rows,
            compute_input=_duration(batch.compute_input),
            compute_infer=_duration(batch.compute_infer),
            compute_output=_duration(batch.compute_output),
        )
    return answer


def _batching(policy: BatchPolicy) -> config_pb.ModelDynamicBatching:
    """How requests are put together; each priority that has a queue of its own says how they wait in it."""
    made = config_pb.ModelDynamicBatching(
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


def _queue(max_waiting: int, timeout_s: float) -> config_pb.ModelQueuePolicy:
    return config_pb.ModelQueuePolicy(
        default_timeout_microseconds=round(timeout_s * 1e6), allow_timeout_override=True, max_queue_size=max_waiting
    )


def _data_type(spec: TensorSpec) -> str:
    return _TYPES.get(spec.datatype, f"TYPE_{spec.datatype}")


def _dims(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    """The shape; where requests share batches, without the batch's axis."""
    return spec.shape[1:] if rows else spec.shape


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
