"""Messages, enums and fields as OpenAPI schemas, by the rules of proto3 JSON.

Paths and operations are not looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from tools.contracts import Contracts
from tools.openapi import constraints

__all__ = ["Schema", "Schemas", "is_map", "sentence"]

Schema = dict[str, Any]

_LONG = {"type": "string", "format": "int64"}
_UNSIGNED_LONG = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
_INT = {"type": "integer", "format": "int32"}
_UNSIGNED_INT = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 4294967295}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_FIXED32: _UNSIGNED_INT,
    FieldDescriptor.TYPE_FIXED64: _UNSIGNED_LONG,
    FieldDescriptor.TYPE_INT32: _INT,
    FieldDescriptor.TYPE_INT64: _LONG,
    FieldDescriptor.TYPE_SFIXED32: _INT,
    FieldDescriptor.TYPE_SFIXED64: _LONG,
    FieldDescriptor.TYPE_SINT32: _INT,
    FieldDescriptor.TYPE_SINT64: _LONG,
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: _UNSIGNED_INT,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED_LONG,
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Any": {
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
    "google.protobuf.BoolValue": {"type": "boolean", "nullable": True},
    "google.protobuf.BytesValue": {"type": "string", "format": "byte", "nullable": True},
    "google.protobuf.DoubleValue": {"type": "number", "format": "double", "nullable": True},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$", "example": "1.5s"},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.FieldMask": {"type": "string", "example": "displayName,labels"},
    "google.protobuf.FloatValue": {"type": "number", "format": "float", "nullable": True},
    "google.protobuf.Int32Value": {**_INT, "nullable": True},
    "google.protobuf.Int64Value": {**_LONG, "nullable": True},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.StringValue": {"type": "string", "nullable": True},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.UInt32Value": {**_UNSIGNED_INT, "nullable": True},
    "google.protobuf.UInt64Value": {**_UNSIGNED_LONG, "nullable": True},
    "google.protobuf.Value": {},
}
_REQUIRED, _OUTPUT_ONLY, _INPUT_ONLY, _IMMUTABLE = 2, 3, 4, 5  # google.api.FieldBehavior


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a `map<…>`, which descriptors show as a list of entries."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def sentence(text: str) -> str:
    """The first sentence of a comment, without its full stop."""
    return " ".join(text.split()).partition(". ")[0].removesuffix(".")


class Schemas:
    """The schemas that one document refers to, made when they are first named."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._components: dict[str, Schema] = {}

    def components(self) -> dict[str, Schema]:
        """Every schema named so far and what those name, by full proto name."""
        return dict(sorted(self._components.items()))

    def reference(self, message: Descriptor) -> Schema:
        """The schema of a message: written out if Google defined its JSON, else a `$ref` to a component."""
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        return self._refer(message.full_name, lambda: self.message(message, message.fields))

    def message(self, message: Descriptor, fields: Iterable[FieldDescriptor]) -> Schema:
        """An object with just these `fields` of `message`."""
        shown = list(fields)
        schema: Schema = {"type": "object"}
        if description := self._contracts.comment(message):
            schema["description"] = description
        if required := [field.json_name for field in shown if self.required(field)]:
            schema["required"] = required
        schema["properties"] = {field.json_name: self.field(field) for field in shown}
        exclusive = [pair for oneof in message.oneofs for pair in _pairs(oneof.fields, shown)]
        if exclusive:
            # Two members of a oneof at once are refused by every proto3 JSON parser.
            schema["not"] = {"anyOf": [{"required": list(pair)} for pair in exclusive]}
        return schema

    def required(self, field: FieldDescriptor) -> bool:
        """Whether the field must be there, by google.api.field_behavior."""
        return _REQUIRED in self._behavior(field)

    def field(self, field: FieldDescriptor) -> Schema:
        """The schema of one field with its comment, its behaviour and its validation rules."""
        schema = self._type(field)
        notes = [self._contracts.comment(field)]
        rules = self._contracts.option(field, "buf.validate.field")
        if rules is not None:
            constraints.narrow(schema, rules)
            notes.extend(constraints.describe(rules))
        behavior = self._behavior(field)
        if _IMMUTABLE in behavior:
            notes.append("Cannot be changed later.")
        extra: Schema = {}
        if description := " ".join(note for note in notes if note):
            extra["description"] = description
        if _OUTPUT_ONLY in behavior:
            extra["readOnly"] = True
        if _INPUT_ONLY in behavior:
            extra["writeOnly"] = True
        if self._contracts.option(field, "tiation.mesh.v1.secret") and schema.get("type") == "string":
            extra["format"] = "password"
        if "$ref" in schema and extra:
            # OpenAPI 3.0 ignores whatever stands beside a $ref.
            return {"allOf": [schema], **extra}
        return {**schema, **extra}

    def _behavior(self, field: FieldDescriptor) -> list[int]:
        return self._contracts.option(field, "google.api.field_behavior") or []

    def _type(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None and is_map(field):
            value = self._single(field.message_type.fields_by_name["value"])
            return {"type": "object", "additionalProperties": value}
        if field.is_repeated:
            return {"type": "array", "items": self._single(field)}
        return self._single(field)

    def _single(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.reference(field.message_type)
        if field.enum_type is not None:
            if field.enum_type.full_name == "google.protobuf.NullValue":
                return {"nullable": True, "enum": [None]}
            enum = field.enum_type
            return self._refer(enum.full_name, lambda: self._enum(enum))
        return dict(_SCALARS[field.type])

    def _enum(self, enum: EnumDescriptor) -> Schema:
        lines = [self._contracts.comment(enum), ""]
        lines += [f"- {value.name}: {sentence(self._contracts.comment(value))}" for value in enum.values]
        return {
            "type": "string",
            "description": "\n".join(lines).strip(),
            "enum": [value.name for value in enum.values],
        }

    def _refer(self, name: str, make: Callable[[], Schema]) -> Schema:
        if name not in self._components:
            self._components[name] = {}  # taken, so that a message may hold itself
            self._components[name] = make()
        return {"$ref": f"#/components/schemas/{name}"}


def _pairs(members: Iterable[FieldDescriptor], shown: list[FieldDescriptor]) -> list[tuple[str, str]]:
    names = [field.json_name for field in members if field in shown]
    return [(first, second) for at, first in enumerate(names) for second in names[at + 1 :]]
