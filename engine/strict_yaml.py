"""YAML from strangers: plain values only, no aliases, no key twice, bounded size and depth.

What the values mean lives with whoever reads them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["StrictYamlError", "parse_yaml"]

_MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 32


class StrictYamlError(ValueError):
    """The text is not YAML that we read; the message gives the line."""


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
