"""From a flow's text to its steps; whatever is wrong is said with its place in the text.

Expressions are only cut out here; `orchestrator.flow.check` compiles them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import yaml

from mesh.sandbox.pool import MAX_PROGRAM_BYTES
from mesh.strict_yaml import plain
from orchestrator.flow.document import compose, escaped, wrong
from orchestrator.flow.steps import Call, Case, Catch, Do, Flow, Set, Step, Switch, Template, Try
from orchestrator.flow.templates import VARIABLES, Expression, expressions_in, template_of

__all__ = ["parse_flow"]

_CALLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "infer": (("model", "inputs"), ("version",)),
    "decide": (("decision",), ("input", "version")),
    "connect": (("connection", "operation"), ("input",)),
}
"""What each call needs, and what it may have besides."""
_KINDS = ("do", "set", "switch", "try", "call")
_LATER = ("for", "fork", "raise", "wait", "emit", "listen", "run")
_COMMON = ("if", "input", "output", "export", "then", "metadata")
_DIRECTIVES = ("continue", "exit", "end")
_DSL = ("1.0.0", "1.0.1", "1.0.2", "1.0.3")
_MAX_STEPS = 500
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def parse_flow(text: str) -> tuple[Flow, list[Expression]]:
    """A flow and every expression in it.

    Raises:
        FlowInvalidError: with line, column and JSON pointer.
    """
    return _Parser().flow(compose(text))


class _Parser:
    """Goes through one document; remembers the expressions it meets."""

    def __init__(self) -> None:
        self._expressions: list[Expression] = []
        self._count = 0

    def flow(self, root: yaml.Node) -> tuple[Flow, list[Expression]]:
        fields = _fields(root, "", needed=("document", "do"), allowed=("input", "output"))
        document = _fields(
            fields["document"],
            "/document",
            needed=("dsl", "name"),
            allowed=("namespace", "version", "title", "summary", "tags", "metadata"),
        )
        dsl = str(plain(document["dsl"]))
        if dsl not in _DSL:
            raise wrong(document["dsl"], "/document/dsl", f"version {dsl} is not supported; write 1.0.0")
        mark: Any = document["name"].start_mark
        flow = Flow(
            name=_text(document["name"], "/document/name"),
            name_place=(mark.line + 1, mark.column + 1),
            input_from=self._inner(fields, "input", "from", ""),
            output_as=self._inner(fields, "output", "as", ""),
            steps=self._steps(fields["do"], "/do"),
        )
        return flow, self._expressions

    def _steps(self, node: yaml.Node, pointer: str) -> tuple[Step, ...]:
        """A list of steps, each an object with one key: its name."""
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
            if key.value in _DIRECTIVES:
                raise wrong(key, here, f"`{key.value}` says where a flow goes; give the step another name")
            seen.add(key.value)
            steps.append(self._step(key.value, body, f"{here}/{escaped(key.value)}", names))
        return tuple(steps)

    def _step(self, name: str, node: yaml.Node, pointer: str, names: AbstractSet[str]) -> Step:
        self._count += 1
        if self._count > _MAX_STEPS:
            raise wrong(node, pointer, f"the flow has more than {_MAX_STEPS} steps")
        fields = _mapping(node, pointer)
        kinds = [key for key in fields if key in _KINDS]
        later = [key for key in fields if key in _LATER]
        if len(kinds) != 1 or later:
            unknown = later[0] if later else next((key for key in fields if key not in (*_KINDS, *_COMMON)), "")
            said = f"unknown step `{unknown}`" if unknown else "a step does exactly one thing"
            raise wrong(_key(node, unknown) or node, pointer, f"{said}; it may be one of {', '.join(_KINDS)}")
        kind = kinds[0]
        own = {"call": ("with",), "try": ("catch",)}.get(kind, ())
        _refuse_unknown(node, pointer, (kind, *own, *_COMMON))
        common: dict[str, Any] = {
            "name": name,
            "pointer": pointer,
            "condition": self._template(fields.get("if"), f"{pointer}/if"),
            "input_from": self._inner(fields, "input", "from", pointer),
            "output_as": self._inner(fields, "output", "as", pointer),
            "export_as": self._inner(fields, "export", "as", pointer),
            "then": _target(fields["then"], f"{pointer}/then", names) if "then" in fields else "continue",
        }
        match kind:
            case "set":
                return Set(**common, value=self._value(fields["set"], f"{pointer}/set"))
            case "do":
                return Do(**common, steps=self._steps(fields["do"], f"{pointer}/do"))
            case "switch":
                return Switch(**common, cases=self._cases(fields["switch"], f"{pointer}/switch", names))
            case "try":
                return self._try(common, fields, node, pointer)
            case _:
                return self._call(common, fields, node, pointer)

    def _call(self, common: dict[str, Any], fields: Mapping[str, yaml.Node], node: yaml.Node, pointer: str) -> Call:
        kind = _text(fields["call"], f"{pointer}/call")
        if kind not in _CALLS:
            raise wrong(fields["call"], f"{pointer}/call", f"unknown call `{kind}`; it may be {', '.join(_CALLS)}")
        if "with" not in fields:
            raise wrong(node, pointer, f"`call: {kind}` needs `with`")
        needed, allowed = _CALLS[kind]
        _fields(fields["with"], f"{pointer}/with", needed=needed, allowed=allowed)
        return Call(**common, kind=kind, arguments=self._required(fields["with"], f"{pointer}/with"))

    def _try(self, common: dict[str, Any], fields: Mapping[str, yaml.Node], node: yaml.Node, pointer: str) -> Try:
        if "catch" not in fields:
            raise wrong(node, pointer, "`try` needs `catch`")
        catch = _fields(fields["catch"], f"{pointer}/catch", needed=(), allowed=("errors", "as", "when", "do"))
        matching: tuple[tuple[str, object], ...] = ()
        if "errors" in catch:
            errors = _fields(catch["errors"], f"{pointer}/catch/errors", needed=("with",), allowed=())
            known = ("type", "status", "title", "detail", "instance")
            wanted = _fields(errors["with"], f"{pointer}/catch/errors/with", needed=(), allowed=known)
            matching = tuple((key, plain(value)) for key, value in wanted.items())
        return Try(
            **common,
            steps=self._steps(fields["try"], f"{pointer}/try"),
            catch=Catch(
                matching=matching,
                error_as=_error_name(catch["as"], f"{pointer}/catch/as") if "as" in catch else "error",
                when=self._template(catch.get("when"), f"{pointer}/catch/when"),
                steps=self._steps(catch["do"], f"{pointer}/catch/do") if "do" in catch else (),
            ),
        )

    def _cases(self, node: yaml.Node, pointer: str, names: AbstractSet[str]) -> tuple[Case, ...]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise wrong(node, pointer, "must be a list of cases, `- name: {when: …, then: …}`")
        cases = []
        for at, item in enumerate(node.value):
            here = f"{pointer}/{at}"
            if not isinstance(item, yaml.MappingNode) or len(item.value) != 1:
                raise wrong(item, here, "must be one case, `name: {when: …, then: …}`")
            here = f"{here}/{escaped(item.value[0][0].value)}"
            fields = _fields(item.value[0][1], here, needed=("then",), allowed=("when",))
            when = self._template(fields.get("when"), f"{here}/when")
            cases.append(Case(when, _target(fields["then"], f"{here}/then", names)))
        return tuple(cases)

    def _inner(self, fields: Mapping[str, yaml.Node], outer: str, inner: str, pointer: str) -> Template | None:
        """`output: {as: …}` and its like."""
        if outer not in fields:
            return None
        found = _fields(fields[outer], f"{pointer}/{outer}", needed=(inner,), allowed=())
        return self._template(found[inner], f"{pointer}/{outer}/{inner}")

    def _value(self, node: yaml.Node, pointer: str) -> Template:
        if not isinstance(node, yaml.MappingNode) and not any(expressions_in(node)):
            raise wrong(node, pointer, "must be named values, or one expression `${ … }`")
        return self._required(node, pointer)

    def _required(self, node: yaml.Node, pointer: str) -> Template:
        return self._noted(node, pointer, bare=False)

    def _template(self, node: yaml.Node | None, pointer: str) -> Template | None:
        """A condition or transformation, which is an expression also without `${ … }`."""
        return None if node is None else self._noted(node, pointer, bare=True)

    def _noted(self, node: yaml.Node, pointer: str, *, bare: bool) -> Template:
        self._expressions += expressions_in(node, pointer, bare=bare)
        template = template_of(node, bare=bare)
        size = len(template.program.encode())
        if size > MAX_PROGRAM_BYTES:
            raise wrong(node, pointer, f"the expressions here are {size} bytes; at most {MAX_PROGRAM_BYTES} are run")
        return template


def _mapping(node: yaml.Node, pointer: str) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise wrong(node, pointer, "must be an object")
    return {key.value: value for key, value in node.value}


def _fields(node: yaml.Node, pointer: str, *, needed: Iterable[str], allowed: Iterable[str]) -> dict[str, yaml.Node]:
    """An object's fields, of which some must be there and no others than the allowed ones may."""
    fields = _mapping(node, pointer)
    _refuse_unknown(node, pointer, (*needed, *allowed))
    for name in needed:
        if name not in fields:
            raise wrong(node, pointer, f"`{name}` is missing")
    return fields


def _refuse_unknown(node: yaml.Node, pointer: str, known: Iterable[str]) -> None:
    for key, _ in node.value:
        if key.value not in known:
            raise wrong(key, pointer, f"unknown key `{key.value}`; known are {', '.join(known)}")


def _key(node: yaml.Node, name: str) -> yaml.Node | None:
    return next((key for key, _ in node.value if key.value == name), None)


def _text(node: yaml.Node, pointer: str) -> str:
    value = plain(node)
    if not isinstance(value, str) or not value:
        raise wrong(node, pointer, "must be a text")
    return value


def _target(node: yaml.Node, pointer: str, names: AbstractSet[str]) -> str:
    """Where a `then` leads: a step of the same list, or out of it."""
    target = _text(node, pointer)
    if target not in names and target not in _DIRECTIVES:
        known = ", ".join((*sorted(names), *_DIRECTIVES))
        raise wrong(node, pointer, f"`then: {target}` leads nowhere; it may be {known}")
    return target


def _error_name(node: yaml.Node, pointer: str) -> str:
    """The variable that holds a caught problem."""
    name = _text(node, pointer)
    if not _VARIABLE.fullmatch(name) or name in (*VARIABLES, "ENV", "__loc__", "__prog_args"):
        raise wrong(node, pointer, f"`{name}` cannot be a variable; use letters, digits and `_`, and no name in use")
    return name
