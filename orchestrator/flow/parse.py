"""From a flow's text to its steps; whatever is wrong is said with its place in the text.

Expressions are only cut out here; `orchestrator.flow.check` compiles them. What one step holds is read in
`orchestrator.flow.leaves` and `orchestrator.flow.blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

import yaml

from mesh.sandbox.pool import MAX_PROGRAM_BYTES
from mesh.strict_yaml import plain
from orchestrator.flow.blocks import read_for, read_fork, read_reusable, read_try
from orchestrator.flow.document import compose, escaped, wrong
from orchestrator.flow.durations import seconds_of
from orchestrator.flow.leaves import read_call, read_raise, read_set, read_switch, read_wait
from orchestrator.flow.nodes import DIRECTIVES, fields_of, key_of, mapping_of, refuse_unknown, target_of, text_of
from orchestrator.flow.reader import Body, Reusable
from orchestrator.flow.steps import Do, Flow, Step, Template
from orchestrator.flow.templates import Expression, expressions_in, template_of

__all__ = ["parse_flow"]

_COMMON = ("if", "input", "output", "export", "then", "metadata")
_LATER = ("emit", "listen", "run")
_DSL = ("1.0.0", "1.0.1", "1.0.2", "1.0.3")
_MAX_STEPS = 500

_Read: TypeAlias = Callable[[Any, Body], Step]


def parse_flow(text: str) -> tuple[Flow, list[Expression]]:
    """A flow and every expression in it.

    Raises:
        FlowInvalidError: with line, column and JSON pointer.
    """
    return _Parser().flow(compose(text))


def _read_do(parser: _Parser, body: Body) -> Step:
    return Do(**body.common, steps=parser.steps(body.fields["do"], f"{body.pointer}/do"))


_KINDS: Mapping[str, tuple[tuple[str, ...], _Read]] = {
    "for": (("while", "do"), read_for),
    "do": ((), _read_do),
    "set": ((), read_set),
    "switch": ((), read_switch),
    "try": (("catch",), read_try),
    "fork": ((), read_fork),
    "raise": ((), read_raise),
    "wait": ((), read_wait),
    "call": (("with", "timeout"), read_call),
}
"""Each kind of step by its key: the keys that belong to it besides, and what reads it. `for` has a `do` of its own."""


class _Parser:
    """Goes through one document; remembers the expressions it meets."""

    def __init__(self) -> None:
        self._expressions: list[Expression] = []
        self._count = 0
        self.reusable = Reusable({}, {})

    def flow(self, root: yaml.Node) -> tuple[Flow, list[Expression]]:
        """The whole document."""
        fields = fields_of(root, "", needed=("document", "do"), allowed=("input", "output", "use"))
        document = fields_of(
            fields["document"],
            "/document",
            needed=("dsl", "name"),
            allowed=("namespace", "version", "title", "summary", "tags", "metadata"),
        )
        dsl = str(plain(document["dsl"]))
        if dsl not in _DSL:
            raise wrong(document["dsl"], "/document/dsl", f"version {dsl} is not supported; write 1.0.0")
        if "use" in fields:
            self.reusable = read_reusable(self, fields["use"])
        mark: Any = document["name"].start_mark
        flow = Flow(
            name=text_of(document["name"], "/document/name"),
            name_place=(mark.line + 1, mark.column + 1),
            input_from=self._inner(fields, "input", "from", ""),
            output_as=self._inner(fields, "output", "as", ""),
            steps=self.steps(fields["do"], "/do"),
        )
        return flow, self._expressions

    def steps(self, node: yaml.Node, pointer: str, *, jumps: bool = True) -> tuple[Step, ...]:
        """A list of steps, each an object with one key: its name. Without `jumps` none may lead to another."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise wrong(node, pointer, "must be a list of steps, `- name: {…}`")
        steps: list[Step] = []
        names = {item.value[0][0].value for item in node.value if isinstance(item, yaml.MappingNode) and item.value}
        seen: set[str] = set()
        for at, item in enumerate(node.value):
            here = f"{pointer}/{at}"
            if not isinstance(item, yaml.MappingNode) or len(item.value) != 1:
                raise wrong(item, here, "must be one step, `name: {…}`")
            key, body = item.value[0]
            if key.value in seen:
                raise wrong(key, here, f"there is a step `{key.value}` in this list already")
            if key.value in DIRECTIVES:
                raise wrong(key, here, f"`{key.value}` says where a flow goes; give the step another name")
            seen.add(key.value)
            steps.append(self._step(key.value, body, f"{here}/{escaped(key.value)}", names if jumps else set()))
        return tuple(steps)

    def _step(self, name: str, node: yaml.Node, pointer: str, names: AbstractSet[str]) -> Step:
        self._count += 1
        if self._count > _MAX_STEPS:
            raise wrong(node, pointer, f"the flow has more than {_MAX_STEPS} steps")
        fields = mapping_of(node, pointer)
        kind = self._kind(fields, node, pointer)
        own, read = _KINDS[kind]
        refuse_unknown(node, pointer, (kind, *own, *_COMMON))
        common: dict[str, Any] = {
            "name": name,
            "pointer": pointer,
            "condition": self.template(fields.get("if"), f"{pointer}/if"),
            "input_from": self._inner(fields, "input", "from", pointer),
            "output_as": self._inner(fields, "output", "as", pointer),
            "export_as": self._inner(fields, "export", "as", pointer),
            "then": target_of(fields["then"], f"{pointer}/then", names) if "then" in fields else "continue",
        }
        return read(self, Body(common, fields, node, pointer, names))

    @staticmethod
    def _kind(fields: Mapping[str, yaml.Node], node: yaml.Node, pointer: str) -> str:
        """What a step does."""
        kinds = [key for key in _KINDS if key in fields]
        if kinds[:2] == ["for", "do"]:
            kinds.remove("do")
        later = [key for key in fields if key in _LATER]
        if len(kinds) == 1 and not later:
            return kinds[0]
        known = {*_KINDS, *_COMMON, *(key for kind in kinds for key in _KINDS[kind][0])}
        unknown = later[0] if later else next((key for key in fields if key not in known), "")
        said = f"unknown step `{unknown}`" if unknown else "a step does exactly one thing"
        raise wrong(key_of(node, unknown) or node, pointer, f"{said}; it may be one of {', '.join(_KINDS)}")

    def _inner(self, fields: Mapping[str, yaml.Node], outer: str, inner: str, pointer: str) -> Template | None:
        """`output: {as: …}` and its like."""
        if outer not in fields:
            return None
        found = fields_of(fields[outer], f"{pointer}/{outer}", needed=(inner,), allowed=())
        return self.template(found[inner], f"{pointer}/{outer}/{inner}")

    def required(self, node: yaml.Node, pointer: str) -> Template:
        """A value, with expressions where `${ … }` says so."""
        return self._noted(node, pointer, bare=False)

    def template(self, node: yaml.Node | None, pointer: str) -> Template | None:
        """A condition or transformation, which is an expression also without `${ … }`."""
        return None if node is None else self._noted(node, pointer, bare=True)

    def duration(self, node: yaml.Node, pointer: str) -> Template:
        """A duration, or what makes one; one without expressions is checked here."""
        made = self.required(node, pointer)
        if not made.program:
            try:
                seconds_of(made.constant)
            except ValueError as error:
                raise wrong(node, pointer, str(error)) from None
        return made

    def _noted(self, node: yaml.Node, pointer: str, *, bare: bool) -> Template:
        self._expressions += expressions_in(node, pointer, bare=bare)
        template = template_of(node, bare=bare)
        size = len(template.program.encode())
        if size > MAX_PROGRAM_BYTES:
            raise wrong(node, pointer, f"the expressions here are {size} bytes; at most {MAX_PROGRAM_BYTES} are run")
        return template
