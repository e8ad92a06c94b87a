"""Which versions of a model answer: its policy, its aliases, and versions loaded and unloaded by hand."""

from __future__ import annotations

from collections.abc import Sequence

import click
from tiation.engine.v1 import model_pb2 as pb

from cli.client import connect, pages
from cli.commands.model_words import aliases_of, policy_of
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from cli.resources import Kind

__all__ = ["add_versions"]

_LOAD_TIMEOUT_S = 600.0
_HEADINGS = ("version", "state", "kind", "pushed", "by", "source", "signed", "why")


def add_versions(group: click.Group, kind: Kind) -> None:
    """Add `versions`, `policy`, `alias`, `load` and `unload`."""
    for add in (_add_versions, _add_policy, _add_alias, _add_load):
        add(group, kind)


def _add_versions(group: click.Group, kind: Kind) -> None:
    @group.command()
    @click.argument("model")
    @tenant_option
    @home_option
    @output_option
    def versions(model: str, home: Home, tenant: str, output: str) -> None:
        """List the versions of MODEL, newest last, and which of them answer.

        \b
        Example:
          tiation models versions support-intents
        """  # noqa: D301 -- \b is click's
        owner, _, full = kind.split(tenant, model)
        with connect(home, kind.stub, owner) as stub:
            found = list(pages(stub.ListModelVersions, pb.ListModelVersionsRequest(parent=full), "model_versions"))
        if output == "json":
            print_json([as_json(each) for each in found])
            return
        found.sort(key=lambda version: int(version.name.rsplit("/", 1)[1]))
        print_table(
            ("version", "state", "kind", "pushed", "by", "source", "signed", "why"),
            [_row(version) for version in found],
        )


def _row(version: pb.ModelVersion) -> tuple[str, ...]:
    state, came = pb.ModelVersion.State.Name(version.state).lower(), version.provenance
    source = "@".join(part for part in (came.source.uri, came.source.revision[:12]) if part)
    pushed = version.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M")
    return (
        version.name.rsplit("/", 1)[1],
        state,
        version.kind,
        pushed,
        (came.actor or came.subject).rsplit("/", 1)[-1] or "-",
        source or "-",
        came.signature_key_id[:12] or "-",
        version.state_message,
    )


def _add_policy(group: click.Group, kind: Kind) -> None:
    @group.command()
    @click.argument("model")
    @click.option("--latest", type=click.IntRange(1, 1000), help="The newest so many.")
    @click.option("--versions", "named", help="These, as `1,3`; `none` for none.")
    @click.option("--all", "every", is_flag=True, help="All of them.")
    @tenant_option
    @home_option
    @output_option
    def policy(
        model: str, latest: int | None, named: str | None, home: Home, tenant: str, *, every: bool, output: str
    ) -> None:
        """Say which versions of MODEL shall be in memory.

        \b
        Example:
          tiation models policy support-intents --latest 2
        """  # noqa: D301 -- \b is click's
        if sum((latest is not None, named is not None, every)) != 1:
            raise click.UsageError("give one of --latest, --versions and --all")
        chosen = pb.VersionPolicy()
        if latest is not None:
            chosen.latest.count = latest
        elif named is not None:
            chosen.specific.versions.extend(() if named == "none" else [_number(each) for each in named.split(",")])
            chosen.specific.SetInParent()
        else:
            chosen.all.SetInParent()
        owner, _, full = kind.split(tenant, model)
        _update(kind, home, owner, pb.Model(name=full, version_policy=chosen), "version_policy", output)


def _add_alias(group: click.Group, kind: Kind) -> None:
    @group.command()
    @click.argument("model")
    @click.argument("alias")
    @click.argument("versions", nargs=-1)
    @click.option("--remove", is_flag=True, help="Take the alias away.")
    @tenant_option
    @home_option
    @output_option
    def alias(
        model: str, alias: str, versions: Sequence[str], home: Home, tenant: str, *, remove: bool, output: str
    ) -> None:
        """Let ALIAS stand for VERSIONS of MODEL; with several, each with its weight.

        \b
        Example:
          tiation models alias support-intents production 3
          tiation models alias support-intents canary 3:90 4:10
        """  # noqa: D301 -- \b is click's
        if bool(versions) == remove:
            raise click.UsageError("give versions, or --remove")
        owner, _, full = kind.split(tenant, model)
        with connect(home, kind.stub, owner) as stub:
            current = kind.call(stub, "Get", name=full)
        if remove and alias not in current.aliases:
            raise click.UsageError(f"{full} has no alias `{alias}`; it has {aliases_of(current)}")
        current.aliases.pop(alias, None)
        for version in versions:
            number, _, weight = version.partition(":")
            current.aliases[alias].weights[_number(number)] = _number(weight or "1")
        _update(kind, home, owner, current, "aliases", output)


def _add_load(group: click.Group, kind: Kind) -> None:
    def add(verb: str, text: str) -> None:
        def change(version: str, home: Home, tenant: str, output: str) -> None:
            model, _, number = version.partition("/versions/") if "/versions/" in version else version.rpartition(":")
            owner, _, full = kind.split(tenant, model)
            request = getattr(pb, f"{verb.title()}ModelVersionRequest")(name=f"{full}/versions/{_number(number)}")
            with connect(home, kind.stub, owner) as stub:
                changed = getattr(stub, f"{verb.title()}ModelVersion")(request, timeout=_LOAD_TIMEOUT_S)
            state = pb.ModelVersion.State.Name(changed.state).lower()
            print_one(changed, output, f"{changed.name} {state}")

        change.__doc__ = f"{text}\n\n\b\nExample:\n  tiation models {verb} support-intents:2\n"
        made = click.argument("version", metavar="MODEL:VERSION")(tenant_option(home_option(output_option(change))))
        group.command(verb)(made)

    add("load", "Bring a version into memory; one that the policy does not want stays beside those that it wants.")
    add("unload", "Take a version out of memory until it is loaded again or the policy changes.")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise click.UsageError(f"`{text}` is no number of a version or weight")
    return int(text)


def _update(kind: Kind, home: Home, owner: str, model: pb.Model, field: str, output: str) -> None:
    request = pb.UpdateModelRequest(model=model, update_mask={"paths": [field]})
    with connect(home, kind.stub, owner) as stub:
        changed = stub.UpdateModel(request, timeout=_LOAD_TIMEOUT_S)
    serving = changed.serving_version or "no version"
    said = f"{changed.name}: {policy_of(changed)}; aliases {aliases_of(changed)}; {serving} serves"
    print_one(changed, output, said)
