"""What the Open Inference Protocol tells of what was counted, and of the server's settings."""

from __future__ import annotations

from dataclasses import dataclass

from inference import grpc_service_pb2 as pb

from engine.durations import Duration
from engine.repository.loaded import Loaded

__all__ = ["Facts", "statistics_of"]


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
    for place, responses in loaded.figures.responses.statistics().items():
        answer.response_stats[str(place)].CopyFrom(
            pb.InferResponseStatistics(
                compute_infer=_duration(responses.compute_infer),
                compute_output=_duration(responses.compute_output),
                success=_duration(responses.success),
                fail=_duration(responses.fail),
                empty_response=_duration(responses.empty_response),
                cancel=_duration(responses.cancel),
            )
        )
    return answer


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
