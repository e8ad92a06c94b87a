"""YAML from strangers: plain values only, no aliases, no key twice, bounded size and depth.

What the values mean lives with whoever reads them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["StrictYamlError", "compose_yaml", "parse_yaml", "plain"]

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 32


class StrictYamlError(ValueError):
    """The text is not YAML that we read; the message gives the line."""

    line = 1
    column = 1


class _Loader(yaml.SafeLoader):
    """The safe loader without aliases (they can grow without end) and without silent overwriting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401 -- yaml's own
        if self.check_event(yaml.AliasEvent):
            raise StrictYamlError(f"line {self.line}: aliases (`*name`) are not read; write the value out")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise StrictYamlError(f"line {self.line}: nested deeper than {_MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: Any) -> Any:  # noqa: ANN401 -- yaml's own
        value = super().construct_scalar(node)
        try:  # JSON is YAML, and JSON may write a character as two halves
            return value.encode("utf-16", "surrogatepass").decode("utf-16") if isinstance(value, str) else value
        except UnicodeDecodeError:
            line = node.start_mark.line + 1
            raise StrictYamlError(f"line {line}: holds half of a surrogate pair, which is no text") from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise StrictYamlError(f"line {line}: a key must be a plain word")
            if key.value in seen:
                raise StrictYamlError(f"line {line}: `{key.value}` is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def compose_yaml(text: str) -> yaml.Node:
    """The tree of one YAML document, every node with the place where it stands.

    Raises:
        StrictYamlError: as `parse_yaml`.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise StrictYamlError("line 1: there is nothing")
        _check_keys(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        refused = StrictYamlError(f"line {mark.line + 1 if mark else 1}: {error.problem}")
        refused.line, refused.column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise refused from None
    except yaml.YAMLError as error:
        raise StrictYamlError(str(error).replace("\n", " ")) from None
    finally:
        loader.dispose()
    return node


def plain(node: yaml.Node) -> Any:  # noqa: ANN401 -- any JSON
    """What a node holds, as JSON knows it: dates stay text.

    Raises:
        StrictYamlError: a value that JSON does not know.
    """
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(value) for value in node.value]
    if node.tag in _TEXTS:
        return node.value
    value = yaml.SafeLoader("").construct_object(node)
    if isinstance(value, float) and not math.isfinite(value):
        raise StrictYamlError(f"line {node.start_mark.line + 1}: {node.value} is no number that JSON knows")
    return value


_TEXTS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "timestamp", "binary", "value", "merge")}


def _check_keys(node: yaml.Node) -> None:
    """Keys are plain words, each there once, everywhere below a node."""
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                what = (
                    f"`{key.value}` is there twice"
                    if isinstance(key, yaml.ScalarNode)
                    else "a key must be a plain word"
                )
                refused = StrictYamlError(f"line {key.start_mark.line + 1}: {what}")
                refused.line, refused.column = key.start_mark.line + 1, key.start_mark.column + 1
                raise refused
            seen.add(key.value)
            _check_keys(value)


def parse_yaml(data: bytes) -> object:
    """The value of one YAML document.

    Raises:
        StrictYamlError: not YAML, not UTF-8, too large, too deep, an alias or a key twice.
    """
    if len(data) > _MAX_BYTES:
        raise StrictYamlError(f"is {len(data)} bytes; at most {_MAX_BYTES} are read")
    try:
        return yaml.load(data.decode("utf-8"), _Loader)  # noqa: S506 -- a SafeLoader
    except UnicodeDecodeError as error:
        raise StrictYamlError(f"is not UTF-8 at byte {error.start}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise StrictYamlError(f"line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, StrictYamlError):
            raise
        raise StrictYamlError(str(error).replace("\n", " ")) from None
