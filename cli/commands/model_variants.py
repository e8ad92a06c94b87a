"""`models variant` and `models get`: a smaller version of a version, and how near its answers are."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import grpc
from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc

from cli.client import TIMEOUT_S, FileError, connect, refusal_of
from cli.commands.model_kind import KIND
from cli.commands.model_names import own_or_shipped
from cli.commands.model_words import WORDS_OF_VERSION, refuse_failed, state_of, version_in_words
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one, print_table

__all__ = ["get", "variant"]

_TIMEOUT_S = 600.0
_MOST_SAMPLES = 256
_MOST_BYTES = 16 * 1024 * 1024
_SAMPLE = re.compile(r"samples\[(\d+)\]")


@click.command()
@click.argument("source", metavar="MODEL[:VERSION]")
@click.option("--precision", required=True, type=click.Choice(["int8", "fp16"]), help="How it shall compute.")
@click.option(
    "--samples", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of what both are asked: a text a line, or a JSON object of one row.  [default: made up]",
)  # fmt: skip
@click.option("--name", default="", help="The model that it becomes a version of.  [default: MODEL]")
@click.option("--load", is_flag=True, help="Load it.  [default: it is stored]")
@tenant_option
@home_option
@output_option
def variant(
    source: str, precision: str, samples: Path | None, name: str, home: Home, tenant: str, *, load: bool, output: str
) -> None:
    """Make a smaller version of a version of MODEL, ask both the same, and say how near its answers are.

    What ships with the platform gets its variants in --tenant, under a name of their own.

    \b
    Example:
      tiation models variant tenants/system/models/all-minilm-l6-v2 --precision int8
    """  # noqa: D301 -- \b is click's
    model, _, number = source.partition(":")
    _, _, full = KIND.split(tenant, model)
    lines = _lines(samples) if samples is not None else []
    with connect(home, model_pb2_grpc.ModelServiceStub, tenant) as stub:
        request = pb.DeriveModelVariantRequest(
            parent=f"tenants/{tenant}",
            source=f"{full}/versions/{number or _serving(stub, full)}",
            precision=precision.upper(),
            model_id=name,
            samples=[text for _, text in lines],
            load=load,
            request_id=str(uuid.uuid4()),
        )
        try:
            made = stub.DeriveModelVariant(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            _name_line(error, samples, lines)
            raise
    if output == "json":
        print_json(as_json(made))
    else:
        _say(made)
    refuse_failed(made)


@click.command()
@click.argument("name", metavar="MODEL[:VERSION]")
@tenant_option
@home_option
@output_option
def get(name: str, home: Home, tenant: str, output: str) -> None:
    """Show a model, or one version of it: who pushed it and when, its files, or how near a variant is to its source.

    \b
    Example:
      tiation models get support-intents
    """  # noqa: D301 -- \b is click's
    model, _, number = name.partition(":")
    owner, _, _ = KIND.split(tenant, model)
    with connect(home, model_pb2_grpc.ModelServiceStub, owner) as stub:
        if not number:
            found = own_or_shipped(
                home, tenant, model, lambda full: stub.GetModel(pb.GetModelRequest(name=full), timeout=TIMEOUT_S)
            )
            print_one(found, output, _lined(KIND.headings, KIND.row(found)))
            return
        version = own_or_shipped(home, tenant, model, lambda full: _version(stub, full, number))
    if output == "json":
        print_json(as_json(version))
    elif version.HasField("variant"):
        _say(version)
    else:
        click.echo(_lined(("version", *WORDS_OF_VERSION), (version.name, *version_in_words(version))))
        click.echo(_lined(("takes", "gives"), (_tensors(version.inputs), _tensors(version.outputs))))
        print_table(
            ("file", "bytes", "sha256"), [(each.path, each.size_bytes, each.sha256[:12]) for each in version.files]
        )


def _version(stub: Any, model: str, number: str) -> Any:  # noqa: ANN401 -- see `connect`
    return stub.GetModelVersion(pb.GetModelVersionRequest(name=f"{model}/versions/{number}"), timeout=TIMEOUT_S)


def _lined(headings: Iterable[str], values: Iterable[object]) -> str:
    """A line for each value that there is."""
    return "\n".join(f"{heading}: {value}" for heading, value in zip(headings, values, strict=True) if value != "")


def _tensors(specs: Iterable[pb.TensorSpec]) -> str:
    """Tensors in one line: `x FP32 [-1, 4], y INT64 [-1]`."""
    return ", ".join(f"{each.name} {each.datatype} {list(each.shape)}" for each in specs)


def _serving(stub: Any, model: str) -> int:  # noqa: ANN401 -- see `connect`
    """The version that answers, or else the newest one."""
    found = stub.GetModel(pb.GetModelRequest(name=model), timeout=TIMEOUT_S)
    return int(found.serving_version or found.latest_version)


def _name_line(error: grpc.RpcError, path: Path | None, lines: Sequence[tuple[int, str]]) -> None:
    """Say of which line of the caller's file a refusal is, where it is of one.

    Raises:
        FileError: it is.
    """
    refusal = refusal_of(error)
    for field, said in refusal.violations if refusal is not None else ():
        found = _SAMPLE.fullmatch(field)
        if path is not None and found is not None and int(found[1]) < len(lines):
            raise FileError(f"{path}, line {lines[int(found[1])][0]}: {said}", file=path) from None


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file that say something, with their numbers from 1.

    Raises:
        FileError: it has none, or too many, or is no text.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise FileError(f"{path}: is larger than {_MOST_BYTES >> 20} MiB", file=path)
    try:
        found = [(at, line) for at, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    except UnicodeDecodeError:
        raise FileError(f"{path}: is not UTF-8", file=path) from None
    if not 1 <= len(found) <= _MOST_SAMPLES:
        raise FileError(f"{path}: has {len(found)} samples; give 1 to {_MOST_SAMPLES}, one a line", file=path)
    return found


def _say(made: pb.ModelVersion) -> None:
    report = made.variant
    precision = pb.ModelVariant.Precision.Name(report.precision).lower()
    click.echo(f"{made.name} {state_of(made)}: {precision} of {report.source}")
    click.echo(
        f"{_size(report.size_bytes)} in place of {_size(report.source_bytes)}; {report.own_ms:.1f} ms in place of "
        f"{report.source_ms:.1f} on {report.device} for {report.rows} {'made-up ' * report.made_up}rows: "
        f"{report.source_ms / max(report.own_ms, 1e-6):.2f} times as fast"
    )
    print_table(
        ("output", "cosine mean", "least", "error mean", "largest", "agree", "probability off"), _rows(report.outputs)
    )


def _rows(outputs: Iterable[pb.VariantOutput]) -> Iterable[tuple[str, ...]]:
    fields = ("cosine_mean", "cosine_min", "error_mean", "error_max", "agreement", "probability_difference_max")
    for each in outputs:
        yield each.name, *(f"{getattr(each, field):.4f}" if each.HasField(field) else "-" for field in fields)


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
