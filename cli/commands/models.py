"""`models`: what agents think with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc, prediction_pb2, prediction_pb2_grpc

from cli.client import TIMEOUT_S, FileError, connect
from cli.document import open_document
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from cli.resources import Kind, add_looking

__all__ = ["models"]

_PIECE_BYTES = 512 * 1024
_PUSH_TIMEOUT_S = 600.0
_SHOWN = 6
"""Numbers of a vector in a table."""


KIND = Kind(
    pb, model_pb2_grpc.ModelServiceStub, "Model", "model", "models", "models",
    ("model", "newest", "serving"), lambda model: (model.name, model.latest_version, model.serving_version or "-"),
)  # fmt: skip


@click.group()
def models() -> None:
    """Bring models, and ask them. Those that ship with the platform are those of `--tenant system`."""


@models.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="", help="The model's id.  [default: `name` in model.yaml]")
@click.option("--no-load", is_flag=True, help="Store the version without loading it.")
@tenant_option
@home_option
@output_option
def push(folder: Path, name: str, home: Home, tenant: str, *, no_load: bool, output: str) -> None:
    """Upload FOLDER, which holds model.yaml and the files it names, as a new version of a model.

    \b
    Example:
      tiation models push examples/support-triage/support-intents
    """  # noqa: D301 -- \b is click's
    manifest = folder / "model.yaml"
    if not manifest.exists():
        raise FileError(f"{folder}: model.yaml is missing; it says what the model is", file=manifest)
    owner, model_id, _ = KIND.split(tenant, name or str(open_document(manifest).values.get("name") or folder.name))
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    header = pb.PushModelHeader(
        parent=f"tenants/{owner}",
        model_id=model_id,
        files=[pb.ModelFile(path=path.name, size_bytes=path.stat().st_size, sha256=_digest(path)) for path in files],
        skip_load=no_load,
    )
    with connect(home, model_pb2_grpc.ModelServiceStub, owner) as stub:
        version = stub.PushModel(_parts(header, files, show=output == "table"), timeout=_PUSH_TIMEOUT_S)
    lines = [f"{version.name} {pb.ModelVersion.State.Name(version.state).lower()}"]
    if version.inferred:
        lines += ["read from its files, as model.yaml would say it:", *(f"  {line}" for line in version.inferred)]
    print_one(version, output, "\n".join(lines))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(header: pb.PushModelHeader, files: Sequence[Path], *, show: bool) -> Iterator[pb.PushModelRequest]:
    """The upload, with progress on a terminal."""
    yield pb.PushModelRequest(header=header)
    total = sum(file.size_bytes for file in header.files)
    with click.progressbar(length=total, label="uploading", hidden=not show or total < 16 * _PIECE_BYTES) as bar:
        for path in files:
            with path.open("rb") as file:
                while data := file.read(_PIECE_BYTES):
                    yield pb.PushModelRequest(piece=pb.PushModelPiece(path=path.name, data=data))
                    bar.update(len(data))


add_looking(models, KIND, "support-intents", ending=" Every version of it, and its files.")


@models.command()
@click.argument("model")
@click.option("--text", "texts", multiple=True, required=True, help="A text; may be given several times.")
@click.option("--version", default=0, help="Which version.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def embed(model: str, texts: Sequence[str], version: int, home: Home, tenant: str, output: str) -> None:
    """Ask MODEL for the vectors of texts; a table shows their first numbers, --output json all of them.

    \b
    Example:
      tiation models embed tenants/system/models/all-minilm-l6-v2 --text "Where is my parcel?"
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.EmbedRequest(name=name, version=version, texts=texts)
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


@models.command()
@click.argument("model")
@click.option("--text", "texts", multiple=True, help="A text; may be given several times.")
@click.option(
    "--image", "images", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A PNG, JPEG or WebP file; may be given several times.",
)  # fmt: skip
@click.option("--row", "rows", multiple=True, help="Numbers with commas between them; may be given several times.")
@click.option("--top-k", default=0, help="How many labels to show for each, best first.")
@click.option("--version", default=0, help="Which version.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def classify(
    model: str,
    texts: Sequence[str],
    images: Sequence[Path],
    rows: Sequence[str],
    top_k: int,
    version: int,
    home: Home,
    tenant: str,
    output: str,
) -> None:
    """Ask MODEL for the labels of texts, images or rows of numbers.

    \b
    Example:
      tiation models classify tenants/system/models/digits --image seven.png --top-k 3
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, model)
    request = prediction_pb2.ClassifyRequest(
        name=name,
        version=version,
        texts=texts,
        images=[image.read_bytes() for image in images],
        rows=[prediction_pb2.Row(values=_numbers(row)) for row in rows],
        top_k=top_k,
    )
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        answer = stub.Classify(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    titles = [*texts, *(image.name for image in images), *rows]
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


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"`{text}` is no row of numbers; write `5.1,3.5,1.4`") from None
