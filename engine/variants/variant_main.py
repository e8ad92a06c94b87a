"""The process in which a variant is made, and asked the same as its source.

Who starts it is `engine.variants.making`. One task comes on standard input, one outcome goes to standard output; both
are JSON.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from engine.errors import ElementError, EngineError, TensorError, VariantImpossibleError
from engine.generation.figures import GenerationMetrics
from engine.manifest import MANIFEST_FILE, GenerationManifest, GraphManifest, parse_manifest
from engine.metrics import EngineMetrics
from engine.repository.folders import graph_file
from engine.repository.loaded import Loaded
from engine.repository.opening import Opener
from engine.runtime.apart_main import bounded
from engine.runtime.sessions import SessionSettings
from engine.scheduler.policy import BatchPolicy
from engine.servables.base import Tensors
from engine.tensor import Tensor
from engine.variants.comparison import compare
from engine.variants.conversion import convert, files_of, size_of
from engine.variants.reports import Outcome, Task, VariantReport
from engine.variants.samples import questions
from mesh.sandbox import ImagePool, SandboxPool

__all__ = ["main", "make"]

_SIGNATURE = "model.sig"
_LIMITS = BatchPolicy(32, 1024, 1 << 30)
_TURNS = 9
_TIMED_S = 20.0


def main() -> None:
    """Make one variant."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    bounded(task.memory_bytes)
    try:
        outcome = Outcome(asyncio.run(make(task)))
    except ElementError as error:
        outcome = Outcome(refused=error.violations[0].description, possible=True, sample=error.index)
    except EngineError as error:
        full = "alloc" in error.message
        outcome = _too_much(task) if full else Outcome(refused=error.message, possible=isinstance(error, TensorError))
    except MemoryError:
        outcome = _too_much(task)
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(outcome))


def _too_much(task: Task) -> Outcome:
    return Outcome(
        refused=f"{task.source}: its variant takes more than {task.memory_bytes >> 20} MiB of memory to make"
    )


async def make(task: Task) -> VariantReport:
    """Write a variant's files, and compare it with its source.

    Raises:
        VariantImpossibleError: there is none of such a model.
        ElementError, TensorError: a sample does not fit.
        EngineError: the source or the variant cannot be opened, or computes nothing.
    """
    folder, target = Path(task.folder), Path(task.target)
    path = _graph(folder, task)
    made = target / path.name
    convert(path, made, task.precision)
    _take_along(folder, target, {*files_of(path), folder / _SIGNATURE}, task)
    registry = CollectorRegistry()
    images, sandbox = ImagePool(), SandboxPool()
    session = SessionSettings(task.device, task.threads, twins=False)
    opener = Opener(EngineMetrics(registry), session, _LIMITS, images, GenerationMetrics(registry), sandbox)
    source = await opener.open(task.source, folder, _nothing)
    variant = await opener.open(f"tenants/-/models/{task.model_id}/versions/1", target, _nothing)
    try:
        asked, rows = questions(source.servable.inputs, task.samples)
        right, own, source_ms, own_ms = await _both(source, variant, asked)
    finally:
        source.close()
        variant.close()
        await opener.close()
    return VariantReport(
        task.source, task.precision, rows, not task.samples, size_of(path), size_of(made), source_ms, own_ms,
        task.device, compare(right, own),
    )  # fmt: skip


def _graph(folder: Path, task: Task) -> Path:
    """The graph of a version.

    Raises:
        VariantImpossibleError: it has none that can be made smaller.
    """
    manifest = parse_manifest((folder / MANIFEST_FILE).read_bytes(), model=task.source.split("/")[3])
    if not isinstance(manifest, GraphManifest) or isinstance(manifest, GenerationManifest):
        kind = manifest.__struct_config__.tag
        raise VariantImpossibleError(f"{task.source}: there are no variants of the kind {kind}", resource=task.source)
    return graph_file(folder, manifest.file)[0]


def _take_along(folder: Path, target: Path, but: set[Path], task: Task) -> None:
    """Copy what else is in a version; its manifest names the model that the variant belongs to."""
    for path in folder.iterdir():
        if path not in but and path.is_file() and path.name != MANIFEST_FILE:
            shutil.copyfile(path, target / path.name)
    text = (folder / MANIFEST_FILE).read_text()
    (target / MANIFEST_FILE).write_text(re.sub(r"(?m)^name:.*$", f"name: {task.model_id}", text, count=1))


async def _both(
    source: Loaded, variant: Loaded, asked: Sequence[Tensors]
) -> tuple[dict[str, Tensor], dict[str, Tensor], float, float]:
    """The answers of both, and the milliseconds that each took: in turn, so that what else runs hits both."""
    right, own = await _answers(source, asked), await _answers(variant, asked)
    took: tuple[list[float], list[float]] = ([], [])
    ends = time.monotonic() + _TIMED_S
    for turn in range(_TURNS):
        for model, times in zip((source, variant), took, strict=True):
            began = time.perf_counter()
            await _answers(model, asked)
            times.append(1000 * (time.perf_counter() - began))
        if turn and time.monotonic() > ends:
            break
    return right, own, statistics.median(took[0]), statistics.median(took[1])


async def _answers(model: Loaded, asked: Sequence[Tensors]) -> dict[str, Tensor]:
    """Every output, of all questions together; those of different length are laid out in one row each."""
    found = [(await model.servable.infer(tensors)).outputs for tensors in asked]
    return {name: _together([each[name] for each in found]) for name in found[0]}


def _together(parts: Sequence[Tensor]) -> Tensor:
    if len({part.shape[1:] for part in parts}) == 1 and parts[0].ndim:
        return np.concatenate(parts)
    return np.concatenate([part.ravel() for part in parts])[None]


def _nothing(tenant: str, model: str, version: str) -> Loaded:
    """Stands for other models; a graph stands on none."""
    raise VariantImpossibleError(f"{tenant}/{model}:{version}: is another model")


if __name__ == "__main__":
    main()
