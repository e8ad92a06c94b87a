"""What JSON bodies may hold at each REST path, as tables for a program of the front proxy that refuses unknown names.

The transcoder drops what it does not know; the program in `envoy/unknown_fields.lua` sees it before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool

from cli.assets import asset
from cli.gateway.contract import services

__all__ = ["unknown_fields_program"]

_OPAQUE = "google."
"""Messages of these packages have a JSON of their own; what is in it is not looked at."""
_MAGIC = re.compile(r"([^\w/{}*])")


def unknown_fields_program() -> str:
    """The program, its tables before it."""
    found = list(_bodies())
    types: dict[str, Mapping[str, str]] = {}
    for _, _, message in found:
        _describe(message, types)
    bindings = [f'{{"{verb}", "{pattern}", "{message.full_name}"}},' for verb, pattern, message in found]
    described = [
        f'["{name}"] = {{{", ".join(f"[{_text(field)}] = {_lua(below)}" for field, below in fields.items())}}},'
        for name, fields in types.items()
    ]
    tables = ["local bindings = {", *bindings, "}", "local types = {", *described, "}"]
    return "\n".join([*tables, asset("envoy/unknown_fields.lua").read_text()])


def _bodies() -> Iterator[tuple[str, str, Any]]:
    """Verb, path as a Lua pattern, and the message that the body is, of every public method that takes one."""
    for backend in services():
        internal = {method.name for method in backend.methods if method.internal}
        for method in descriptor_pool.Default().FindServiceByName(backend.name).methods:
            if f"{backend.name}/{method.name}" in internal:
                continue
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for each in (rule, *rule.additional_bindings):
                message = _body(each, method.input_type)
                if message is not None and not message.full_name.startswith(_OPAQUE):
                    kind = each.WhichOneof("pattern")
                    yield kind.upper(), _lua_pattern(getattr(each, kind)), message


def _body(rule: http_pb2.HttpRule, request: Any) -> Any:  # noqa: ANN401 -- a descriptor, which has no one type
    if not rule.body:
        return None
    return request if rule.body == "*" else request.fields_by_name[rule.body].message_type


def _lua_pattern(template: str) -> str:
    path = _MAGIC.sub(r"%\1", re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", re.sub(r"\{([^=}]+)\}", "*", template)))
    return f"^{path.replace('**', '.+').replace('*', '[^/:]+')}$"


def _describe(message: Any, types: dict[str, Mapping[str, str]]) -> None:  # noqa: ANN401 -- a descriptor
    """Note a message's fields, by both of their names, and the messages below it."""
    if message.full_name in types:
        return
    fields: dict[str, str] = {}
    types[message.full_name] = fields
    for field in message.fields:
        below = _below(field)
        fields[field.name] = fields[field.json_name] = below.full_name if below is not None else ""
        if below is not None:
            _describe(below, types)


def _below(field: Any) -> Any:  # noqa: ANN401 -- descriptors
    """The message whose names count below a field; None for plain values, maps and foreign messages."""
    message = field.message_type
    if message is None or message.GetOptions().map_entry or message.full_name.startswith(_OPAQUE):
        return None
    return message


def _lua(below: str) -> str:
    return _text(below) if below else "true"


def _text(name: str) -> str:
    return f'"{name}"'
