"""What the rest of the platform asks of the sandbox: run a jq program, evaluate a decision, check either, render a
template.

How processes are kept is `mesh.sandbox.lane`; what happens in them is `mesh.sandboxed`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from mesh.sandbox.errors import SandboxCrashedError, SandboxInputError, SandboxOutputTooLargeError, refused
from mesh.sandbox.graphs import checked_graph
from mesh.sandbox.lane import Lane
from mesh.sandbox.worker import Kind, Limits
from mesh.sandboxed.frames import Op, Status, pack
from mesh.sandboxed.recent import Recent

__all__ = ["MAX_PROGRAM_BYTES", "DecisionResult", "Json", "SandboxPool"]

Json: TypeAlias = Any
"""None, bool, int, float, str, or lists and dicts (with str keys) of these."""

MAX_PROGRAM_BYTES: Final = 64 << 10

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TAKEN_NAMES: Final = frozenset({"ENV", "__loc__", "__prog_args"})
_MAX_NAMES: Final = 32
_CROWDS: Final = {Kind.TEMPLATE: 8}
"""So many times as many may wait: conversations come in crowds, and each is rendered in a fraction of a millisecond."""


@dataclass(frozen=True, slots=True)
class DecisionResult:
    """What a decision came to.

    Attributes:
        result: what its output node holds.
        trace: by node id, each node's input, output and data; None unless asked for.
        performance: the engine's own time, as it writes it (`13.0µs`).
    """

    result: Json
    trace: Json
    performance: str


class SandboxPool:
    """Runs tenants' jq programs, decision graphs and templates in confined child processes.

    A kind's processes (`size` and a spare) start with its first call, or with `start` if it is named in `warm`. A call
    that breaks a limit costs its process, which is replaced at once, and raises one error; other calls go on beside it.
    Calls of one `owner` (name the tenant; without it the program or graph stands for itself) run on `size` - 1
    processes at most, and those waiting are served in turn by owner.

    Args:
        size: how many calls of a kind run at once; at least 2, or one owner could keep the others waiting.
        deadline_s: how long one call may run.
        memory_mb: how much memory one call may use, MiB.
        max_input_bytes: the most that program, graph and values may be together, as JSON.
        max_output_bytes: the most that a result may be, as JSON.
        max_waiting: how many calls of a kind may wait; a quarter of them for one owner.
        max_wait_s: how long a call may wait before it begins.
        warm: the kinds that `start` starts.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        deadline_s: float = 1.0,
        memory_mb: int = 128,
        max_input_bytes: int = 4 << 20,
        max_output_bytes: int = 1 << 20,
        max_waiting: int = 512,
        max_wait_s: float = 5.0,
        warm: Iterable[Kind] = (),
    ) -> None:
        limits = Limits(deadline_s, memory_mb << 20, max_input_bytes, max_output_bytes)
        self._limits = limits
        self._lanes = {
            kind: Lane(kind, size, limits, max_waiting=max_waiting * _CROWDS.get(kind, 1), max_wait_s=max_wait_s)
            for kind in (Kind.JQ, Kind.DECISION, Kind.TEMPLATE)
        }
        self._warm = tuple(warm)
        self._graphs: Recent[bytes] = Recent(256, 16 << 20)

    async def start(self) -> None:
        """Start the processes of the kinds to be warm.

        Raises:
            SandboxUnavailableError: they cannot be started.
        """
        for kind in self._warm:
            await self._lanes[kind].warm()

    async def close(self) -> None:
        """Kill all processes; calls under way and later ones get SandboxUnavailableError."""
        for lane in self._lanes.values():
            await lane.close()

    def pids(self) -> frozenset[int]:
        """The processes there are now."""
        return frozenset().union(*(lane.pids for lane in self._lanes.values()))

    async def jq(
        self, program: str, value: Json, variables: Mapping[str, Json] | None = None, *, owner: str = ""
    ) -> Json:
        """Run a jq program on a value; each variable is there as `$name`.

        Numbers are IEEE doubles, as always in jq: integers beyond 2**53 are rounded.

        Returns:
            The program's one output. A program without output (`empty`, a `select` that matched nothing) gives None.

        Raises:
            JqOutputsError: it has several outputs.
            JqSyntaxError, JqForbiddenError, JqRuntimeError: it does not compile, may not run, or failed.
            SandboxInputError: the value or a variable's name cannot be handed over.
            SandboxDeadlineError, SandboxMemoryError, SandboxCrashedError, SandboxOutputTooLargeError: it broke a limit.
            SandboxBusyError, SandboxUnavailableError: it did not run.
        """
        given = variables or {}
        text, names = _program(program), _names(given)
        values = self._encoded([value, *given.values()], len(text))
        return self._decoded(await self._call(Kind.JQ, owner or program, pack(Op.JQ, text, names, values)))

    async def compile_jq(self, program: str, variables: Iterable[str] = (), *, owner: str = "") -> None:
        """Check a jq program without running it; `variables` are the names it may use.

        Raises:
            JqSyntaxError: it does not compile; the error says where.
            JqForbiddenError: it uses a builtin or directive that is not available.
            SandboxInputError: a variable's name cannot be one.
            SandboxError: as `jq`.
        """
        frame = pack(Op.COMPILE, _program(program), _names(tuple(variables)))
        await self._call(Kind.JQ, owner or program, frame)

    async def decide(self, graph: bytes, value: Json, *, trace: bool = False, owner: str = "") -> DecisionResult:
        """Evaluate a decision graph (JSON Decision Model) on a value.

        Raises:
            DecisionInvalidError, DecisionForbiddenNodeError: the graph is wrong, or may not run.
            DecisionRuntimeError: it failed on this value.
            SandboxError: as `jq`.
        """
        digest = hashlib.sha256(graph).digest()
        checked = self._checked(digest, graph)
        context = self._encoded(value, len(checked))
        flag = b"1" if trace else b""
        owner = owner or digest.hex()
        try:
            answer = await self._call(Kind.DECISION, owner, pack(Op.DECIDE, digest, b"", context, flag))
        except _GraphMissingError:
            answer = await self._call(Kind.DECISION, owner, pack(Op.DECIDE, digest, checked, context, flag))
        decoded = self._decoded(answer)
        return DecisionResult(decoded.get("result"), decoded.get("trace"), decoded.get("performance", ""))

    async def validate_decision(self, graph: bytes, *, owner: str = "") -> None:
        """Check a decision graph, with every expression in it, without evaluating it.

        Raises:
            DecisionInvalidError, DecisionForbiddenNodeError: the graph is wrong, or may not run.
            SandboxError: as `jq`.
        """
        digest = hashlib.sha256(graph).digest()
        frame = pack(Op.VALIDATE, self._checked(digest, graph))
        await self._call(Kind.DECISION, owner or digest.hex(), frame)

    async def render(self, template: str, variables: Mapping[str, Json], *, owner: str = "") -> str:
        """Render a Jinja template; it sees its variables only.

        Raises:
            TemplateInvalidError: it does not compile, or failed on these variables.
            SandboxError: as `jq`.
        """
        text = template.encode(errors="replace")
        if len(text) > MAX_PROGRAM_BYTES:
            raise SandboxInputError(f"the template of {len(text)} bytes is larger than {MAX_PROGRAM_BYTES}")
        frame = pack(Op.TEMPLATE, text, self._encoded(variables, len(text)))
        return str(self._decoded(await self._call(Kind.TEMPLATE, owner or template, frame)))

    async def _call(self, kind: Kind, owner: str, frame: bytes) -> bytes:
        status, body = await self._lanes[kind].call(owner, frame)
        if status is Status.OK:
            return body
        if status is Status.MISSING:
            raise _GraphMissingError
        raise refused(status, msgspec.json.decode(body))

    def _checked(self, digest: bytes, graph: bytes) -> bytes:
        checked = self._graphs.get(digest)
        if checked is None:
            checked = checked_graph(graph)
            self._graphs.put(digest, checked, len(checked))
        return checked

    def _encoded(self, value: Json, besides: int) -> bytes:
        try:
            encoded = msgspec.json.encode(value)
        except RecursionError:
            raise SandboxInputError("the input is nested too deeply") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise SandboxInputError(f"the input is no JSON: {error}") from None
        size = len(encoded) + besides
        if size > self._limits.max_input_bytes:
            raise SandboxInputError(
                f"the input of {size} bytes is larger than {self._limits.max_input_bytes}", bytes=size
            )
        return encoded

    @staticmethod
    def _decoded(answer: bytes) -> Json:
        try:
            return msgspec.json.decode(answer)
        except RecursionError:
            raise SandboxOutputTooLargeError("the output is nested too deeply") from None
        except msgspec.DecodeError:
            raise SandboxCrashedError("the worker's answer is no JSON") from None


class _GraphMissingError(Exception):
    """The worker that got the call does not have the graph in its memory."""


def _program(program: str) -> bytes:
    try:
        encoded = program.encode()
    except UnicodeEncodeError as error:
        raise SandboxInputError(f"the jq program is no valid text: {error}") from None
    if len(encoded) > MAX_PROGRAM_BYTES:
        raise SandboxInputError(f"the jq program of {len(encoded)} bytes is larger than {MAX_PROGRAM_BYTES}")
    if b"\0" in encoded:
        raise SandboxInputError("the jq program holds a NUL character; remove it")
    return encoded


def _names(names: Mapping[str, Json] | Sequence[str]) -> bytes:
    if len(names) > _MAX_NAMES:
        raise SandboxInputError(f"{len(names)} variables are more than the {_MAX_NAMES} allowed")
    for name in names:
        if not _NAME.fullmatch(name) or name in _TAKEN_NAMES:
            raise SandboxInputError(f"{name[:100]!r} cannot be the name of a jq variable", name=name[:100])
    return ",".join(names).encode()
