"""Graphs that strangers push, opened in a process of their own first: one that ends its process ends no engine.

ONNX Runtime is native code and computes what never changes in a graph when it opens it; a file of a few hundred bytes
can make it divide by zero, or fill the memory. What is tried in that process is `engine.runtime.apart_main`'s.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.errors import ModelCrashedError, ModelFileError, ModelLoadError

__all__ = ["Apart", "Outcome", "Task", "asked_apart"]

_GIB = 1 << 30


class Task(msgspec.Struct, frozen=True):
    """What the process is told.

    Attributes:
        path: of the graph.
        device: where it will run.
        memory_bytes: what opening and running it once may take; 0 for any number.
    """

    path: str
    device: str
    memory_bytes: int


class Outcome(msgspec.Struct, frozen=True):
    """What it says.

    Attributes:
        refused: why the graph shall not be opened; empty where the engine may try it.
    """

    refused: str = ""


class Apart:
    """Opens graphs in processes of their own, few at once.

    Args:
        device: where they will run.
        limit_s: how long one may take to be opened and to compute a first input.
        memory_bytes: what it may take meanwhile, beside six times its files. A device's driver maps more than that, so
            it counts on CPUs only.
        at_once: how many are tried at once.
    """

    def __init__(
        self, device: str = "cpu", *, limit_s: float = 60.0, memory_bytes: int = 3 * _GIB, at_once: int = 2
    ) -> None:
        self._device = device.replace("tensorrt", "cuda")  # to build an engine for it takes minutes
        self._limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._turns = asyncio.Semaphore(at_once)

    async def check(self, folder: Path) -> None:
        """Try every graph of a version.

        Raises:
            ModelCrashedError: one ends the process that opens it.
            ModelLoadError: one takes too long.
            ModelFileError: one takes too much memory, or has a step that can end the process that runs it.
        """
        files, size = await asyncio.to_thread(_graphs, folder)
        for path in files:
            async with self._turns:
                await self._try(path, self._memory_bytes + 6 * size)

    async def _try(self, path: Path, memory_bytes: int) -> None:
        task = Task(str(path), self._device, memory_bytes if self._device == "cpu" else 0)
        try:
            code, said = await asked_apart("engine.runtime.apart_main", task, limit_s=self._limit_s)
        except TimeoutError:
            raise ModelLoadError(
                f"{path.name}: takes longer than {self._limit_s:g} s to be opened and to compute a first input; "
                "export it with fewer steps",
                file=path.name,
            ) from None
        if code:
            raise ModelCrashedError(
                f"{path.name}: ends the process that opens it ({_end(code)}); nothing else has noticed. "
                "Look for whole numbers divided by nothing or by -1 in it, and export it again",
                file=path.name,
            )
        outcome = msgspec.json.decode(said.rsplit(b"\n", 1)[-1], type=Outcome)
        if outcome.refused:
            raise ModelFileError(f"{path.name}: {outcome.refused}", file=path.name)


def _graphs(folder: Path) -> tuple[Sequence[Path], int]:
    """A version's graphs, and the bytes of all its files."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    graphs = [path for path in files if path.suffix == ".onnx" and not path.name.startswith(".")]
    return graphs, sum(path.stat().st_size for path in files)


async def asked_apart(module: str, task: msgspec.Struct, *, limit_s: float) -> tuple[int, bytes]:
    """Have a module of ours do something in a process of its own; how that ended, and what it said.

    Args:
        module: run as the process's program; it reads the task from its standard input, as JSON.
        task: what it is told.
        limit_s: how long it may take; it is ended then, and when whoever asks gives up.

    Raises:
        TimeoutError: it took longer.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await process.communicate(msgspec.json.encode(task))
            return await process.wait(), said
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _environment() -> dict[str, str]:
    """No secret of the engine's goes along."""
    kept = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "LANG", "LC_ALL")
    modules = os.pathsep.join(path for path in sys.path if path)
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": modules}


def _end(code: int) -> str:
    """How a process ended."""
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"exit status {code}"
