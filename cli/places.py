"""Where in a file something stands: unknown names and the fields that a service refuses, with their line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import grpc
import yaml
from google.rpc import error_details_pb2, status_pb2

from cli.apply import read_text
from cli.client import FileError

__all__ = ["check_names", "line_of", "placed"]

_PART = re.compile(r"[^.\[\]]+")
_FREE = "google.protobuf."


def check_names(file: Path, descriptor: Any, also: frozenset[str] = frozenset()) -> None:  # noqa: ANN401 -- upb's own
    """Refuse names that a message does not have, with their line and the nearest that it has.

    Args:
        file: YAML or JSON.
        descriptor: of the message that the file holds.
        also: names of the command's own.

    Raises:
        FileError: naming the first.
    """
    node = yaml.compose(read_text(file), yaml.SafeLoader)
    if node is not None:
        _check(node, descriptor, file, also)


@contextmanager
def placed(file: Path, root: str) -> Iterator[None]:
    """Say of a field that a service refuses where it stands in the file.

    Args:
        file: what was sent.
        root: the request's field that holds it.

    Raises:
        FileError: instead of the service's refusal, where that names a field of the file.
    """
    try:
        yield
    except grpc.RpcError as error:
        found = [each for each in _violations(error) if each.field.startswith(f"{root}.")]
        if not found:
            raise
        lines = []
        for violation in found:
            field = violation.field.removeprefix(f"{root}.")
            lines.append(f"{file}, line {line_of(read_text(file), field)}: {field}: {violation.description}")
        raise FileError("\n".join(lines), file=file) from None


def line_of(text: str, field: str) -> int:
    """The line of a field (`operations[0].spec.path`), or of the nearest thing above it that is there."""
    node = yaml.compose(text, yaml.SafeLoader)
    line = 1
    for part in _PART.findall(field):
        if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
        elif isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value in (part, _camel(part))), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
            continue
        else:
            break
        line = node.start_mark.line + 1
    return line


def _check(node: yaml.Node, descriptor: Any, file: Path, also: frozenset[str]) -> None:  # noqa: ANN401 -- as above
    if not isinstance(node, yaml.MappingNode):
        return
    known = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for key, value in node.value:
        field = known.get(key.value)
        if field is None and key.value not in also:
            names = sorted({each.json_name for each in descriptor.fields} | also)
            near = get_close_matches(str(key.value), names, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(names)}"
            line = key.start_mark.line + 1
            raise FileError(f"{file}, line {line}: there is no `{key.value}` here; {hint}", file=file)
        if field is not None and _is_message(field):
            for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                _check(each, field.message_type, file, frozenset())


def _is_message(field: Any) -> bool:  # noqa: ANN401 -- as above
    """Whether a field holds a message of ours, whose names are known."""
    kind = field.message_type
    return bool(kind) and not kind.GetOptions().map_entry and not kind.full_name.startswith(_FREE)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _violations(error: Any) -> list[error_details_pb2.BadRequest.FieldViolation]:  # noqa: ANN401 -- any exception of gRPC's
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    for detail in status.details:
        if detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            return list(bad.field_violations)
    return []
