"""From a flow's text to its steps; whatever is wrong is said with its place in the text.

Expressions are only cut out here; `orchestrator.flow.check` compiles them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from mesh.strict_yaml import StrictYamlError, compose_yaml, plain
from orchestrator.errors import FlowInvalidError
from orchestrator.flow.steps import Call, Case, Catch, Do, Flow, Set, Step, Switch, Template, Try
from orchestrator.flow.templates import Expression, expressions_in, template_of

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


def parse_flow(text: str) -> tuple[Flow, list[Expression]]:
    """A flow and every expression in it.

    Raises:
        FlowInvalidError: with line, column and JSON pointer.
    """
    try:
        root = compose_yaml(text)
    except StrictYamlError as error:
        message = str(error).split(": ", 1)[-1]
        line = int(str(error).split(":", 1)[0].removeprefix("line ")) if str(error).startswith("line ") else 1
        raise FlowInvalidError(message, line=line, column=error.column) from None
    try:
        return _Parser().flow(root)
    except StrictYamlError as error:
        raise FlowInvalidError(str(error), line=1, column=1) from None


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
            raise _wrong(document["dsl"], "/document/dsl", f"version {dsl} is not supported; write 1.0.0")
        flow = Flow(
            name=_text(document["name"], "/document/name"),
            definition=plain(root),
            input_from=self._inner(fields, "input", "from", ""),
            output_as=self._inner(fields, "output", "as", ""),
            steps=self._steps(fields["do"], "/do"),
        )
        return flow, self._expressions

    def _steps(self, node: yaml.Node, pointer: str) -> tuple[Step, ...]:
        """A list of steps, each an object with one key: its name."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise _wrong(node, pointer, "must be a list of steps, `- name: {…}`")
        steps: list[Step] = []
        names: dict[str, yaml.Node] = {}
        for at, item in enumerate(node.value):
            here = f"{pointer}/{at}"
            if not isinstance(item, yaml.MappingNode) or len(item.value) != 1:
                raise _wrong(item, here, "must be one step, `name: {…}`")
            key, body = item.value[0]
            if key.value in names:
                raise _wrong(key, here, f"there is a step `{key.value}` in this list already")
            if key.value in _DIRECTIVES:
                raise _wrong(key, here, f"`{key.value}` says where a flow goes; give the step another name")
            names[key.value] = key
            steps.append(self._step(key.value, body, f"{here}/{_escaped(key.value)}"))
        for step, item in zip(steps, node.value, strict=True):
            self._check_targets(step, item, set(names))
        return tuple(steps)

    def _step(self, name: str, node: yaml.Node, pointer: str) -> Step:
        self._count += 1
        if self._count > _MAX_STEPS:
            raise _wrong(node, pointer, f"the flow has more than {_MAX_STEPS} steps")
        fields = _mapping(node, pointer)
        kinds = [key for key in fields if key in _KINDS]
        later = [key for key in fields if key in _LATER]
        if len(kinds) != 1 or later:
            unknown = later[0] if later else next((key for key in fields if key not in (*_KINDS, *_COMMON)), "")
            said = f"unknown step `{unknown}`" if unknown else "a step does exactly one thing"
            raise _wrong(_key(node, unknown) or node, pointer, f"{said}; it may be one of {', '.join(_KINDS)}")
        kind = kinds[0]
        own = {"call": ("with",), "try": ("catch",)}.get(kind, ())
        _refuse_unknown(node, pointer, (kind, *own, *_COMMON))
        common: dict[str, Any] = {
            "name": name,
            "pointer": pointer,
            "condition": self._template(fields.get("if"), bare=True),
            "input_from": self._inner(fields, "input", "from", pointer),
            "output_as": self._inner(fields, "output", "as", pointer),
            "export_as": self._inner(fields, "export", "as", pointer),
            "then": _text(fields["then"], f"{pointer}/then") if "then" in fields else "continue",
        }
        match kind:
            case "set":
                return Set(**common, value=self._value(fields["set"], f"{pointer}/set"))
            case "do":
                return Do(**common, steps=self._steps(fields["do"], f"{pointer}/do"))
            case "switch":
                return Switch(**common, cases=self._cases(fields["switch"], f"{pointer}/switch"))
            case "try":
                return self._try(common, fields, node, pointer)
            case _:
                return self._call(common, fields, node, pointer)

    def _call(self, common: dict[str, Any], fields: Mapping[str, yaml.Node], node: yaml.Node, pointer: str) -> Call:
        kind = _text(fields["call"], f"{pointer}/call")
        if kind not in _CALLS:
            raise _wrong(fields["call"], f"{pointer}/call", f"unknown call `{kind}`; it may be {', '.join(_CALLS)}")
        if "with" not in fields:
            raise _wrong(node, pointer, f"`call: {kind}` needs `with`")
        needed, allowed = _CALLS[kind]
        _fields(fields["with"], f"{pointer}/with", needed=needed, allowed=allowed)
        return Call(**common, kind=kind, arguments=self._required(fields["with"]))

    def _try(self, common: dict[str, Any], fields: Mapping[str, yaml.Node], node: yaml.Node, pointer: str) -> Try:
        if "catch" not in fields:
            raise _wrong(node, pointer, "`try` needs `catch`")
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
                error_as=_text(catch["as"], f"{pointer}/catch/as") if "as" in catch else "error",
                when=self._template(catch.get("when"), bare=True),
                steps=self._steps(catch["do"], f"{pointer}/catch/do") if "do" in catch else (),
            ),
        )

    def _cases(self, node: yaml.Node, pointer: str) -> tuple[Case, ...]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise _wrong(node, pointer, "must be a list of cases, `- name: {when: …, then: …}`")
        cases = []
        for at, item in enumerate(node.value):
            here = f"{pointer}/{at}"
            if not isinstance(item, yaml.MappingNode) or len(item.value) != 1:
                raise _wrong(item, here, "must be one case, `name: {when: …, then: …}`")
            fields = _fields(item.value[0][1], here, needed=("then",), allowed=("when",))
            cases.append(Case(self._template(fields.get("when"), bare=True), _text(fields["then"], f"{here}/then")))
        return tuple(cases)

    def _check_targets(self, step: Step, item: yaml.Node, names: set[str]) -> None:
        """Every `then` leads somewhere."""
        targets = [step.then, *(case.then for case in step.cases)] if isinstance(step, Switch) else [step.then]
        for target in targets:
            if target not in names and target not in _DIRECTIVES:
                known = ", ".join((*sorted(names), *_DIRECTIVES))
                raise _wrong(item, step.pointer, f"`then: {target}` leads nowhere; it may be {known}")

    def _inner(self, fields: Mapping[str, yaml.Node], outer: str, inner: str, pointer: str) -> Template | None:
        """`output: {as: …}` and its like."""
        if outer not in fields:
            return None
        found = _fields(fields[outer], f"{pointer}/{outer}", needed=(inner,), allowed=())
        return self._template(found[inner], bare=True)

    def _value(self, node: yaml.Node, pointer: str) -> Template:
        if not isinstance(node, yaml.MappingNode) and not any(expressions_in(node)):
            raise _wrong(node, pointer, "must be named values, or one expression `${ … }`")
        return self._required(node)

    def _required(self, node: yaml.Node) -> Template:
        self._expressions += expressions_in(node)
        return template_of(node)

    def _template(self, node: yaml.Node | None, *, bare: bool) -> Template | None:
        if node is None:
            return None
        self._expressions += expressions_in(node, bare=bare)
        return template_of(node, bare=bare)


def _mapping(node: yaml.Node, pointer: str) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(node, pointer, "must be an object")
    return {key.value: value for key, value in node.value}


def _fields(node: yaml.Node, pointer: str, *, needed: Iterable[str], allowed: Iterable[str]) -> dict[str, yaml.Node]:
    """An object's fields, of which some must be there and no others than the allowed ones may."""
    fields = _mapping(node, pointer)
    _refuse_unknown(node, pointer, (*needed, *allowed))
    for name in needed:
        if name not in fields:
            raise _wrong(node, pointer, f"`{name}` is missing")
    return fields


def _refuse_unknown(node: yaml.Node, pointer: str, known: Iterable[str]) -> None:
    for key, _ in node.value:
        if key.value not in known:
            raise _wrong(key, pointer, f"unknown key `{key.value}`; known are {', '.join(known)}")


def _key(node: yaml.Node, name: str) -> yaml.Node | None:
    return next((key for key, _ in node.value if key.value == name), None)


def _text(node: yaml.Node, pointer: str) -> str:
    value = plain(node)
    if not isinstance(value, str) or not value:
        raise _wrong(node, pointer, "must be a text")
    return value


def _escaped(name: str) -> str:
    """A name in a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _wrong(node: yaml.Node, pointer: str, message: str) -> FlowInvalidError:
    mark: Any = node.start_mark
    return FlowInvalidError(message, line=mark.line + 1, column=mark.column + 1, pointer=pointer)
