"""`models profile`: how fast a model is under which load, and what to write in its manifest."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.commands.model_kind import KIND
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import print_json, print_table
from cli.profiling.advice import best_of, max_batch_of
from cli.profiling.load import Counted, Measured, counted, measure
from cli.profiling.samples import made_up

__all__ = ["profile"]

_DIFFERENT = 32
"""So many different requests are sent in turn."""
_CONCURRENCY = "1,2,4,8,16,32,64"
_BATCHES = "1,8"
_HEADINGS = ("concurrency", "batch", "items/s", "p50 ms", "p99 ms", "queue ms", "avg batch", "refused")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What shall be measured."""

    concurrency: Sequence[int]
    batches: Sequence[int]
    words: int
    shapes: Mapping[str, Sequence[int]]
    seconds: float
    limit_s: float


@click.command()
@click.argument("model")
@click.option("--concurrency", default=_CONCURRENCY, show_default=True, help="Clients at once, each after the other.")
@click.option("--batch", default=_BATCHES, show_default=True, help="Rows of a request.")
@click.option("--words", default=16, show_default=True, type=click.IntRange(1, 10_000), help="Words of a text.")
@click.option("--shape", "shapes", multiple=True, help="Further axes of an input that leaves them open: `x=3,224,224`.")
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1, 600), help="For each line.")
@click.option("--limit", default=120.0, show_default=True, type=click.FloatRange(1, 86_400), help="Seconds in all.")
@click.option(
    "--latency-ms", default=0.0, type=click.FloatRange(0), help="The longest p99 of the best.  [default: any]"
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
    shapes: Sequence[str],
    seconds: float,
    limit: float,
    latency_ms: float,
    version: str,
    home: Home,
    tenant: str,
    output: str,
) -> None:
    """Measure MODEL with more and more clients at once; say which load is best and what to write in its manifest.

    Requests are made up from what the model takes, and go through the front door like any other: whoever else asks the
    model meanwhile waits longer. Ctrl-C prints what is known.

    \b
    Example:
      tiation models profile tenants/system/models/all-minilm-l6-v2 --concurrency 1,8 --seconds 1
    """  # noqa: D301 -- \b is click's
    plan = _Plan(_whole(concurrency, "--concurrency"), _whole(batch, "--batch"), words, _shapes(shapes), seconds, limit)
    owner, _, name = KIND.split(tenant, model)
    lines: list[Measured] = []
    stopped = ""
    with connect(home, grpc_service_pb2_grpc.GRPCInferenceServiceStub, owner) as stub:
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version), timeout=TIMEOUT_S)
        config = stub.ModelConfig(pb.ModelConfigRequest(name=name, version=version), timeout=TIMEOUT_S).config
        before = after = counted(stub, name, version)
        try:
            for line in _swept(stub, plan, metadata, name, version, show=output == "table"):
                lines.append(line)
                after = counted(stub, name, version)
            if len(lines) < len(plan.concurrency) * len(plan.batches):
                stopped = f"{limit:g} s were over; --limit gives it more"
        except KeyboardInterrupt:
            stopped = "interrupted"
    _say(lines, after.since(before), config.max_batch_size, latency_ms, stopped, output)
    if stopped == "interrupted":
        raise click.exceptions.Exit(130)


def _swept(
    stub: Any,  # noqa: ANN401 -- see `connect`
    plan: _Plan,
    metadata: pb.ModelMetadataResponse,
    name: str,
    version: str,
    *,
    show: bool,
) -> Iterator[Measured]:
    """Line after line, as long as there is time."""
    ends = time.monotonic() + plan.limit_s
    loads = [(clients, batch) for batch in plan.batches for clients in plan.concurrency]
    with _progress(len(loads), show=show) as bar:
        for clients, batch in loads:
            left = ends - time.monotonic()
            if left <= 0:
                return
            bar.update(0, (clients, batch))
            requests = [
                made_up(metadata, batch, words=plan.words, seed=seed, shapes=plan.shapes) for seed in range(_DIFFERENT)
            ]
            for request in requests:
                request.model_name, request.model_version = name, version
            line = measure(
                stub, requests, lambda: counted(stub, name, version),
                concurrency=clients, batch=batch, seconds=min(plan.seconds, left),
            )  # fmt: skip
            bar.update(1, (clients, batch))
            if line is not None:
                yield line


def _progress(length: int, *, show: bool) -> Any:  # noqa: ANN401 -- click's own
    return click.progressbar(
        length=length,
        label="measuring",
        hidden=not show,
        file=sys.stderr,
        item_show_func=lambda load: "{} clients, {} rows".format(*load) if isinstance(load, tuple) else "",
    )


def _say(
    lines: Sequence[Measured], here: Counted, max_batch: int, latency_ms: float, stopped: str, output: str
) -> None:
    """Print the table, the best of it, and what to write."""
    best, worth = best_of(lines, latency_ms), max_batch_of(here.batches)
    manifest = ["scheduling:", f"  max_batch: {worth}"] if worth and worth < max_batch else []
    if output == "json":
        print_json(
            {
                "lines": [asdict(line) for line in lines],
                "best": asdict(best) if best else None,
                "manifest": manifest,
                "stopped": stopped,
            }
        )
        return
    print_table(_HEADINGS, [_row(line) for line in lines])
    if stopped:
        click.echo(f"\nNot all was measured: {stopped}")
    if best is None:
        click.echo(f"\nNo load has a p99 within {latency_ms:g} ms" if lines else "\nNothing was answered in time")
        return
    click.echo(
        f"\nBest: {best.concurrency} clients with {best.batch} rows a request: {best.items_per_s:.0f} rows a second, "
        f"p99 {best.p99_ms:.1f} ms"
    )
    if manifest:
        click.echo(f"Runs of more than {worth} rows are no faster a row. In model.yaml:\n")
        click.echo("\n".join(manifest))
    elif worth:
        click.echo(
            f"Its max_batch, {max_batch}, is right: the largest runs were the fastest a row, or as large as came"
        )


def _row(line: Measured) -> tuple[str, ...]:
    return (
        str(line.concurrency),
        str(line.batch),
        f"{line.items_per_s:.0f}",
        f"{line.p50_ms:.1f}",
        f"{line.p99_ms:.1f}",
        f"{line.queue_ms:.1f}",
        f"{line.average_batch:.1f}",
        str(line.refused),
    )


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
