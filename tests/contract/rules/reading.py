"""Reading contracts for the rules: which methods there are and what their options say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from protovalidate import Validator

from tools.contracts import Contracts

Offenders = list[str]

PUBLIC, INTERNAL = 1, 2  # tiation.mesh.v1.Access.Visibility
READ, WRITE, NONE = 1, 2, 4  # tiation.mesh.v1.Record.Category
OUTPUT_ONLY, INPUT_ONLY, IDENTIFIER = 3, 4, 8  # google.api.FieldBehavior


def ours(contracts: Contracts) -> Iterator[MethodDescriptor]:
    """Methods that can carry our options: those of our own packages."""
    for method in contracts.methods():
        if str(method.full_name).startswith("tiation."):
            yield method


def access_of(contracts: Contracts, method: MethodDescriptor) -> Any:
    return contracts.option(method, "tiation.mesh.v1.access")


def public(contracts: Contracts) -> Iterator[MethodDescriptor]:
    for method in ours(contracts):
        access = access_of(contracts, method)
        if access is not None and access.visibility == PUBLIC:
            yield method


def category_of(contracts: Contracts, method: MethodDescriptor) -> int:
    record = contracts.option(method, "tiation.mesh.v1.record")
    return record.category if record is not None else 0


def bindings(contracts: Contracts, method: MethodDescriptor) -> list[tuple[str, str, str]]:
    """(HTTP method, path, body) of each REST binding."""
    http = contracts.option(method, "google.api.http")
    rules = [] if http is None else [http, *http.additional_bindings]
    found = [(rule.WhichOneof("pattern"), rule) for rule in rules]
    return [(verb, getattr(rule, verb), rule.body) for verb, rule in found if verb]


def behavior(contracts: Contracts, field: FieldDescriptor) -> set[int]:
    return set(contracts.option(field, "google.api.field_behavior") or [])


def resources(contracts: Contracts) -> Iterator[Descriptor]:
    for message in contracts.messages():
        if contracts.option(message, "google.api.resource") is not None:
            yield message


def ours_in_rest(contracts: Contracts) -> Iterator[MethodDescriptor]:
    """Methods whose REST side speaks our own words, not another protocol's."""
    for method in ours(contracts):
        if not contracts.option(method.containing_service, "tiation.mesh.v1.dialect"):
            yield method


def find_field(message: Descriptor | None, dotted: str) -> FieldDescriptor | None:
    field = None
    for name in dotted.split("."):
        if message is None or name not in message.fields_by_name:
            return None
        field = message.fields_by_name[name]
        message = field.message_type
    return field


def fields_below(message: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    """The fields of a message of ours and of all messages of ours in it."""
    if message.full_name in seen or not message.full_name.startswith("tiation."):
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from fields_below(field.message_type, seen)


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def service_of(name: str) -> str:
    return name.split(".")[1]


def standard(contracts: Contracts, prefix: str) -> Iterator[MethodDescriptor]:
    """Public unary methods of the standard verb `prefix` (Get, List, Create, Update, Delete)."""
    for method in public(contracts):
        if re.match(rf"{prefix}[A-Z]", method.name) and not method.client_streaming:
            yield method


def violations(request: Message) -> list[str]:
    """Dotted paths of the fields that buf.validate refuses."""
    found = Validator().collect_violations(request)
    return [".".join(element.field_name for element in violation.proto.field.elements) for violation in found]
