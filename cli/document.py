"""What the command was given as YAML or JSON, files above all: the values, and where something is wrong.

Which file becomes which resource is each command's own matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cli.client import FileError
from mesh.json_value import fault_of_json
from mesh.strict_yaml import StrictYamlError, compose_yaml, plain

__all__ = ["ID_RULE", "Document", "is_id", "json_option", "open_document", "read_text"]

M = TypeVar("M", bound=Message)
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
ID_RULE = "up to 63 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
"""What an id may be."""
_WELL_KNOWN = "google.protobuf."
_RULES = {
    FieldDescriptor.CPPTYPE_STRING: "must be text; put it into quotes",
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
    FieldDescriptor.CPPTYPE_INT32: "must be a whole number",
    FieldDescriptor.CPPTYPE_INT64: "must be a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "must be a whole number from 0",
    FieldDescriptor.CPPTYPE_UINT64: "must be a whole number from 0",
    FieldDescriptor.CPPTYPE_FLOAT: "must be a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "must be a number",
}
"""What a value must be, by the kind of its field."""
_WELL_KNOWN_RULES = {
    "google.protobuf.Duration": "must be seconds with an s behind them, for example 2.5s",
    "google.protobuf.Timestamp": "must be a time, for example 2026-01-31T12:00:00Z",
    "google.protobuf.Struct": "must hold `name: value` lines",
}


def is_id(text: str) -> bool:
    """Whether a resource may have this id."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Document:
    """What a file holds.

    Attributes:
        file: where it was read.
        root: its values with their places.
        values: the same without them.
    """

    file: Path
    root: yaml.MappingNode
    values: dict[str, Any]

    def id_at(self, *path: str, what: str) -> str:
        """The name that stands at a path: an id, or the full name of a resource.

        Raises:
            FileError: there is none, or it cannot be a name.
        """
        node, shown = _below(self.root, path), ".".join(path)
        if node is None:
            raise FileError(f"{self.file}: {shown} is missing; it becomes the {what}'s id", file=self.file)
        name = plain(node)
        if not isinstance(name, str):
            raise self._fault(node, f"{shown} is {_shown(name)}; it must be text; put it into quotes")
        if not is_id(name.rsplit("/", 1)[-1]):
            raise self._fault(node, f"{shown} is `{name}`; an id has {ID_RULE}")
        return name

    def fill(self, message: M, *, without: str = "") -> M:
        """The message that the file describes.

        Args:
            message: what to fill.
            without: a key that is none of the message's.

        Raises:
            FileError: it does not fit the contract; the line is named.
        """
        values = {key: value for key, value in self.values.items() if key != without}
        if fault := fault_of_json(values):
            raise FileError(f"{self.file}: {fault}", file=self.file)
        try:
            return json_format.ParseDict(values, message)
        except json_format.ParseError as error:
            for node, said in _faults(self.root, message.DESCRIPTOR, without):
                raise self._fault(node, said) from None
            raise FileError(f"{self.file}: {_cleaned(error)}", file=self.file) from None

    def _fault(self, node: yaml.Node, said: str) -> FileError:
        return FileError(f"{self.file}: line {node.start_mark.line + 1}: {said}", file=self.file)


def open_document(file: Path) -> Document:
    """Read a YAML or JSON file that holds named values.

    Raises:
        FileError: it holds something else.
    """
    try:
        root = compose_yaml(read_text(file))
        if not isinstance(root, yaml.MappingNode):
            raise FileError(f"{file}: must hold `name: value` lines", file=file)
        return Document(file, root, plain(root))
    except StrictYamlError as error:
        raise FileError(f"{file}: neither YAML nor JSON: {error}", file=file) from None
    except RecursionError:
        raise FileError(f"{file}: neither YAML nor JSON: nested too deeply", file=file) from None


def json_option(text: str, option: str) -> Any:  # noqa: ANN401 -- any JSON
    """The JSON that an option gives; `@FILE` reads it from a file.

    Raises:
        click.UsageError: it is none, or a number in it would not survive.
        FileError, OSError: the file cannot be read.
    """
    if text.startswith("@"):
        text = read_text(Path(text[1:]))
    try:
        value = json.loads(text)
    except RecursionError:
        raise click.UsageError(f"{option} is nested too deeply") from None
    except ValueError as error:
        raise click.UsageError(f"{option} is no JSON: {error}") from None
    if fault := fault_of_json(value, exact=True):
        raise click.UsageError(f"{option} {fault}")
    return value


def read_text(file: Path) -> str:
    """What a text file holds.

    Raises:
        FileError: it holds no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FileError(f"{file}: is no text in UTF-8", file=file) from None


def _below(node: yaml.Node | None, path: tuple[str, ...]) -> yaml.Node | None:
    for key in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return None if node is None or (isinstance(node, yaml.ScalarNode) and plain(node) in (None, "")) else node


def _faults(node: yaml.MappingNode, descriptor: Any, without: str = "") -> Iterator[tuple[yaml.Node, str]]:  # noqa: ANN401 -- upb's descriptors have another type than their stub
    """What does not fit a message: where it stands, and what is wrong with it."""
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for key, value in node.value:
        field = fields.get(key.value)
        if key.value == without:
            continue
        if field is None:
            known = sorted(field.json_name for field in descriptor.fields)
            near = get_close_matches(key.value, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
            yield key, f"there is no `{key.value}` here; {hint}"
        else:
            yield from _faults_of_field(key.value, value, field)


def _faults_of_field(key: str, node: yaml.Node, field: Any) -> Iterator[tuple[yaml.Node, str]]:  # noqa: ANN401 -- as above
    kind = field.message_type
    is_map = kind is not None and kind.GetOptions().map_entry
    if field.is_repeated and not is_map:
        if not isinstance(node, yaml.SequenceNode):
            yield node, f"`{key}` must be a list"
            return
        nodes = list(node.value)
    elif is_map and isinstance(node, yaml.MappingNode):
        field = kind.fields_by_name["value"]
        nodes, kind = [value for _, value in node.value], field.message_type
    else:
        nodes = [node]
    for each in nodes:
        if kind is None or kind.full_name.startswith(_WELL_KNOWN):
            if said := _fault_of_plain(plain(each), field):
                yield each, f"`{key}` is {_shown(plain(each))}; it {said}"
        elif isinstance(each, yaml.MappingNode):
            yield from _faults(each, kind)
        else:
            yield each, f"`{key}` must hold `name: value` lines"


def _fault_of_plain(value: Any, field: Any) -> str:  # noqa: ANN401 -- any JSON, and as above
    """What a single value must be and is not; empty where it fits."""
    trial = message_factory.GetMessageClass(field.containing_type)()
    try:
        json_format.ParseDict({field.json_name: [value] if field.is_repeated else value}, trial)
    except json_format.ParseError as error:
        if field.enum_type is not None:
            return f"must be one of {', '.join(each.name for each in field.enum_type.values if each.number)}"
        named = _WELL_KNOWN_RULES.get(field.message_type.full_name) if field.message_type else None
        return named or _RULES.get(field.cpp_type) or f"does not fit: {_cleaned(error)}"
    return ""


def _cleaned(error: Exception) -> str:
    """What protobuf says without the names of its types."""
    text = re.sub(r"^(Failed to parse \w+ field: )+", "", str(error))
    text = re.sub(r' at "?[\w.\[\]]+"?\.*$', "", text.split("\n", 1)[0])
    return re.sub(r'Message type "[\w.]+" has', "it has", text).strip()


def _shown(value: Any) -> str:  # noqa: ANN401 -- any JSON
    text = "null" if value is None else f"`{value}`"
    return text if len(text) < 80 else f"{text[:76]}…`"
