"""Bringing a resource to the platform: creating or updating it, saying what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import click
import grpc
from google.protobuf.message import Message

from cli.output import print_one

__all__ = ["bring", "say_applied"]


class _Resource(Protocol):
    """What every resource's message has."""

    name: str
    etag: str


R = TypeVar("R", bound=_Resource)


def bring(
    wanted: R,
    fields: Sequence[str],
    *,
    get: Callable[[], R],
    create: Callable[[], R],
    update: Callable[[list[str]], R],
    preview: Callable[[list[str]], R] | None = None,
    secret: Sequence[str] = (),
) -> tuple[R, str]:
    """Create what is missing, update what differs, leave alone what is the same.

    Args:
        wanted: what the file says; it gets the etag that was read, so that nobody else's change is lost.
        fields: what of it counts.
        get: asks for what there is.
        create: creates it.
        update: changes the fields that it is given.
        preview: says what `update` would make of it, for a service that fills in what the file leaves out.
        secret: fields that nobody can read back: they are sent whenever the file has them.

    Returns:
        The resource as it is now, and `created`, `updated` or `unchanged`.
    """
    try:
        current = get()
    except grpc.RpcError as error:
        if _code(error) is not grpc.StatusCode.NOT_FOUND:
            raise
        return create(), "created"
    wanted.etag = current.etag
    paths = _differing(fields, wanted, current)
    if paths and preview is not None:
        paths = _differing(paths, preview(paths), current)
    paths += [field for field in secret if getattr(wanted, field)]
    if not paths:
        return current, "unchanged"
    return update(paths), "updated"


def _differing(fields: Sequence[str], one: _Resource, other: _Resource) -> list[str]:
    return [field for field in fields if _value(one, field) != _value(other, field)]


def _value(resource: Any, field: str) -> object:  # noqa: ANN401 -- any resource's message
    """A field's value; None where it is absent, which may mean something else than empty."""
    is_absent = resource.DESCRIPTOR.fields_by_name[field].has_presence and not resource.HasField(field)
    return None if is_absent else getattr(resource, field)


def _code(error: Any) -> grpc.StatusCode:  # noqa: ANN401 -- the type of gRPC's errors does not know their code
    code: grpc.StatusCode = error.code()
    return code


def say_applied(resource: Any, what: str, output: str) -> None:  # noqa: ANN401 -- any resource's message
    """Print what became of a resource; with JSON on standard error, so that standard output is the resource alone."""
    message: Message = resource
    if output == "json":
        click.echo(f"{resource.name} {what}", err=True)
    print_one(message, output, f"{resource.name} {what}")
