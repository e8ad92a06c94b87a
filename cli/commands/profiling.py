"""`models profile`: how fast a model is under which load, and what to write in its manifest."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.commands.model_kind import KIND, SHIPPED_OF
from cli.commands.model_names import own_or_shipped
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import numbered
from cli.profiling.load import Counted, Measured, counted, measure
from cli.profiling.report import say_measured, say_written
from cli.profiling.samples import categories_of, made_up
from cli.profiling.writing import Written, measure_writing

__all__ = ["profile"]

A = TypeVar("A")
L = TypeVar("L")
_INTERRUPTED = "interrupted"
_DIFFERENT = 32
"""So many different requests are sent in turn."""
_CONCURRENCY = "1,2,4,8,16,32,64"
_BATCHES = "1,8"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What shall be measured, and how it is shown."""

    concurrency: Sequence[int]
    batches: Sequence[int]
    words: int
    tokens: int
    shapes: Mapping[str, Sequence[int]]
    seconds: float
    limit_s: float
    latency_ms: float
    output: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """The model that is measured.

    Attributes:
        stub: of the Open Inference Protocol.
        name: its full name.
        version: which version, or an alias; empty for the newest.
        metadata: what it takes.
        config: how it is configured.
    """

    stub: Any
    name: str
    version: str
    metadata: pb.ModelMetadataResponse
    config: Any

    def counted(self) -> Counted:
        """What the engine has counted of it."""
        return counted(self.stub, self.name, self.version)


@click.command()
@click.argument("model")
@click.option("--concurrency", default=_CONCURRENCY, show_default=True, help="Clients at once, each after the other.")
@click.option("--batch", default=_BATCHES, show_default=True, help="Rows of a request.")
@click.option("--words", default=16, show_default=True, type=click.IntRange(1, 10_000), help="Words of a text.")
@click.option(
    "--tokens",
    default=64,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="The most tokens of an answer, of a model that writes.",
)
@click.option("--shape", "shapes", multiple=True, help="Further axes of an input that leaves them open: `x=3,224,224`.")
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 600), help="For each line.")
@click.option("--limit", default=120.0, show_default=True, type=click.FloatRange(1, 86_400), help="Seconds in all.")
@click.option(
    "--latency-ms",
    default=0.0,
    type=click.FloatRange(0),
    help="The longest p99 of the best, to the first token where it writes.  [default: any]",
)
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def profile(
    model: str,
    *,
    concurrency: str,
    batch: str,
    words: int,
    tokens: int,
    shapes: Sequence[str],
    seconds: float,
    limit: float,
    latency_ms: float,
    version: str,
    home: Home,
    tenant: str,
    output: str,
) -> None:  # fmt: skip
    """Measure MODEL with more and more clients at once; say which load is best and what to write in its manifest.

    Requests are made up from what the model takes, and go through the front door like any other: whoever else asks the
    model meanwhile waits longer. Of a model that writes, tokens a second are measured and the time to the first. Ctrl-C
    prints what is known.

    \b
    Example:
      tiation models profile all-minilm-l6-v2 --concurrency 1,8 --seconds 1
    """  # noqa: D301 -- \b is click's
    plan = _Plan(
        _whole(concurrency, "--concurrency"), _whole(batch, "--batch"), words, tokens, _shapes(shapes), seconds, limit,
        latency_ms, output,
    )  # fmt: skip
    owner, _, _ = KIND.split(tenant, model)
    with connect(home, grpc_service_pb2_grpc.GRPCInferenceServiceStub, owner) as stub:
        asked = own_or_shipped(home, tenant, model, lambda name: _asked(stub, name, version))
        if not asked.config.model_transaction_policy.decoupled:
            stopped = _answering(asked, plan)
        else:
            with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as writer:
                stopped = _writing(writer, asked, plan)
    if stopped == _INTERRUPTED:
        raise click.exceptions.Exit(130)


def _asked(stub: Any, name: str, version: str) -> _Asked:  # noqa: ANN401 -- see `connect`
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version), timeout=TIMEOUT_S)
    config = stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version), timeout=TIMEOUT_S).config
    return _Asked(stub, name, version, metadata, config)


def _answering(asked: _Asked, plan: _Plan) -> str:
    """Measure a model that answers at once; say why not all of it was measured, if so."""
    loads = [(clients, batch) for batch in plan.batches for clients in plan.concurrency]
    categories = categories_of(asked.config)

    def line(load: tuple[int, int], seconds: float) -> Measured | None:
        clients, batch = load
        requests = [
            made_up(asked.metadata, batch, words=plan.words, seed=seed, shapes=plan.shapes, categories=categories)
            for seed in range(_DIFFERENT)
        ]
        for request in requests:
            request.model_name, request.model_version = asked.name, asked.version
        sequences = asked.config.HasField("sequence_batching")
        return measure(
            asked.stub, requests, asked.counted,
            concurrency=clients, batch=batch, seconds=seconds, sequences=sequences,
        )  # fmt: skip

    before = asked.counted()
    lines, stopped = _swept(
        plan, loads, line, lambda load: f"{numbered(load[0], 'client')}, {numbered(load[1], 'row')}"
    )
    say_measured(
        lines,
        asked.counted().since(before),
        max_batch=asked.config.max_batch_size,
        is_own=not asked.name.startswith(f"tenants/{SHIPPED_OF}/"),
        latency_ms=plan.latency_ms,
        stopped=stopped,
        output=plan.output,
    )
    return stopped


def _writing(writer: Any, asked: _Asked, plan: _Plan) -> str:  # noqa: ANN401 -- see `connect`
    """Measure a model that writes; say why not all of it was measured, if so."""
    if plan.shapes:
        raise click.UsageError("--shape goes with a model that takes tensors, and this one writes on from texts")
    which = {"version": int(asked.version)} if asked.version.isdecimal() else {"alias": asked.version}
    sampling = prediction_pb2.SamplingSettings(max_tokens=plan.tokens)
    request = prediction_pb2.GenerateRequest(name=asked.name, sampling=sampling, **which)

    def line(clients: int, seconds: float) -> Written | None:
        return measure_writing(writer, request, concurrency=clients, words=plan.words, seconds=seconds)

    lines, stopped = _swept(plan, list(plan.concurrency), line, lambda clients: numbered(clients, "reader"))
    say_written(lines, latency_ms=plan.latency_ms, stopped=stopped, output=plan.output)
    return stopped


def _swept(
    plan: _Plan,
    loads: Sequence[A],
    line: Callable[[A, float], L | None],
    words: Callable[[A], str],
) -> tuple[list[L], str]:
    """Line after line, as long as there is time.

    Args:
        plan: how long.
        loads: what is measured.
        line: measures one load for so many seconds; None where nothing was answered.
        words: a load as the progress shows it.

    Returns:
        The lines, and why there are no more; empty where all were measured.
    """
    found: list[L] = []
    ends = time.monotonic() + plan.limit_s
    bar: Any
    with click.progressbar(
        length=len(loads), label="measuring", hidden=plan.output != "table", file=sys.stderr,
        item_show_func=lambda load: "" if load is None else words(load),
    ) as bar:  # fmt: skip
        try:
            for load in loads:
                left = ends - time.monotonic()
                if left <= 0:
                    return found, f"{plan.limit_s:g} s were over; --limit gives it more"
                bar.update(0, load)
                measured = line(load, min(plan.seconds, left))
                bar.update(1, load)
                if measured is not None:
                    found.append(measured)
        except KeyboardInterrupt:
            return found, _INTERRUPTED
    if len(found) < len(loads):
        return found, "some loads were not answered in time; --seconds gives each more"
    return found, ""


def _whole(text: str, option: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and 1 <= int(part) <= 1024 for part in parts):
        raise click.UsageError(f"{option} `{text}`: write whole numbers from 1 to 1024 with commas between: 1,8,32")
    return list(map(int, parts))


def _shapes(texts: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for text in texts:
        name, equals, axes = text.partition("=")
        if not equals:
            raise click.UsageError(f"--shape `{text}`: write an input and its axes: x=3,224,224")
        found[name] = _whole(axes, "--shape")
    return found
