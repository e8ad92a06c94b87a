"""Commands of `models` that ask one: for vectors, labels, entities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf import json_format, struct_pb2
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.commands.model_kind import KIND
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_table

__all__ = ["ASKING"]

_SHOWN = 6
"""Numbers of a vector in a table."""


@click.command()
@click.argument("model")
@click.option("--text", "texts", multiple=True, required=True, help="A text; may be given several times.")
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def embed(model: str, texts: Sequence[str], version: str, home: Home, tenant: str, output: str) -> None:
    """Ask MODEL for the vectors of texts; a table shows their first numbers, --output json all of them.

    \b
    Example:
      tiation models embed tenants/system/models/all-minilm-l6-v2 --text "Where is my parcel?"
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.EmbedRequest(name=name, **_version(version), texts=texts)
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        answer = stub.Embed(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    print_table(
        ("text", "width", "vector"),
        [
            (text, len(vector.values), " ".join(f"{value:.4f}" for value in vector.values[:_SHOWN]) + " …")
            for text, vector in zip(texts, answer.embeddings, strict=True)
        ],
    )


@click.command()
@click.argument("model")
@click.option("--text", "texts", multiple=True, help="A text; may be given several times.")
@click.option(
    "--image", "images", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PNG, JPEG or WebP file; may be given several times.",
)  # fmt: skip
@click.option("--row", "rows", multiple=True, help="Numbers with commas between them; may be given several times.")
@click.option("--record", "records", multiple=True, help="A JSON object of a row's values; may be given several times.")
@click.option(
    "--label", "labels", multiple=True, help="A label to choose from, for a zero-shot model: NAME or NAME=WORDS."
)
@click.option("--multi-label", is_flag=True, help="Each label is true or false by itself, for a zero-shot model.")
@click.option("--top-k", default=0, help="How many labels to show for each, best first.")
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def classify(
    model: str,
    texts: Sequence[str],
    images: Sequence[Path],
    rows: Sequence[str],
    records: Sequence[str],
    labels: Sequence[str],
    top_k: int,
    version: str,
    home: Home,
    tenant: str,
    *,
    multi_label: bool,
    output: str,
) -> None:
    """Ask MODEL for the labels of texts, images or rows.

    \b
    Example:
      tiation models classify tenants/system/models/digits --image seven.png --top-k 3
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.ClassifyRequest(
        name=name,
        texts=texts,
        images=[image.read_bytes() for image in images],
        rows=[prediction_pb2.Row(values=_numbers(row)) for row in rows],
        records=[_record(record) for record in records],
        top_k=top_k,
        labels=[_candidate(label) for label in labels],
        multi_label=multi_label or None,
        **_version(version),
    )
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        answer = stub.Classify(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    titles = [*texts, *(image.name for image in images), *rows, *records]
    print_table(
        ("item", "label", "score", "others"),
        [
            (
                title,
                found.label,
                f"{found.score:.3f}",
                " ".join(f"{each.label} {each.score:.3f}" for each in found.scores),
            )
            for title, found in zip(titles, answer.classifications, strict=True)
        ],
    )


def _version(said: str) -> dict[str, Any]:
    """The field of a request that says which version: a number's or an alias'."""
    return {"version": int(said)} if said.isdecimal() else {"alias": said}


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"`{text}` is no row of numbers; write `5.1,3.5,1.4`") from None


def _candidate(text: str) -> prediction_pb2.CandidateLabel:
    label, _, description = text.partition("=")
    return prediction_pb2.CandidateLabel(label=label, description=description)


@click.command("extract-entities")
@click.argument("model")
@click.option("--text", "texts", multiple=True, required=True, help="A text; may be given several times.")
@click.option("--min-score", default=0.0, help="What the model is less sure of is left out.")
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def extract_entities(
    model: str, texts: Sequence[str], min_score: float, version: str, home: Home, tenant: str, output: str
) -> None:
    """Ask MODEL for what has a name in texts; start and end count characters.

    \b
    Example:
      tiation models extract-entities people-and-places --text "Anna Smith moved to New York."
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.ExtractEntitiesRequest(name=name, **_version(version), texts=texts, min_score=min_score)
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        answer = stub.ExtractEntities(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    print_table(
        ("text", "label", "entity", "start", "end", "score"),
        [
            (at, each.label, each.text, each.start, each.end, f"{each.score:.3f}")
            for at, found in enumerate(answer.extractions, 1)
            for each in found.entities
        ],
    )


@click.command()
@click.argument("model")
@click.option(
    "--image", "images", multiple=True, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PNG, JPEG or WebP file; may be given several times.",
)  # fmt: skip
@click.option("--min-score", type=float, help="What the model is less sure of is left out.  [default: its manifest's]")
@click.option("--max-detections", default=0, help="The most in an image.  [default: its manifest's]")
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def detect(
    model: str,
    images: Sequence[Path],
    min_score: float | None,
    max_detections: int,
    version: str,
    home: Home,
    tenant: str,
    output: str,
) -> None:
    """Ask MODEL what is in images, and where, in pixels.

    \b
    Example:
      tiation models detect street-signs --image crossing.jpg --min-score 0.5
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.DetectRequest(
        name=name,
        **_version(version),
        images=[image.read_bytes() for image in images],
        min_score=min_score,
        max_detections=max_detections,
    )
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        answer = stub.Detect(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    print_table(
        ("image", "label", "score", "left", "top", "right", "bottom"),
        [
            (image.name, each.label, f"{each.score:.3f}", *(f"{side:.0f}" for side in _sides(each.box)))
            for image, found in zip(images, answer.results, strict=True)
            for each in found.detections
        ],
    )


def _sides(box: prediction_pb2.Box) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


@click.command()
@click.argument("model")
@click.option("--row", "rows", multiple=True, help="Numbers with commas between them; may be given several times.")
@click.option("--record", "records", multiple=True, help="A JSON object of a row's values; may be given several times.")
@click.option("--explain", is_flag=True, help="Say too what each value did, against the model's background rows.")
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def regress(
    model: str,
    rows: Sequence[str],
    records: Sequence[str],
    version: str,
    home: Home,
    tenant: str,
    *,
    explain: bool,
    output: str,
) -> None:
    """Ask MODEL what rows come to.

    \b
    Example:
      tiation models regress house-prices --record '{"area": 84, "town": "Bern"}'
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.RegressRequest(
        name=name,
        **_version(version),
        rows=[prediction_pb2.Row(values=_numbers(row)) for row in rows],
        records=[_record(record) for record in records],
        explain=explain,
    )
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        answer = stub.Regress(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    print_table(
        ("row", "comes to", "because of"),
        [
            (title, " ".join(f"{value:g}" for value in found.values), _reasons(found.explanations))
            for title, found in zip([*rows, *records], answer.regressions, strict=True)
        ],
    )


def _reasons(explanations: Sequence[prediction_pb2.Explanation]) -> str:
    """What moved an answer, the most of it first."""
    moved = [each for why in explanations for each in why.attributions if each.value]
    moved.sort(key=lambda each: -abs(each.value))
    return " ".join(f"{each.column} {each.value:+.4g}" for each in moved)


def _record(text: str) -> struct_pb2.Struct:
    try:
        return json_format.Parse(text, struct_pb2.Struct())
    except json_format.ParseError:
        raise click.UsageError(f'`{text}` is no JSON object; write `{{"area": 84}}`') from None


ASKING: Final = (embed, classify, extract_entities, detect, regress)
