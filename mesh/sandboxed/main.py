"""The worker's main loop: one call at a time, in order, from descriptor 0 and back to it.

What a call does is in `programs`, `decisions`, `images` and `templates`; that nothing else can be done is in `confine`.
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
from collections.abc import Callable
from typing import Final

from mesh.sandboxed.confine import Memory, confine
from mesh.sandboxed.frames import EXIT_MEMORY, RETIRING, FrameBuffer, Op, Status, pack
from mesh.sandboxed.refusal import Refusal

__all__ = ["main"]

_MAX_DEPTH: Final = 300
"""Python's recursion limit while serving: an output nested deeper is refused, well before the reader's own limit."""

_READ_BYTES: Final = 65536

_IMAGE_NICENESS: Final = 10
"""Images are decoded on what the models leave of the processor."""

Answer = Callable[[int, list[bytes]], bytes]


def main(kind: str, memory_bytes: int, max_request_bytes: int, max_output_bytes: int) -> None:
    """Serve calls until the other end of descriptor 0 closes.

    Args:
        kind: `jq`, `decision`, `image` or `template`: which engine this worker loads.
        memory_bytes: what calls may use on top of the idle worker.
        max_request_bytes: the largest request frame.
        max_output_bytes: the largest result.
    """
    answer = {"jq": _jq, "decision": _decision, "image": _image, "template": _template}[kind](max_output_bytes)
    memory = confine(memory_bytes, threads=kind == "decision")
    sys.setrecursionlimit(_MAX_DEPTH)
    gc.collect()
    gc.disable()  # results hold no cycles, and a collection would only add to a call's time
    _write(pack(Status.READY, b"null"))
    _serve(answer, FrameBuffer(max_request_bytes), memory, memory.in_use() + memory_bytes // 2)


def _jq(max_output_bytes: int) -> Answer:
    from mesh.sandboxed.programs import JqPrograms

    programs = JqPrograms(max_output_bytes)
    programs.run(".", (), "[null]")

    def answer(op: int, parts: list[bytes]) -> bytes:
        program, names = parts[0].decode(), tuple(parts[1].decode().split(",")) if parts[1] else ()
        if op == Op.JQ:
            return programs.run(program, names, parts[2].decode())
        programs.compile(program, names)
        return b"null"

    return answer


def _decision(max_output_bytes: int) -> Answer:
    from mesh.sandboxed.decisions import Decisions

    decisions = Decisions(max_output_bytes)

    def answer(op: int, parts: list[bytes]) -> bytes:
        if op == Op.DECIDE:
            digest, graph, context, trace = parts
            return decisions.decide(digest, graph, context, trace=trace == b"1")
        decisions.compile(parts[0])
        return b"null"

    return answer


def _image(max_output_bytes: int) -> Answer:
    from mesh.sandboxed.images import Images

    os.nice(_IMAGE_NICENESS)
    images = Images()

    def answer(_: int, parts: list[bytes]) -> bytes:
        width, height, pixels = images.decoded(parts[1], parts[0])
        if len(pixels) > max_output_bytes:
            raise Refusal(Status.TOO_LARGE, bytes=len(pixels))
        return struct.pack("<II", width, height) + pixels

    return answer


def _template(max_output_bytes: int) -> Answer:
    from mesh.sandboxed.templates import Templates

    templates = Templates(max_output_bytes)

    def answer(_: int, parts: list[bytes]) -> bytes:
        return templates.render(parts[0].decode(), parts[1])

    return answer


def _serve(answer: Answer, received: FrameBuffer, memory: Memory, retire_bytes: int) -> None:
    """Answer calls; retire after one that made the worker so big that the next could fail for it."""
    while True:
        frame = received.take()
        if frame is None:
            data = os.read(0, _READ_BYTES)
            if not data:
                return
            received.feed(data)
            continue
        status, body = _call(answer, *frame)
        retiring = memory.in_use() > retire_bytes
        _write(pack(status | RETIRING if retiring else status, body))
        if retiring:
            return


def _call(answer: Answer, op: int, parts: list[bytes]) -> tuple[int, bytes]:
    try:
        return Status.OK, answer(op, parts)
    except Refusal as refusal:
        return refusal.status, json.dumps(refusal.fields).encode()
    except RecursionError:
        return Status.TOO_DEEP, b"{}"
    except MemoryError:
        os._exit(EXIT_MEMORY)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(0, view) :]
