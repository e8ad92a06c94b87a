"""The process in which a graph is opened first: it may end here, by whatever means.

Who starts it, and what its end means, is `engine.runtime.apart`'s. One task comes on standard input, one outcome goes
to standard output; both are JSON.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx

from engine.errors import EngineError, InferenceFailedError, InputTooLargeError
from engine.runtime.apart import Outcome, Task
from engine.runtime.division import dangerous_division
from engine.runtime.samples import sample, sample_elements
from engine.runtime.sessions import Session, SessionSettings, open_session

__all__ = ["bounded", "main"]

_PR_SET_PDEATHSIG = 1
_FULL = ("alloc", "memory")
"""Words of the runtime's for a memory that is full."""
_MOST_ELEMENTS = 1 << 22
"""Inputs of more values than this are not tried."""
_RUN_S = 3.0


def main() -> None:
    """Try one graph."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    bounded(task.memory_bytes)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(Outcome(_refused(task))))


def bounded(memory_bytes: int) -> None:
    """End with the engine, leave no core behind, and take no more memory than this on top of what is taken now."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _refused(task: Task) -> str:
    """Why the graph shall not be opened; what is said of it anyway when it is opened is left to that."""
    path = Path(task.path)
    try:
        session = open_session(path, SessionSettings(task.device, 1))
        _run_once(session)
        node = dangerous_division(onnx.load(path, load_external_data=False))
    except MemoryError:
        return _too_much(task)
    except EngineError as error:
        return _too_much(task) if any(word in error.message.lower() for word in _FULL) else ""
    if node is not None:
        return (
            f"its step {node[:64]!r} divides whole numbers by what may be -1, which ends the process when "
            "the other one is the smallest there is; divide by a constant, or cast to FP64 before"
        )
    return ""


def _run_once(session: Session) -> None:
    """Compute something of no meaning; only the end of the memory is of interest.

    Raises:
        InferenceFailedError: the runtime failed.
        MemoryError: the memory is full.
    """
    if sum(map(sample_elements, session.inputs)) > _MOST_ELEMENTS:
        return
    random = np.random.default_rng(7)
    feeds = {spec.name: sample(spec, random) for spec in session.inputs}
    try:
        session.run(feeds, limit_s=_RUN_S)
    except (InferenceFailedError, InputTooLargeError):
        raise
    except EngineError:  # the values mean nothing to it
        return


def _too_much(task: Task) -> str:
    return (
        f"takes more than {task.memory_bytes >> 20} MiB of memory to be opened and to compute a first input; "
        "look for constants without measure in it (ConstantOfShape, Expand, Tile, Range)"
    )


if __name__ == "__main__":
    main()
