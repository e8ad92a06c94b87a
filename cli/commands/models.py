"""`models`: what agents think with."""

from __future__ import annotations

from pathlib import Path

import click
from tiation.engine.v1 import model_pb2 as pb
from tiation.engine.v1 import model_pb2_grpc

from cli.client import FileError, connect
from cli.commands.asking import ASKING
from cli.commands.generating import generate
from cli.commands.model_kind import KIND
from cli.commands.model_variants import get, variant
from cli.commands.model_versions import add_versions
from cli.commands.model_words import refuse_failed, state_of
from cli.commands.profiling import profile
from cli.commands.signing import SIGNING
from cli.document import ID_RULE, is_id, open_document
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import print_one
from cli.pushing import file_of, files_and_skipped, push_files
from cli.resources import add_looking

__all__ = ["models"]


@click.group()
def models() -> None:
    """Bring models, and ask them. Those that ship with the platform are those of `--tenant system`."""


@models.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="", help="The model's id.  [default: `name` in model.yaml]")
@click.option("--source", default="", help="Where the files come from, an address; kept with the version.")
@click.option("--revision", default="", help="Which state of that, a git commit for example.")
@click.option("--no-load", is_flag=True, help="Store the version without loading it.")
@tenant_option
@home_option
@output_option
def push(
    folder: Path, name: str, source: str, revision: str, home: Home, tenant: str, *, no_load: bool, output: str
) -> None:
    """Upload FOLDER, which holds model.yaml and the files it names, as a new version of a model.

    Where the connection breaks it goes on from there, and so does the same command when it was ended before. A version
    that is stored and cannot be loaded is an error, and the exit code 1; what answered before goes on answering.

    \b
    Example:
      tiation models push examples/support-triage/support-intents
    """  # noqa: D301 -- \b is click's
    manifest = folder / "model.yaml"
    if not manifest.exists():
        raise FileError(f"{folder}: model.yaml is missing; it says what the model is", file=manifest)
    owner, model_id, _ = KIND.split(tenant, name or str(open_document(manifest).values.get("name") or folder.name))
    if not is_id(model_id):
        where = "--name" if name else f"{manifest}: name" if "name" in open_document(manifest).values else str(folder)
        raise FileError(f"{where}: `{model_id}` can be no model's name, which has {ID_RULE}", file=manifest)
    files, skipped = files_and_skipped(folder)
    if skipped:
        click.echo(f"left out: {', '.join(skipped)}; a model has files only, no folders", err=True)
    header = pb.PushModelHeader(
        parent=f"tenants/{owner}",
        model_id=model_id,
        files=[file_of(path) for path in files],
        skip_load=no_load,
        source=pb.Source(uri=source, revision=revision),
    )
    with connect(home, model_pb2_grpc.ModelServiceStub, owner) as stub:
        version = push_files(stub, header, files, show=output == "table")
    lines = [f"{version.name} {state_of(version)}"]
    if version.inferred:
        lines += ["read from its files, as model.yaml would say it:", *(f"  {line}" for line in version.inferred)]
    if version.state == pb.ModelVersion.UNLOADED and not no_load:
        lines.append(f"the model's policy keeps it out of memory; `tiation models load {version.name}` loads it")
    print_one(version, output, "\n".join(lines))
    refuse_failed(version)


add_looking(models, KIND, "support-intents", ending=" Every version of it, and its files.")
add_versions(models, KIND)


for command in (*ASKING, generate, get, profile, variant, *SIGNING):
    models.add_command(command)
