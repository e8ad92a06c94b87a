"""The commands that every kind of resource has: apply, create, list, get, delete.

What is particular to a kind, its columns and further commands, is in `cli.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

import click
from google.api import field_behavior_pb2

from cli.apply import bring, say_applied
from cli.client import TIMEOUT_S, connect, pages
from cli.document import open_document
from cli.home import Home
from cli.options import full_name, home_option, output_option, split_name, tenant_option
from cli.output import as_json, print_json, print_one, print_table

__all__ = ["Kind", "add_apply", "add_create", "add_looking"]

_FIXED = {field_behavior_pb2.IDENTIFIER, field_behavior_pb2.OUTPUT_ONLY}


@dataclass(frozen=True)
class Kind:
    """A kind of resource, as the generated code knows it.

    Attributes:
        pb: the module of its messages.
        stub: its generated stub.
        message: its message's name, `Principal`.
        singular: as requests name it, `principal`.
        collection: as its names have it, `principals`.
        group: the command's group, `principals`.
        headings: the columns of `list`.
        row: the columns' values of one.
        complete: fills in what a file may leave out, given the tenant; or brings it into the platform's order.
        refuse: raises where what belongs to a tenant, given too its full name, can never be changed.
        none_yet: what `list` says where there are none; empty for nothing.
    """

    pb: Any
    stub: Callable[[Any], object]
    message: str
    singular: str
    collection: str
    group: str
    headings: Sequence[str]
    row: Callable[[Any], Sequence[object]]
    complete: Callable[[Any, str], None] = lambda _resource, _owner: None
    refuse: Callable[[str, str], None] = lambda _owner, _name: None
    none_yet: str = ""

    @property
    def is_in_tenant(self) -> bool:
        """Whether it belongs to a tenant; a tenant itself belongs to the platform."""
        return "parent" in self.request("List").DESCRIPTOR.fields_by_name

    @property
    def fields(self) -> list[str]:
        """What `apply` compares: all that the contract lets a caller say of one."""
        described = self.pb.DESCRIPTOR.message_types_by_name[self.message].fields
        return [field.name for field in described if field.name != "etag" and not _FIXED & _behavior(field)]

    def tenant_option(self, command: Any) -> Any:  # noqa: ANN401 -- a function that becomes a command
        """`--tenant`, where there is anything to choose; passes a tenant's id as `tenant`, empty for the platform."""
        return tenant_option(command) if self.is_in_tenant else update_wrapper(partial(command, tenant=""), command)

    def connect(self, home: Home, owner: str) -> AbstractContextManager[Any]:
        """Its stub, for calls in the tenant that it belongs to."""
        return connect(home, self.stub, owner)

    def request(self, verb: str, **fields: object) -> Any:  # noqa: ANN401 -- any generated request
        """A request: `Get`, `Create`, …; `ListPrincipals` is the plural's."""
        return getattr(self.pb, f"{verb}{self.message}{'s' if verb == 'List' else ''}Request")(**fields)

    def call(self, stub: Any, verb: str, **fields: object) -> Any:  # noqa: ANN401 -- any generated answer
        """Ask for one of the standard methods."""
        return getattr(stub, f"{verb}{self.message}")(self.request(verb, **fields), timeout=TIMEOUT_S)

    def creation(self, owner: str, entry_id: str, resource: Any) -> dict[str, object]:  # noqa: ANN401
        """The fields of a request to create one."""
        return {**self.parent(owner), f"{self.singular}_id": entry_id, self.singular: resource}

    def parent(self, owner: str) -> dict[str, object]:
        """The field of a request that says where they are; none where they are in no tenant."""
        return {"parent": f"tenants/{owner}"} if self.is_in_tenant else {}

    def split(self, tenant: str, name: str) -> tuple[str, str, str]:
        """The tenant, the id and the full name of one, from its short or full name.

        Raises:
            click.UsageError: it is the full name of something else.
        """
        if not self.is_in_tenant:
            entry_id = name.removeprefix(f"{self.collection}/")
            if "/" in entry_id:
                raise click.UsageError(f"`{name}` names none of the {self.collection}; give an id")
            return tenant, entry_id, f"{self.collection}/{entry_id}"
        owner, entry_id = split_name(tenant, self.collection, name)
        return owner, entry_id, full_name(owner, self.collection, entry_id)


def _behavior(field: Any) -> set[int]:  # noqa: ANN401 -- upb's descriptors have another type than their stub
    """What the contract says of a field: who sets it, and when."""
    return set(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _taught(text: str, example: str) -> Callable[[Any], Any]:
    """Give a function its help, with an example."""

    def teach(function: Any) -> Any:  # noqa: ANN401 -- a function that becomes a command
        function.__doc__ = f"{text}\n\n\b\nExample:\n  tiation {example}\n"
        return function

    return teach


def add_looking(group: click.Group, kind: Kind, example: str, *, ending: str = "") -> None:
    """Add `list`, `get` and `delete`.

    Args:
        group: where.
        kind: of what.
        example: the name in the examples.
        ending: what else `delete` is to tell of itself.
    """

    @group.command("list")
    @kind.tenant_option
    @home_option
    @output_option
    @_taught(f"List the {kind.group}.", f"{kind.group} list")
    def list_all(home: Home, tenant: str, output: str) -> None:
        with kind.connect(home, tenant) as stub:
            method = getattr(stub, f"List{kind.message}s")
            field = next(iter(kind.pb.DESCRIPTOR.message_types_by_name[f"List{kind.message}sResponse"].fields)).name
            found = list(pages(method, kind.request("List", **kind.parent(tenant)), field))
        if output == "json":
            print_json([as_json(each) for each in found])
        else:
            print_table(kind.headings, [kind.row(each) for each in found])
            if not found and kind.none_yet and tenant != "system":
                click.echo(kind.none_yet)

    @group.command()
    @click.argument("name")
    @kind.tenant_option
    @home_option
    @output_option
    @_taught(f"Show one of the {kind.group}.", f"{kind.group} get {example}")
    def get(name: str, home: Home, tenant: str, output: str) -> None:
        owner, _, full = kind.split(tenant, name)
        with kind.connect(home, owner) as stub:
            found = kind.call(stub, "Get", name=full)
        lines = [f"{heading}: {value}" for heading, value in zip(kind.headings, kind.row(found), strict=True)]
        print_one(found, output, "\n".join(lines))

    @group.command()
    @click.argument("name")
    @kind.tenant_option
    @home_option
    @output_option
    @_taught(f"Delete one of the {kind.group}.{ending}", f"{kind.group} delete {example}")
    def delete(name: str, home: Home, tenant: str, output: str) -> None:
        owner, _, full = kind.split(tenant, name)
        kind.refuse(owner, full)
        with kind.connect(home, owner) as stub:
            kind.call(stub, "Delete", name=full)
        if output == "json":
            print_json({"deleted": full})
        else:
            click.echo(f"{full} deleted")


def add_apply(group: click.Group, kind: Kind, example: str) -> None:
    """Add `apply`."""

    @group.command()
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @kind.tenant_option
    @home_option
    @output_option
    @_taught(
        f"Create the {kind.singular} that FILE describes, or update it to that.\n\n"
        "FILE holds `name` and the fields of the contract, as YAML or JSON.",
        f"{kind.group} apply {example}",
    )
    def apply(file: Path, home: Home, tenant: str, output: str) -> None:
        document = open_document(file)
        owner, entry_id, full = kind.split(tenant, document.id_at("name", what=kind.singular))
        wanted = document.fill(getattr(kind.pb, kind.message)(), without="name")
        wanted.name = full
        kind.complete(wanted, owner)
        with kind.connect(home, owner) as stub:
            found, what = bring(
                wanted,
                kind.fields,
                get=lambda: kind.call(stub, "Get", name=full),
                create=lambda: kind.call(stub, "Create", **kind.creation(owner, entry_id, wanted)),
                update=lambda paths: kind.call(
                    stub, "Update", **{kind.singular: wanted, "update_mask": {"paths": paths}}
                ),
            )
        say_applied(found, what, output)


def add_create(
    group: click.Group,
    kind: Kind,
    text: str,
    example: str,
    options: Sequence[Callable[[Any], Any]],
    make: Callable[..., Any],
) -> None:
    """Add `create NAME` with options of its own.

    Args:
        group: where.
        kind: of what.
        text: the help's first line.
        example: what follows `tiation` in the example.
        options: click's decorators, in the order of the help.
        make: makes the resource's fields from the tenant and the options' values.
    """

    def create(name: str, home: Home, tenant: str, output: str, **values: Any) -> None:  # noqa: ANN401 -- any option
        owner, entry_id, _ = kind.split(tenant, name)
        resource = getattr(kind.pb, kind.message)(**make(owner, **values))
        with kind.connect(home, owner) as stub:
            made = kind.call(stub, "Create", **kind.creation(owner, entry_id, resource))
        say_applied(made, "created", output)

    command = _taught(text, example)(create)
    for option in (output_option, home_option, kind.tenant_option, *reversed(options), click.argument("name")):
        command = option(command)
    group.command("create")(command)
