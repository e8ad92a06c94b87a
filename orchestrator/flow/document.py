"""A flow's text as a tree of nodes, each with its place; what is no plain YAML or JSON is refused with that place.

What the nodes mean is `orchestrator.flow.parse`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.reader import Reader

from mesh.strict_yaml import StrictYamlError, compose_yaml, plain
from orchestrator.errors import FlowInvalidError

__all__ = ["compose", "escaped", "wrong"]

_MAX_DEPTH = 32
_STRING_OR_TAB = re.compile(r'"(?:[^"\\]|\\.)*"|\t')
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


def compose(text: str) -> yaml.Node:
    """The root of one document.

    Raises:
        FlowInvalidError: it is no YAML, has anchors, aliases, a key twice, values unknown to JSON, or is nested deeper
            than 32 levels.
    """
    _check_characters(text)
    if _is_json(text):
        text = _STRING_OR_TAB.sub(lambda found: found[0].replace("\t", " "), text)  # YAML refuses them between values
    _check_events(text)
    try:
        root = compose_yaml(text)
    except StrictYamlError as error:
        message = re.sub(r"^line \d+: ", "", str(error))
        raise FlowInvalidError(message, line=error.line, column=error.column) from None
    for node, pointer in _below(root, ""):
        _check_value(node, pointer)
    return root


def escaped(name: str) -> str:
    """A name in a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def wrong(node: yaml.Node | yaml.Event, pointer: str, message: str) -> FlowInvalidError:
    """The error that says what is wrong with a node."""
    mark: Any = node.start_mark
    return FlowInvalidError(message, line=mark.line + 1, column=mark.column + 1, pointer=pointer)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _check_characters(text: str) -> None:
    found = Reader.NON_PRINTABLE.search(text)
    if found:
        before = text[: found.start()]
        message = f"the character U+{ord(found[0]):04X} may not stand in a text; remove it"
        raise FlowInvalidError(message, line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


def _check_events(text: str) -> None:
    """Refuse what a tree no longer shows: anchors, aliases, and a depth that composing it could not bear."""
    depth = documents = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise wrong(event, "", "aliases (`*name`) are not read; write the value out")
            if getattr(event, "anchor", None) is not None:
                raise wrong(event, "", "anchors (`&name`) are not read; write the value out where it is needed")
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise wrong(event, "", "there is a second document; write one flow and nothing behind it")
            elif isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > _MAX_DEPTH:
                    raise wrong(event, "", f"nested deeper than {_MAX_DEPTH} levels")
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = f"not valid YAML: {error.problem or error.context}"
        raise FlowInvalidError(message, line=line, column=column) from None


def _below(node: yaml.Node, pointer: str) -> Iterator[tuple[yaml.Node, str]]:
    """A node, every key and every value below it."""
    yield node, pointer
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key, pointer
            yield from _below(value, f"{pointer}/{escaped(key.value)}")
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield from _below(value, f"{pointer}/{at}")


def _check_value(node: yaml.Node, pointer: str) -> None:
    """A value must be one that JSON knows; texts become whole characters."""
    if not isinstance(node, yaml.ScalarNode):
        if node.tag not in _PLAIN_TAGS:
            raise wrong(node, pointer, f"the tag {node.tag} is not read; leave it out")
        return
    if _SURROGATE.search(node.value):  # JSON writes what lies beyond U+FFFF as two escapes
        try:
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise wrong(node, pointer, "half a surrogate pair is no character; write both halves") from None
    try:
        plain(node)
    except yaml.YAMLError:
        raise wrong(node, pointer, f"the tag {node.tag} is not read; leave it out") from None
    except (ValueError, LookupError, ArithmeticError):
        shown = node.value if len(node.value) <= 40 else f"{node.value[:40]}…"
        raise wrong(node, pointer, f"`{shown}` is no value that JSON knows") from None
