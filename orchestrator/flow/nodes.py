"""Reading a flow's nodes: objects with known keys only, texts, names; what is wrong is said with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import yaml

from mesh.strict_yaml import plain
from orchestrator.flow.document import wrong
from orchestrator.flow.templates import VARIABLES

__all__ = ["DIRECTIVES", "fields_of", "key_of", "mapping_of", "refuse_unknown", "target_of", "text_of", "variable_of"]

DIRECTIVES = ("continue", "exit", "end")
"""Where a flow may go besides to a step of the same list."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def mapping_of(node: yaml.Node, pointer: str) -> dict[str, yaml.Node]:
    """An object's fields."""
    if not isinstance(node, yaml.MappingNode):
        raise wrong(node, pointer, "must be an object")
    return {key.value: value for key, value in node.value}


def fields_of(node: yaml.Node, pointer: str, *, needed: Iterable[str], allowed: Iterable[str]) -> dict[str, yaml.Node]:
    """An object's fields, of which some must be there and no others than the allowed ones may."""
    fields = mapping_of(node, pointer)
    refuse_unknown(node, pointer, (*needed, *allowed))
    for name in needed:
        if name not in fields:
            raise wrong(node, pointer, f"`{name}` is missing")
    return fields


def refuse_unknown(node: yaml.Node, pointer: str, known: Iterable[str]) -> None:
    """Refuse the first key of an object that is none of the known ones."""
    for key, _ in node.value:
        if key.value not in known:
            raise wrong(key, pointer, f"unknown key `{key.value}`; known are {', '.join(known)}")


def key_of(node: yaml.Node, name: str) -> yaml.Node | None:
    """The node of a key."""
    return next((key for key, _ in node.value if key.value == name), None)


def text_of(node: yaml.Node, pointer: str) -> str:
    """A text that is not empty."""
    value = plain(node)
    if not isinstance(value, str) or not value:
        raise wrong(node, pointer, "must be a text")
    return value


def target_of(node: yaml.Node, pointer: str, names: AbstractSet[str]) -> str:
    """Where a `then` leads: a step of the same list, or out of it."""
    target = text_of(node, pointer)
    if target not in names and target not in DIRECTIVES:
        known = ", ".join((*sorted(names), *DIRECTIVES))
        raise wrong(node, pointer, f"`then: {target}` leads nowhere; it may be {known}")
    return target


def variable_of(node: yaml.Node, pointer: str) -> str:
    """The name of a variable that steps see."""
    name = text_of(node, pointer)
    if not _VARIABLE.fullmatch(name) or name in (*VARIABLES, "ENV", "__loc__", "__prog_args"):
        raise wrong(node, pointer, f"`{name}` cannot be a variable; use letters, digits and `_`, and no name in use")
    return name
