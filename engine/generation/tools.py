"""Calls of tools in a model's text: found, read, and where the caller says so, the only thing that it can write.

A call is a JSON object `{"name": …, "arguments": {…}}` between two marks, as in the Hermes format. The marks are
the manifest's; how a template shows tools to the model is the template's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.errors import PromptError
from engine.generation.base import Prompt, Tool, ToolCall
from engine.generation.constraint import COMPACT

__all__ = ["CallReader", "call_grammar", "check_tools", "marked_calls"]

_MAX_TOOLS = 128


class CallReader:
    """Takes calls out of a text.

    Args:
        marks: what begins and ends a call.
        names: of the tools that were offered; anything else is text.
        new_id: makes ids of calls.
    """

    def __init__(self, marks: tuple[str, str], names: Sequence[str], new_id: Callable[[], str]) -> None:
        self._begins, self._ends = marks
        self._names = frozenset(names)
        self._new_id = new_id
        self._held = ""
        self._inside = False

    def push(self, text: str, *, last: bool) -> tuple[str, tuple[ToolCall, ...]]:
        """What of a text is to be shown now, and with the last part the calls.

        From the first mark on everything is held back. What reads as no call is shown at the end as it is.
        """
        self._held += text
        if last:
            return self._read()
        if self._inside:
            return "", ()
        at = self._held.find(self._begins)
        if at >= 0:
            self._inside = True
        else:
            longest = min(len(self._begins) - 1, len(self._held))
            at = len(self._held) - next(
                (count for count in range(longest, 0, -1) if self._held.endswith(self._begins[:count])), 0
            )
        shown, self._held = self._held[:at], self._held[at:]
        return shown, ()

    def _read(self) -> tuple[str, tuple[ToolCall, ...]]:
        before, *parts = self._held.split(self._begins)
        calls = []
        for part in parts:
            body, _, after = part.partition(self._ends)
            call = self._call(body)
            if call is None or after.strip():
                return self._held, ()
            calls.append(call)
        return (before.rstrip() if calls else before), tuple(calls)

    def _call(self, body: str) -> ToolCall | None:
        try:
            found = msgspec.json.decode(body.strip().encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return None
        if not isinstance(found, dict) or found.get("name") not in self._names:
            return None
        arguments = found.get("arguments", {})
        if not isinstance(arguments, dict):
            return None
        return ToolCall(self._new_id(), found["name"], json.dumps(arguments, ensure_ascii=False))


def check_tools(prompt: Prompt) -> None:
    """See that the tools and the choice among them go together.

    Raises:
        PromptError: they do not.
    """
    names = [tool.name for tool in prompt.tools]
    if len(names) > _MAX_TOOLS:
        raise PromptError("tools", f"holds {len(names)} tools; at most {_MAX_TOOLS} are taken")
    if len(set(names)) != len(names):
        raise PromptError("tools", "has a name twice")
    if prompt.tool_choice not in ("auto", "none", "required", *names):
        raise PromptError("tool_choice", f"names {prompt.tool_choice[:64]!r}, which is none of the tools")
    if prompt.tool_choice == "required" and not names:
        raise PromptError("tool_choice", "is `required`, and there are no tools")


def call_grammar(prompt: Prompt, marks: tuple[str, str], is_token: Callable[[str], bool]) -> str | None:
    """The grammar, in Lark's form as llguidance reads it, of a call that must be made; None where none must.

    Args:
        prompt: the tools, and the choice among them.
        marks: what begins and ends a call.
        is_token: whether a text is a token by itself.
    """
    choice = prompt.tool_choice
    if choice in ("auto", "none"):
        return None
    tools = [tool for tool in prompt.tools if choice in ("required", tool.name)]
    begins, ends = (mark if is_token(mark) and mark.startswith("<") else json.dumps(mark) for mark in marks)
    lines = [f"start: {begins} ({' | '.join(f'call_{at}' for at in range(len(tools)))}) {ends}"]
    lines += [f"call_{at}: %json {json.dumps(_call_schema(tool))}" for at, tool in enumerate(tools)]
    return "\n".join(lines)


def _call_schema(tool: Tool) -> dict[str, Any]:
    parameters = dict(tool.parameters) or {"type": "object"}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
        "x-guidance": dict(COMPACT),
    }
    for key in ("$defs", "definitions"):  # so that references from the root of the arguments still hold
        if key in parameters:
            schema[key] = parameters[key]
    return schema


def marked_calls(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Calls of an earlier turn as templates read them, the arguments an object.

    Raises:
        PromptError: the arguments of one are no JSON object.
    """
    shown = []
    for call in calls:
        try:
            arguments = msgspec.json.decode(call.arguments.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise PromptError("messages", f"the arguments of the call {call.name[:64]!r} are no JSON object")
        shown.append({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
    return shown
