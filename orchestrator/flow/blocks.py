"""Reading the steps that hold others: `for`, `fork`, `try` with its retries; and what `use` names."""

from __future__ import annotations

import yaml

from mesh.strict_yaml import plain
from orchestrator.flow.document import escaped, wrong
from orchestrator.flow.leaves import error_of
from orchestrator.flow.nodes import fields_of, mapping_of, text_of, variable_of
from orchestrator.flow.reader import Body, Parser, Reusable
from orchestrator.flow.steps import Catch, For, Fork, Retry, Step, Template, Try

__all__ = ["read_for", "read_fork", "read_reusable", "read_try"]

_MAX_BRANCHES = 64
_BACKOFFS = ("constant", "linear", "exponential")
_PROBLEM = ("type", "status", "title", "detail", "instance")


def read_for(parser: Parser, body: Body) -> Step:
    """`for`: steps for each item of a list."""
    pointer = body.pointer
    if "do" not in body.fields:
        raise wrong(body.node, pointer, "`for` needs `do`")
    loop = fields_of(body.fields["for"], f"{pointer}/for", needed=("in",), allowed=("each", "at"))
    each = variable_of(loop["each"], f"{pointer}/for/each") if "each" in loop else "item"
    at = variable_of(loop["at"], f"{pointer}/for/at") if "at" in loop else "index"
    if each == at:
        named = loop.get("at", loop.get("each", body.node))
        raise wrong(named, f"{pointer}/for", f"`{each}` names item and index both")
    items = parser.template(loop["in"], f"{pointer}/for/in")
    assert items is not None  # noqa: S101 -- `in` is there
    return For(
        **body.common,
        each=each,
        items=items,
        at=at,
        condition_while=parser.template(body.fields.get("while"), f"{pointer}/while"),
        steps=parser.steps(body.fields["do"], f"{pointer}/do"),
    )


def read_fork(parser: Parser, body: Body) -> Step:
    """`fork`: several steps at once."""
    pointer = f"{body.pointer}/fork"
    fork = fields_of(body.fields["fork"], pointer, needed=("branches",), allowed=("compete",))
    branches = parser.steps(fork["branches"], f"{pointer}/branches", jumps=False)
    if len(branches) > _MAX_BRANCHES:
        raise wrong(fork["branches"], f"{pointer}/branches", f"has more than {_MAX_BRANCHES} branches")
    compete = plain(fork["compete"]) if "compete" in fork else False
    if not isinstance(compete, bool):
        raise wrong(fork["compete"], f"{pointer}/compete", "must be true or false")
    return Fork(**body.common, branches=branches, compete=compete)


def read_try(parser: Parser, body: Body) -> Step:
    """`try`: steps, and what to do when one of them fails."""
    pointer = body.pointer
    if "catch" not in body.fields:
        raise wrong(body.node, pointer, "`try` needs `catch`")
    allowed = ("errors", "as", "when", "exceptWhen", "retry", "do")
    catch = fields_of(body.fields["catch"], f"{pointer}/catch", needed=(), allowed=allowed)
    matching: tuple[tuple[str, object], ...] = ()
    if "errors" in catch:
        errors = fields_of(catch["errors"], f"{pointer}/catch/errors", needed=("with",), allowed=())
        wanted = fields_of(errors["with"], f"{pointer}/catch/errors/with", needed=(), allowed=_PROBLEM)
        matching = tuple((key, plain(value)) for key, value in wanted.items())
    return Try(
        **body.common,
        steps=parser.steps(body.fields["try"], f"{pointer}/try"),
        catch=Catch(
            matching=matching,
            error_as=variable_of(catch["as"], f"{pointer}/catch/as") if "as" in catch else "error",
            when=parser.template(catch.get("when"), f"{pointer}/catch/when"),
            except_when=parser.template(catch.get("exceptWhen"), f"{pointer}/catch/exceptWhen"),
            retry=_retry(parser, catch["retry"], f"{pointer}/catch/retry") if "retry" in catch else None,
            steps=parser.steps(catch["do"], f"{pointer}/catch/do") if "do" in catch else (),
        ),
    )


def read_reusable(parser: Parser, node: yaml.Node) -> Reusable:
    """What `use` names: errors and retries."""
    use = fields_of(node, "/use", needed=(), allowed=("errors", "retries"))
    errors: dict[str, Template] = {}
    retries: dict[str, Retry] = {}
    if "errors" in use:
        for name, error in mapping_of(use["errors"], "/use/errors").items():
            errors[name] = error_of(parser, error, f"/use/errors/{escaped(name)}")
    if "retries" in use:
        for name, retry in mapping_of(use["retries"], "/use/retries").items():
            retries[name] = _policy(parser, retry, f"/use/retries/{escaped(name)}")
    return Reusable(errors, retries)


def _retry(parser: Parser, node: yaml.Node, pointer: str) -> Retry:
    """A retry policy, or the name of one in `use.retries`."""
    if not isinstance(node, yaml.ScalarNode):
        return _policy(parser, node, pointer)
    name = text_of(node, pointer)
    if name not in parser.reusable.retries:
        known = ", ".join(parser.reusable.retries) or "none"
        raise wrong(node, pointer, f"there is no retry policy `{name}` in `use.retries`; there is {known}")
    return parser.reusable.retries[name]


def _policy(parser: Parser, node: yaml.Node, pointer: str) -> Retry:
    allowed = ("when", "exceptWhen", "delay", "backoff", "limit", "jitter")
    fields = fields_of(node, pointer, needed=(), allowed=allowed)
    backoff = "constant"
    if "backoff" in fields:
        chosen = mapping_of(fields["backoff"], f"{pointer}/backoff")
        if len(chosen) != 1 or next(iter(chosen)) not in _BACKOFFS:
            raise wrong(fields["backoff"], f"{pointer}/backoff", f"must be one of {', '.join(_BACKOFFS)}")
        backoff, how = next(iter(chosen.items()))
        if plain(how):
            raise wrong(how, f"{pointer}/backoff/{backoff}", "takes nothing; write `{}`")
    jitter = None
    if "jitter" in fields:
        ends = fields_of(fields["jitter"], f"{pointer}/jitter", needed=("from", "to"), allowed=())
        jitter = tuple(parser.duration(ends[end], f"{pointer}/jitter/{end}") for end in ("from", "to"))
    count, duration = _limit(parser, fields["limit"], f"{pointer}/limit") if "limit" in fields else (None, None)
    return Retry(
        when=parser.template(fields.get("when"), f"{pointer}/when"),
        except_when=parser.template(fields.get("exceptWhen"), f"{pointer}/exceptWhen"),
        delay=parser.duration(fields["delay"], f"{pointer}/delay") if "delay" in fields else None,
        backoff=backoff,
        jitter=(jitter[0], jitter[1]) if jitter is not None else None,
        max_count=count,
        max_duration=duration,
    )


def _limit(parser: Parser, node: yaml.Node, pointer: str) -> tuple[int | None, Template | None]:
    """How often and how long a `try` is begun again."""
    limit = fields_of(node, pointer, needed=(), allowed=("attempt", "duration"))
    count = None
    if "attempt" in limit:
        attempt = fields_of(limit["attempt"], f"{pointer}/attempt", needed=("count",), allowed=())
        count = plain(attempt["count"])
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise wrong(attempt["count"], f"{pointer}/attempt/count", "must be a whole number from 0")
    return count, parser.duration(limit["duration"], f"{pointer}/duration") if "duration" in limit else None
