"""`rank`: which of several alternatives is best by several criteria."""

from __future__ import annotations

from pathlib import Path

import click
from tiation.engine.v1 import ranking_pb2 as pb
from tiation.engine.v1 import ranking_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.document import open_document
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_table

__all__ = ["rank"]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--topsis", is_flag=True, help="By TOPSIS, whatever FILE says.")
@tenant_option
@home_option
@output_option
def rank(file: Path, home: Home, tenant: str, *, topsis: bool, output: str) -> None:
    """Order the alternatives in FILE, which holds `criteria` and `alternatives` as YAML or JSON.

    Says why the first is first, and which other weight of each criterion would make another one the best.

    \b
    Example:
      tiation rank examples/supplier-choice/suppliers.yaml
    """  # noqa: D301 -- \b is click's
    request = open_document(file).fill(pb.RankRequest())
    request.parent = f"tenants/{tenant}"
    if topsis:
        request.method = pb.RankRequest.TOPSIS
    with connect(home, ranking_pb2_grpc.RankingServiceStub, tenant) as stub:
        answer = stub.Rank(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    print_table(
        ("place", "alternative", "score", "places when weights vary", "first"),
        [
            (each.place, each.name, f"{each.score:.3f}", f"{each.best_place} to {each.worst_place}", _share(each))
            for each in answer.ranked
        ],
    )
    click.echo(f"\n{answer.text}\n")
    print_table(
        ("criterion", "weight", "another is best from"),
        [(each.criterion, f"{each.weight:.3f}", _turn(each)) for each in answer.sensitivities],
    )


def _share(ranked: pb.Ranked) -> str:
    return f"{100 * ranked.first_share:.0f} %"


def _turn(found: pb.Sensitivity) -> str:
    return f"{found.new_weight:.3f}: {found.new_winner}" if found.changes else "-"
