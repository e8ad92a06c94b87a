"""Which versions of a model answer: its policy, its aliases, and versions loaded and unloaded by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
from tiation.engine.v1 import model_pb2 as pb

from cli.client import connect, pages
from cli.commands.model_names import own_or_shipped
from cli.commands.model_words import WORDS_OF_VERSION, aliases_of, policy_of, version_in_words
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json, print_one, print_table
from cli.resources import Kind

__all__ = ["add_versions"]

_LOAD_TIMEOUT_S = 600.0


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
        owner, _, _ = kind.split(tenant, model)
        with connect(home, kind.stub, owner) as stub:
            found = own_or_shipped(home, tenant, model, lambda full: _every(stub, full))
        if output == "json":
            print_json([as_json(each) for each in found])
            return
        found.sort(key=lambda version: int(version.name.rsplit("/", 1)[1]))
        print_table(("version", *WORDS_OF_VERSION), [_row(version) for version in found])


def _every(stub: Any, model: str) -> list[pb.ModelVersion]:  # noqa: ANN401 -- see `connect`
    return list(pages(stub.ListModelVersions, pb.ListModelVersionsRequest(parent=model), "model_versions"))


def _row(version: pb.ModelVersion) -> tuple[str, ...]:
    return version.name.rsplit("/", 1)[1], *version_in_words(version)


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
        kind.refuse(owner, full)
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
        kind.refuse(owner, full)
        with connect(home, kind.stub, owner) as stub:
            current = kind.call(stub, "Get", name=full)
        if remove and alias not in current.aliases:
            raise click.UsageError(f"{full} has no alias `{alias}`; it has {aliases_of(current) or 'none'}")
        current.aliases.pop(alias, None)
        for version in versions:
            number, _, weight = version.partition(":")
            current.aliases[alias].weights[_number(number)] = _number(weight or "1")
        _update(kind, home, owner, current, "aliases", output)


def _add_load(group: click.Group, kind: Kind) -> None:
    def add(verb: str, text: str) -> None:
        def change(version: str, home: Home, tenant: str, output: str) -> None:
            model, number = _split(version)
            owner, _, full = kind.split(tenant, model)
            kind.refuse(owner, full)
            request = getattr(pb, f"{verb.title()}ModelVersionRequest")(name=f"{full}/versions/{number}")
            with connect(home, kind.stub, owner) as stub:
                changed = getattr(stub, f"{verb.title()}ModelVersion")(request, timeout=_LOAD_TIMEOUT_S)
            state = pb.ModelVersion.State.Name(changed.state).lower()
            print_one(changed, output, f"{changed.name} {state}")

        change.__doc__ = f"{text}\n\n\b\nExample:\n  tiation models {verb} support-intents:2\n"
        made = click.argument("version", metavar="MODEL:VERSION")(tenant_option(home_option(output_option(change))))
        group.command(verb)(made)

    add("load", "Bring a version into memory; one that the policy does not want stays beside those that it wants.")
    add("unload", "Take a version out of memory until it is loaded again or the policy changes.")


def _split(text: str) -> tuple[str, int]:
    """The model and the number of a version, from `MODEL:VERSION` or a version's full name."""
    if "/versions/" in text:
        model, _, number = text.partition("/versions/")
    else:
        model, _, number = text.partition(":")
    if not number:
        raise click.UsageError(f"`{text}` names no version; write MODEL:VERSION, for example {text.rstrip(':')}:1")
    return model, _number(number)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise click.UsageError(f"`{text}` is no number of a version or weight")
    return int(text)


def _update(kind: Kind, home: Home, owner: str, model: pb.Model, field: str, output: str) -> None:
    request = pb.UpdateModelRequest(model=model, update_mask={"paths": [field]})
    with connect(home, kind.stub, owner) as stub:
        changed = stub.UpdateModel(request, timeout=_LOAD_TIMEOUT_S)
    serving = changed.serving_version or "no version"
    said = f"{changed.name}: {policy_of(changed)}; aliases {aliases_of(changed) or 'none'}; {serving} serves"
    print_one(changed, output, said)
