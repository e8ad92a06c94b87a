"""Prints what was measured: the table, the best of it, and what to write in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import click

from cli.output import numbered, print_json, print_table
from cli.profiling.advice import best_of, max_batch_of, run_times
from cli.profiling.load import Counted, Measured
from cli.profiling.writing import Written

__all__ = ["say_measured", "say_written"]

_SHOWN = 8
"""Sizes of runs in the second table."""


def say_measured(
    lines: Sequence[Measured],
    here: Counted,
    *,
    max_batch: int,
    is_own: bool,
    latency_ms: float,
    stopped: str,
    output: str,
) -> None:
    """Print the table of a model that answers at once, and its advice.

    Args:
        lines: the table.
        here: what the engine counted meanwhile.
        max_batch: the model's.
        is_own: whether its manifest can be changed.
        latency_ms: the longest p99 of the best; 0 for any.
        stopped: why not all was measured; empty where it was.
        output: `table` or `json`.
    """
    best, worth = best_of(lines, latency_ms), max_batch_of(here.batches, lines)
    times = run_times(here.batches)
    manifest = ["scheduling:", f"  max_batch: {worth}"] if is_own and worth and worth < max_batch else []
    if output == "json":
        print_json(
            {
                "lines": [asdict(line) for line in lines],
                "runs": [{"rows": rows, "ms_per_row": ms} for rows, ms in times.items()],
                "best": asdict(best) if best else None,
                "manifest": manifest,
                "stopped": stopped,
            }
        )
        return
    print_table(
        ("concurrency", "batch", "items/s", "p50 ms", "p99 ms", "queue ms", "avg batch", "refused"),
        [_row(line) for line in lines],
    )
    _say_runs(times, here)
    _say_stopped(stopped)
    if best is None:
        click.echo(f"\nNo load has a p99 within {latency_ms:g} ms" if lines else "\nNothing was answered in time")
        return
    click.echo(
        f"\nBest: {numbered(best.concurrency, 'client')} with {numbered(best.batch, 'row')} a request: "
        f"{best.items_per_s:.0f} rows a second, p99 {best.p99_ms:.1f} ms"
    )
    if manifest:
        click.echo(f"Runs of more than {numbered(worth or 0, 'row')} brought no more. In model.yaml:\n")
        click.echo("\n".join(manifest))


def say_written(lines: Sequence[Written], *, latency_ms: float, stopped: str, output: str) -> None:
    """Print the table of a model that writes, and the best of it; arguments as for `say_measured`."""
    best = best_of(lines, latency_ms)
    if output == "json":
        print_json(
            {
                "lines": [asdict(line) for line in lines],
                "best": asdict(best) if best else None,
                "manifest": [],
                "stopped": stopped,
            }
        )
        return
    print_table(
        ("concurrency", "tokens/s", "first p50 ms", "first p99 ms", "token ms", "answers", "refused"),
        [
            (
                line.concurrency, f"{line.tokens_per_s:.0f}", f"{line.first_p50_ms:.1f}", f"{line.first_p99_ms:.1f}",
                f"{line.token_ms:.2f}", line.answers, line.refused,
            )
            for line in lines
        ],
    )  # fmt: skip
    _say_stopped(stopped)
    if best is None:
        said = f"No load has its first token within {latency_ms:g} ms" if lines else "No answer began in time"
        click.echo(f"\n{said}")
        return
    click.echo(
        f"\nBest: {numbered(best.concurrency, 'reader')}: {best.tokens_per_s:.0f} tokens a second, the first within "
        f"{best.first_p99_ms:.1f} ms (p99)"
    )


def _say_runs(times: Mapping[int, float], here: Counted) -> None:
    """How long a row takes by the size of its run, of the sizes that came most."""
    most = sorted(times, key=lambda rows: -here.batches[rows][0])[:_SHOWN]
    if len(most) > 1:
        click.echo()
        print_table(
            ("rows of a run", "runs", "ms a row"),
            [(rows, here.batches[rows][0], f"{times[rows]:.3f}") for rows in sorted(most)],
        )


def _say_stopped(stopped: str) -> None:
    if stopped:
        click.echo(f"\nNot all was measured: {stopped}")


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
