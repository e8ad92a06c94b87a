"""How the reference shows messages and enums: a section each, with a table, linked to each other.

Which page a section stands on is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from tools.contracts import Contracts
from tools.openapi import constraints
from tools.openapi.schemas import Schema, is_map

__all__ = ["Types"]

# google.api.FieldBehavior
_BEHAVIOR = {2: "required", 3: "output only", 4: "input only", 5: "immutable", 8: "identifier"}
_WORDS = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "like `{}`",
    "format": "written as {}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
    "uniqueItems": "no item twice",
}


class Types:
    """Writes messages and enums.

    Args:
        contracts: where they stand.
        homes: the page of each of our files.
    """

    def __init__(self, contracts: Contracts, homes: Mapping[str, str]) -> None:
        self._contracts = contracts
        self._homes = homes

    def link(self, kind: Descriptor | EnumDescriptor, page: str) -> str:
        """A type's name, as a link from `page` where it is one of ours."""
        home = self._homes.get(kind.file.name)
        name = _short(kind)
        if home is None:
            return f"`{kind.full_name}`"
        methods = (method.name for service in kind.file.services_by_name.values() for method in service.methods)
        anchor = f"{_anchor(name)}-1" if name in methods else _anchor(name)  # the second heading of that name
        return f"[{name}]({'' if home == page else home}#{anchor})"

    def sections(self, file: FileDescriptor, page: str) -> Iterator[str]:
        """A section for each message and enum of a file, nested ones after what holds them."""
        for message in file.message_types_by_name.values():
            yield from self._message(message, page)
        for enum in file.enum_types_by_name.values():
            yield self._enum(enum)

    def _message(self, message: Descriptor, page: str) -> Iterator[str]:
        lines = [f"## {_short(message)}\n", f"{self._contracts.comment(message)}\n"]
        if message.fields:
            lines.append("| field | type | behaviour | meaning |\n|---|---|---|---|")
            lines += [self._row(field, page) for field in message.fields]
            lines.append("")
        yield "\n".join(lines)
        for enum in message.enum_types:
            yield self._enum(enum)
        for nested in message.nested_types:
            if not nested.GetOptions().map_entry:
                yield from self._message(nested, page)

    def _row(self, field: FieldDescriptor, page: str) -> str:
        behavior = self._contracts.option(field, "google.api.field_behavior") or []
        marks = [_BEHAVIOR[number] for number in behavior if number in _BEHAVIOR]
        if self._contracts.option(field, "tiation.mesh.v1.secret"):
            marks.append("secret")
        one_of = field.containing_oneof
        if one_of is not None and not one_of.name.startswith("_"):
            marks.append(f"one of `{one_of.name}`")
        text = " ".join(part for part in (self._contracts.comment(field), self._limits(field)) if part)
        return f"| `{field.name}` | {self._type(field, page)} | {', '.join(marks)} | {_cell(text)} |"

    def _type(self, field: FieldDescriptor, page: str) -> str:
        if field.message_type is not None and is_map(field):
            entry = field.message_type.fields_by_name
            return f"map of {self._single(entry['key'], page)} to {self._single(entry['value'], page)}"
        single = self._single(field, page)
        return f"list of {single}" if field.is_repeated else single

    def _single(self, field: FieldDescriptor, page: str) -> str:
        kind = field.message_type or field.enum_type
        return self.link(kind, page) if kind is not None else _SCALARS[field.type]

    def _limits(self, field: FieldDescriptor) -> str:
        """What validation demands, in words."""
        rules = self._contracts.option(field, "buf.validate.field")
        if rules is None:
            return ""
        schema: Schema = {"items": {}, "additionalProperties": {}}
        constraints.narrow(schema, rules)
        words = _words(schema)
        words += [f"each {word}" for inner in ("items", "additionalProperties") for word in _words(schema[inner])]
        text = ", ".join(words)
        return " ".join([*([f"{text[0].upper()}{text[1:]}."] if text else []), *constraints.describe(rules)])

    def _enum(self, enum: EnumDescriptor) -> str:
        lines = [f"## {_short(enum)}\n", f"{self._contracts.comment(enum)}\n", "| value | meaning |\n|---|---|"]
        lines += [
            f"| `{value.name}` ({value.number}) | {_cell(self._contracts.comment(value))} |" for value in enum.values
        ]
        return "\n".join([*lines, ""])


_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_") and isinstance(number, int)
}


def _words(schema: Schema) -> list[str]:
    words = []
    for key, form in _WORDS.items():
        if key in {"minLength", "minItems", "minProperties"} and schema.get(key) == 1:
            words.append("not empty")
        elif key in schema:
            bound = {"minimum": "more than {}", "maximum": "less than {}"}.get(key, form)
            exclusive = schema.get(f"exclusive{key.capitalize()}", False)
            words.append((bound if exclusive else form).format(schema[key]))
    if "enum" in schema:
        words.append("one of " + ", ".join(f"`{value}`" for value in schema["enum"]))
    return words


def _short(kind: Descriptor | EnumDescriptor) -> str:
    """A type's name within its package, `Run.State`."""
    return str(kind.full_name).removeprefix(f"{kind.file.package}.")


def _anchor(heading: str) -> str:
    """What GitHub calls the place of a heading."""
    return heading.lower().replace(".", "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
