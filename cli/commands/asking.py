"""Commands of `models` that ask one: for vectors, labels, entities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import Message
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.commands.model_kind import KIND
from cli.commands.model_names import own_or_shipped
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_table

__all__ = ["ASKING"]

_SHOWN = 6
"""Numbers of a vector in a table."""


@dataclass(frozen=True, slots=True)
class _Asker:
    """Who asks which model, and how the answer is to be shown.

    Attributes:
        tenant: the tenant to act in.
        model: the model, as it was given.
        which: the field of a request that says which version of it.
        as_json: whether the whole answer is printed, as JSON.
    """

    home: Home
    tenant: str
    model: str
    which: Mapping[str, Any]
    as_json: bool

    def ask(
        self,
        send: Callable[[prediction_pb2_grpc.PredictionServiceStub], Callable[..., Any]],
        request: Any,  # noqa: ANN401 -- any generated request that has a `name`
        headings: Sequence[str],
        rows: Callable[[Any], Iterable[Sequence[object]]],
    ) -> None:
        """Send a request and print the answer.

        Args:
            send: the method of the service.
            request: what it takes, but for the model's name.
            headings: of the table; the last columns are left out where no row has anything in them.
            rows: the table's rows, of an answer.
        """

        def named(name: str) -> Message:
            request.name = name
            answer: Message = send(stub)(request, timeout=TIMEOUT_S)
            return answer

        owner, _, _ = KIND.split(self.tenant, self.model)
        with connect(self.home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
            answer = own_or_shipped(self.home, self.tenant, self.model, named)
        if self.as_json:
            print_json(as_json(answer))
            return
        cells = [tuple(map(str, row)) for row in rows(answer)]
        width = max((at for row in cells for at, cell in enumerate(row, 1) if cell), default=len(headings))
        print_table(headings[:width], [row[:width] for row in cells])


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Take MODEL and the options that every command here has; pass them on as `asker`."""

    @wraps(command)
    def ask(model: str, version: str, home: Home, tenant: str, output: str, **own: Any) -> None:  # noqa: ANN401
        which = {"version": int(version)} if version.isdecimal() else {"alias": version}
        command(_Asker(home, tenant, model, which, output == "json"), **own)

    taken: Callable[..., None] = ask
    which = click.option(
        "--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]"
    )
    for option in (output_option, home_option, tenant_option, which, click.argument("model")):
        taken = option(taken)
    return taken


_rows = click.option(
    "--row", "rows", multiple=True, help="Numbers with commas between them; may be given several times."
)
_records = click.option(
    "--record", "records", multiple=True, help="A JSON object of a row's values; may be given several times."
)

_explain = click.option(
    "--explain", is_flag=True, help="Say too what each value did, against the background rows; for the kind tabular."
)


@click.command()
@click.option("--text", "texts", multiple=True, required=True, help="A text; may be given several times.")
@_asking
def embed(asker: _Asker, texts: Sequence[str]) -> None:
    """Ask MODEL for the vectors of texts; a table shows their first numbers, --output json all of them.

    \b
    Example:
      tiation models embed all-minilm-l6-v2 --text "Where is my parcel?"
    """  # noqa: D301 -- \b is click's
    asker.ask(
        lambda stub: stub.Embed,
        prediction_pb2.EmbedRequest(**asker.which, texts=texts),
        ("text", "width", "vector"),
        lambda answer: (
            (text, len(vector.values), " ".join(f"{value:.4f}" for value in vector.values[:_SHOWN]) + " …")
            for text, vector in zip(texts, answer.embeddings, strict=True)
        ),
    )


@click.command()
@click.option("--text", "texts", multiple=True, help="A text; may be given several times.")
@click.option(
    "--image", "images", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PNG, JPEG or WebP file; may be given several times.",
)  # fmt: skip
@_rows
@_records
@click.option(
    "--label", "labels", multiple=True, help="A label to choose from, for a zero-shot model: NAME or NAME=WORDS."
)
@click.option("--multi-label", is_flag=True, help="Each label is true or false by itself, for a zero-shot model.")
@click.option("--top-k", default=0, help="How many labels to show for each, the chosen one among them.")
@_explain
@_asking
def classify(
    asker: _Asker,
    texts: Sequence[str],
    images: Sequence[Path],
    rows: Sequence[str],
    records: Sequence[str],
    labels: Sequence[str],
    top_k: int,
    *,
    multi_label: bool,
    explain: bool,
) -> None:
    """Ask MODEL for the labels of texts, images or rows.

    \b
    Example:
      tiation models classify digits --image seven.png --top-k 3
    """  # noqa: D301 -- \b is click's
    request = prediction_pb2.ClassifyRequest(
        **asker.which,
        texts=texts,
        images=[image.read_bytes() for image in images],
        rows=[prediction_pb2.Row(values=_numbers(row)) for row in rows],
        records=[_record(record) for record in records],
        top_k=top_k,
        labels=[_candidate(label) for label in labels],
        multi_label=multi_label or None,
        explain=explain,
    )
    titles = [*texts, *(image.name for image in images), *rows, *records]
    asker.ask(
        lambda stub: stub.Classify,
        request,
        ("item", "label", "score", "others", "because of"),
        lambda answer: (
            (title, found.label, f"{found.score:.3f}", _others(found), _reasons([found.explanation]))
            for title, found in zip(titles, answer.classifications, strict=True)
        ),
    )


def _others(found: prediction_pb2.Classification) -> str:
    """The labels that were not chosen, best first."""
    return ", ".join(f"{each.label} {each.score:.3f}" for each in found.scores if each.label != found.label)


def _numbers(text: str) -> list[float]:
    return [_cell(cell.strip(), text) for cell in text.split(",")]


def _cell(text: str, row: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.UsageError(f"--row `{row}`: `{text}` is no number") from None


def _candidate(text: str) -> prediction_pb2.CandidateLabel:
    label, _, description = text.partition("=")
    return prediction_pb2.CandidateLabel(label=label, description=description)


@click.command("extract-entities")
@click.option("--text", "texts", multiple=True, required=True, help="A text; may be given several times.")
@click.option("--min-score", default=0.0, help="What the model is less sure of is left out.")
@_asking
def extract_entities(asker: _Asker, texts: Sequence[str], min_score: float) -> None:
    """Ask MODEL for what has a name in texts; start and end count characters.

    \b
    Example:
      tiation models extract-entities people-and-places --text "Anna Smith moved to New York."
    """  # noqa: D301 -- \b is click's
    asker.ask(
        lambda stub: stub.ExtractEntities,
        prediction_pb2.ExtractEntitiesRequest(**asker.which, texts=texts, min_score=min_score),
        ("text", "label", "entity", "start", "end", "score"),
        lambda answer: (
            (at, each.label, each.text, each.start, each.end, f"{each.score:.3f}")
            for at, found in enumerate(answer.extractions, 1)
            for each in found.entities
        ),
    )


@click.command()
@click.option(
    "--image", "images", multiple=True, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PNG, JPEG or WebP file; may be given several times.",
)  # fmt: skip
@click.option("--min-score", type=float, help="What the model is less sure of is left out.  [default: its manifest's]")
@click.option("--max-detections", default=0, help="The most in an image.  [default: its manifest's]")
@_asking
def detect(asker: _Asker, images: Sequence[Path], min_score: float | None, max_detections: int) -> None:
    """Ask MODEL what is in images, and where, in pixels.

    \b
    Example:
      tiation models detect street-signs --image crossing.jpg --min-score 0.5
    """  # noqa: D301 -- \b is click's
    request = prediction_pb2.DetectRequest(
        **asker.which,
        images=[image.read_bytes() for image in images],
        min_score=min_score,
        max_detections=max_detections,
    )
    asker.ask(
        lambda stub: stub.Detect,
        request,
        ("image", "label", "score", "left", "top", "right", "bottom"),
        lambda answer: (
            (image.name, each.label, f"{each.score:.3f}", *(f"{side:.0f}" for side in _sides(each.box)))
            for image, found in zip(images, answer.results, strict=True)
            for each in found.detections
        ),
    )


def _sides(box: prediction_pb2.Box) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max


@click.command()
@_rows
@_records
@_explain
@_asking
def regress(asker: _Asker, rows: Sequence[str], records: Sequence[str], *, explain: bool) -> None:
    """Ask MODEL what rows come to.

    \b
    Example:
      tiation models regress house-prices --record '{"area": 84, "town": "Bern"}'
    """  # noqa: D301 -- \b is click's
    request = prediction_pb2.RegressRequest(
        **asker.which,
        rows=[prediction_pb2.Row(values=_numbers(row)) for row in rows],
        records=[_record(record) for record in records],
        explain=explain,
    )
    asker.ask(
        lambda stub: stub.Regress,
        request,
        ("row", "comes to", "because of"),
        lambda answer: (
            (title, " ".join(f"{value:g}" for value in found.values), _reasons(found.explanations))
            for title, found in zip([*rows, *records], answer.regressions, strict=True)
        ),
    )


def _reasons(explanations: Sequence[prediction_pb2.Explanation]) -> str:
    """What moved an answer, the most of it first."""
    moved = [each for why in explanations for each in why.attributions if each.value]
    moved.sort(key=lambda each: -abs(each.value))
    return ", ".join(f"{each.column} {each.value:+.4g}" for each in moved)


def _record(text: str) -> struct_pb2.Struct:
    try:
        return json_format.Parse(text, struct_pb2.Struct())
    except json_format.ParseError:
        raise click.UsageError(f'`{text}` is no JSON object; write `{{"area": 84}}`') from None


ASKING: Final = (embed, classify, extract_entities, detect, regress)
