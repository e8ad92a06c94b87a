"""jq programs inside a worker: compiled once, run often, with everything that reaches outside taken away.

Deadlines and memory are bounded from outside, by `mesh.sandbox` and `mesh.sandboxed.confine`. A program is always
compiled behind a prefix on the same line, which shadows the refused builtins and binds the variables; being behind
it, the program cannot undo that, and `import` or `include`, legal only at the start of a text, are syntax errors.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import jq

from mesh.sandboxed.frames import Status
from mesh.sandboxed.recent import Recent
from mesh.sandboxed.refusal import Refusal, capped

__all__ = ["REFUSED", "JqPrograms"]

REFUSED: Final = (
    "env",
    "input",
    "inputs",
    "input_filename",
    "input_line_number",
    "debug",
    "debug(f)",
    "stderr",
    "halt",
    "halt_error",
    "halt_error(f)",
    "get_search_list",
    "modulemeta",
)
"""The builtins that a program may not use: they read the process, or end it, or write to its streams."""

_SHADOWS: Final = (
    "".join(f'def {name}: error("{name.split("(")[0]} is not available in a sandbox");' for name in REFUSED)
    + " null as $ENV | "
)
_WORDS: Final = sorted({name.split("(")[0] for name in REFUSED} | {"ENV", "__prog_args"}, key=len, reverse=True)
_REFUSED_WORD: Final = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(_WORDS)})(?![A-Za-z0-9_])")
_MODULE_WORD: Final = re.compile(r"unexpected (import|include|module)\b")
_ERROR: Final = re.compile(
    r"^jq: error: (.*?) at <top-level>, line ([0-9]+), column ([0-9]+):$", re.MULTILINE | re.DOTALL
)
_UNDEFINED: Final = re.compile(r"\$?([A-Za-z0-9_]+)(?:/[0-9]+)? is not defined")
_FRESH: Final = "0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class JqPrograms:
    """Compiles and runs programs.

    Args:
        max_output_bytes: the largest JSON text of an output.
        entries: how many compiled programs are kept.
        kept_bytes: how many bytes of program text are kept compiled.
    """

    def __init__(self, max_output_bytes: int, *, entries: int = 512, kept_bytes: int = 2 << 20) -> None:
        self._max_output_bytes = max_output_bytes
        self._compiled: Recent[Any] = Recent(entries, kept_bytes)

    def run(self, program: str, names: tuple[str, ...], values: str) -> bytes:
        """Run a program; `values` is a JSON array of the input and of what each name stands for.

        Returns:
            The one output as JSON; `null` when there is none.

        Raises:
            Refusal: the program does not compile, failed, or has several outputs or one that is too large.
        """
        outputs = iter(self.compile(program, names).input_text(values))
        try:
            output = next(outputs, None)
            more = next(outputs, _END) is not _END
        except ValueError as error:
            raise Refusal(Status.JQ_RUNTIME, message=capped(str(error))) from None
        if more:
            raise Refusal(Status.JQ_SEVERAL)
        encoded = json.dumps(output, separators=(",", ":"), ensure_ascii=False).encode()
        if len(encoded) > self._max_output_bytes:
            raise Refusal(Status.TOO_LARGE, bytes=len(encoded))
        return encoded

    def compile(self, program: str, names: tuple[str, ...]) -> Any:  # noqa: ANN401 -- the library has no types
        """The compiled program, from memory when it was compiled lately.

        Raises:
            Refusal: it does not compile, or it uses what is refused.
        """
        key = (names, program)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = _compile(program, names)
            self._compiled.put(key, compiled, len(program))
        return compiled


_END: Final = object()


def _prefix(names: tuple[str, ...]) -> str:
    return _SHADOWS + "".join(f".[{at}] as ${name} | " for at, name in enumerate(names, start=1)) + ".[0] | "


def _compile(program: str, names: tuple[str, ...]) -> Any:  # noqa: ANN401 -- the library has no types
    prefix = _prefix(names)
    try:
        compiled = jq.compile(prefix + program)
    except ValueError as error:
        raise _syntax_refusal(str(error), program, len(prefix)) from None
    _refuse_reserved(program, names)
    return compiled


def _refuse_reserved(program: str, names: tuple[str, ...]) -> None:
    """Refuse a program that refers to a refused name, saying where.

    The compiler itself tells a reference from a field, a key, a text or a definition of the program's own: every
    refused word is renamed to one of the same length that means nothing, and what is then undefined was a reference.
    """
    renamed: dict[str, str] = {}
    for word in sorted(set(_REFUSED_WORD.findall(program))):
        fresh = next((f for c in _FRESH if (f := word[:-1] + c) not in program and f not in names), None)
        if fresh is None:
            raise Refusal(Status.JQ_FORBIDDEN, name=word, line=1, column=1)
        renamed[word] = fresh
    if not renamed:
        return
    probe = _REFUSED_WORD.sub(lambda found: renamed[found[0]], program)
    prefix = _prefix(tuple(renamed.get(name, name) for name in names))
    try:
        jq.compile(prefix + probe)
    except ValueError as error:
        message, line, column = _errors(str(error), program, len(prefix))[0]
        found = _UNDEFINED.search(message)
        originals = {fresh: word for word, fresh in renamed.items()}
        name = originals.get(found[1], found[1]) if found else message
        shown = f"${name}" if found and found[0].startswith("$") else name
        raise Refusal(Status.JQ_FORBIDDEN, name=capped(shown), line=line, column=column) from None


def _syntax_refusal(text: str, program: str, prefix_bytes: int) -> Refusal:
    (message, line, column), *others = _errors(text, program, prefix_bytes)
    module = _MODULE_WORD.search(message)
    if module:
        return Refusal(Status.JQ_FORBIDDEN, name=module[1], line=line, column=column)
    for other, at_line, at_column in others[:2]:
        message += f"; {other} at line {at_line}, column {at_column}"
    return Refusal(Status.JQ_SYNTAX, message=capped(message), line=line, column=column)


def _errors(text: str, program: str, prefix_bytes: int) -> list[tuple[str, int, int]]:
    """What libjq complained about: message, line and column in the program as its author wrote it.

    libjq counts columns in bytes, and ours in the first line begin behind the prefix.
    """
    found = []
    lines = program.encode().split(b"\n")
    for message, line_text, column_text in _ERROR.findall(text):
        line = min(max(int(line_text), 1), len(lines))
        column = int(column_text) - (prefix_bytes if line == 1 else 0)
        before = lines[line - 1][: max(column - 1, 0)]
        found.append((capped(message), line, len(before.decode(errors="ignore")) + 1))
    return found or [(capped(text.removeprefix("jq: error: ")), 1, 1)]
