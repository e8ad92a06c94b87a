"""Reading the steps that hold no others: `set`, `switch`, `raise`, `wait`, `call`."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from mesh.strict_yaml import plain
from orchestrator.flow.document import escaped, wrong
from orchestrator.flow.nodes import fields_of, target_of, text_of
from orchestrator.flow.reader import Body, Parser
from orchestrator.flow.steps import Approve, Call, Case, Raise, Set, Step, Switch, Template, Wait
from orchestrator.flow.templates import expressions_in

__all__ = ["error_of", "read_call", "read_raise", "read_set", "read_switch", "read_wait"]

_CALLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "infer": (("model", "inputs"), ("version",)),
    "decide": (("decision",), ("input", "version")),
    "connect": (("connection", "operation"), ("input",)),
    "http": (("method", "endpoint"), ("headers", "query", "body", "output", "redirect")),
    "grpc": (("service", "method"), ("arguments", "plaintext")),
    "approve": (("title",), ("description", "data", "approvers", "options", "timeout", "four_eyes")),
}
"""What each call needs, and what it may have besides."""
_TIMED = ("http", "grpc")
"""The calls that may say how long they take at most, as `timeout: {after: …}`."""
_OUTPUTS = ("content", "response", "raw")
_ERROR = (("type", "status"), ("title", "detail", "instance"))


def read_set(parser: Parser, body: Body) -> Step:
    """`set`: named values, or one expression."""
    node, pointer = body.fields["set"], f"{body.pointer}/set"
    if not isinstance(node, yaml.MappingNode) and not any(expressions_in(node)):
        raise wrong(node, pointer, "must be named values, or one expression `${ … }`")
    return Set(**body.common, value=parser.required(node, pointer))


def read_switch(parser: Parser, body: Body) -> Step:
    """`switch`: a list of cases."""
    node, pointer = body.fields["switch"], f"{body.pointer}/switch"
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise wrong(node, pointer, "must be a list of cases, `- name: {when: …, then: …}`")
    cases = []
    for at, item in enumerate(node.value):
        here = f"{pointer}/{at}"
        if not isinstance(item, yaml.MappingNode) or len(item.value) != 1:
            raise wrong(item, here, "must be one case, `name: {when: …, then: …}`")
        here = f"{here}/{escaped(item.value[0][0].value)}"
        fields = fields_of(item.value[0][1], here, needed=("then",), allowed=("when",))
        when = parser.template(fields.get("when"), f"{here}/when")
        cases.append(Case(when, target_of(fields["then"], f"{here}/then", body.names)))
    return Switch(**body.common, cases=tuple(cases))


def read_raise(parser: Parser, body: Body) -> Step:
    """`raise`: an error, or the name of one in `use.errors`."""
    pointer = f"{body.pointer}/raise"
    node = fields_of(body.fields["raise"], pointer, needed=("error",), allowed=())["error"]
    pointer = f"{pointer}/error"
    if not isinstance(node, yaml.ScalarNode):
        return Raise(**body.common, error=error_of(parser, node, pointer))
    name = text_of(node, pointer)
    if name not in parser.reusable.errors:
        known = ", ".join(parser.reusable.errors) or "none"
        raise wrong(node, pointer, f"there is no error `{name}` in `use.errors`; there is {known}")
    return Raise(**body.common, error=parser.reusable.errors[name])


def error_of(parser: Parser, node: yaml.Node, pointer: str) -> Template:
    """An error's definition."""
    needed, allowed = _ERROR
    fields = fields_of(node, pointer, needed=needed, allowed=allowed)
    status = None if any(expressions_in(fields["status"])) else plain(fields["status"])
    if status is not None and (isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599):
        raise wrong(fields["status"], f"{pointer}/status", "must be an HTTP status, 100 to 599")
    return parser.required(node, pointer)


def read_wait(parser: Parser, body: Body) -> Step:
    """`wait`: a duration."""
    return Wait(**body.common, duration=parser.duration(body.fields["wait"], f"{body.pointer}/wait"))


def read_call(parser: Parser, body: Body) -> Step:
    """`call`: another service, another system, or a person."""
    fields, pointer = body.fields, body.pointer
    kind = text_of(fields["call"], f"{pointer}/call")
    if kind not in _CALLS:
        raise wrong(fields["call"], f"{pointer}/call", f"unknown call `{kind}`; it may be {', '.join(_CALLS)}")
    if "with" not in fields:
        raise wrong(body.node, pointer, f"`call: {kind}` needs `with`")
    needed, allowed = _CALLS[kind]
    given = fields_of(fields["with"], f"{pointer}/with", needed=needed, allowed=allowed)
    timeout = None
    if "timeout" in fields:
        if kind not in _TIMED:
            raise wrong(fields["timeout"], f"{pointer}/timeout", f"`timeout` is for calls of {', '.join(_TIMED)} only")
        after = fields_of(fields["timeout"], f"{pointer}/timeout", needed=("after",), allowed=())["after"]
        timeout = parser.duration(after, f"{pointer}/timeout/after")
    _check(parser, kind, given, f"{pointer}/with")
    arguments = parser.required(fields["with"], f"{pointer}/with")
    if kind == "approve":
        return Approve(**body.common, question=arguments)
    return Call(**body.common, kind=kind, arguments=arguments, timeout=timeout)


def _check(parser: Parser, kind: str, given: Mapping[str, yaml.Node], pointer: str) -> None:
    """What can be said of a call's arguments before it is made."""
    if kind == "http":
        endpoint = given["endpoint"]
        if isinstance(endpoint, yaml.MappingNode):
            fields_of(endpoint, f"{pointer}/endpoint", needed=("uri",), allowed=())
        if "output" in given and plain(given["output"]) not in _OUTPUTS:
            raise wrong(given["output"], f"{pointer}/output", f"may be {', '.join(_OUTPUTS)}")
    elif kind == "grpc":
        fields_of(given["service"], f"{pointer}/service", needed=("name", "host"), allowed=("port",))
    elif kind == "approve":
        if "timeout" in given:
            parser.duration(given["timeout"], f"{pointer}/timeout")
        for name in ("approvers", "options"):
            if name in given and not (isinstance(given[name], yaml.SequenceNode) or any(expressions_in(given[name]))):
                raise wrong(given[name], f"{pointer}/{name}", "must be a list of texts")
