"""ONNX Runtime sessions: opened with settings that were measured, run, and closed for good.

Who waits for whom lives in `engine.scheduler`; which files may be opened is checked in `engine.adapters.artifact`.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from engine.adapters.artifact import ArtifactClasses, check_artifact
from engine.errors import DeviceUnavailableError, EngineError, ModelFileError
from engine.runtime.bfloat16 import run_with_bfloat16
from engine.runtime.binding import CudaHost, PinnedBuffers, run_bound
from engine.runtime.budget import CoreBudget, Share
from engine.runtime.devices import Provider, choose, read_device
from engine.runtime.failures import RUNTIME_ERRORS, load_failure, plain, run_failure
from engine.runtime.kept import Kept, run_keeping
from engine.runtime.ledger import Ledger
from engine.runtime.onnx import onnxruntime
from engine.runtime.run_watch import RunWatch
from engine.runtime.samples import sample, sample_elements
from engine.runtime.tracks import Track
from engine.runtime.values import MAPS, spec_of, to_bytes, to_text
from engine.tensor import Tensor, TensorSpec

__all__ = [
    "Session",
    "SessionSettings",
    "check_device",
    "cores",
    "open_built",
    "open_session",
    "release_memory",
]

_LITTLE, _LITTLE_S = 1 << 16, 1.0
"""The most values of an input that means nothing, and how long it may take."""
_SPIN_US = 100
"""So long a run's other threads look for their next part before they sleep (docs/adr/0034)."""
_END_S = 5.0
"""How long a session that is closed waits for the runs that it has told to end."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How sessions are opened.

    Attributes:
        device: as `engine.runtime.devices` reads it: `cpu`, `cuda`, or one of several, `cuda:1`.
        intra_op_threads: threads for one run that has the machine to itself; 0 means one per core that this process
            may use.
        max_run_s: the longest that one run may take.
        twins: whether a model may have a second session; see `engine.scheduler.twin`.
        gpu_memory_bytes: the most that one session may take of a GPU's memory; 0 for as much as there is.
        budget: the cores that runs of all models share, or a model's share of them; None where each run takes what it
            wants.
        ledger: where the memory of further sessions is claimed.
        track: entered for each run of the version; None where nothing is kept of them.
    """

    device: str = "cpu"
    intra_op_threads: int = 0
    max_run_s: float = 60.0
    twins: bool = True
    gpu_memory_bytes: int = 0
    budget: CoreBudget | Share | None = field(default=None, compare=False)
    ledger: Ledger = field(default_factory=Ledger, compare=False)
    track: Track | None = field(default=None, compare=False)

    @property
    def threads(self) -> int:
        """Threads of one run that has the machine to itself."""
        return self.intra_op_threads or cores()

    def turn(self) -> AbstractContextManager[None]:
        """What a model's runs enter, and leave when they have ended: they have their cores in between."""
        if self.budget is None or self.device != "cpu":
            return nullcontext()
        return self.budget.share().hold(self.threads)


class Session:
    """A model in memory. `run` may be called from any thread.

    Attributes:
        inputs: what it wants.
        outputs: what it gives. An output that is a map a row (scikit-learn's ZipMap) is a table here.
        classes: the lists of classes that are written in its file.
        is_bounded: whether the time of a run grows with the size of its inputs alone, whatever values they hold.
        device: where it computes.
        turn: entered for each run, and around it by whoever wants to know when one can begin.
        abandon: ends the run that a thread waits for, by the thread's number.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, file: str, classes: ArtifactClasses, settings: SessionSettings
    ) -> None:
        self.turn = settings.turn()
        self.device = settings.device
        self._session: Any = session
        # What one request made a step take would else stay with the session.
        self._watch = RunWatch(gives_back=classes.sized_by_values and settings.device == "cpu")
        self.abandon = self._watch.abandon
        self._max_run_s = settings.max_run_s
        self.classes = classes.lists
        self._track: AbstractContextManager[None] = settings.track or nullcontext()
        suspect = settings.track is not None and settings.track.alone is not None
        self.is_bounded = classes.bounded and not suspect  # who may have to wait for others is not computed on the loop
        self._zipped = classes.zipped
        self.inputs = tuple(spec_of(argument, file) for argument in session.get_inputs())
        self.outputs = tuple(
            TensorSpec(argument.name, "FP32", (-1, len(classes.zipped[argument.name])))
            if argument.type in MAPS and argument.name in classes.zipped
            else spec_of(argument, file)
            for argument in session.get_outputs()
        )
        self._text_inputs = frozenset(spec.name for spec in self.inputs if spec.datatype == "BYTES")
        self._text_outputs = frozenset(spec.name for spec in self.outputs if spec.datatype == "BYTES")
        words = self._text_inputs or self._text_outputs or classes.zipped  # stay in this process
        self._bound = read_device(settings.device).is_gpu and not words
        host = CudaHost.open() if self._bound else None
        self._buffers = PinnedBuffers(host) if host is not None else None
        self._halves = any(spec.datatype == "BF16" for spec in (*self.inputs, *self.outputs))
        if self._halves and (self._text_inputs or self._zipped):
            raise ModelFileError(
                f"{file}: has BF16 beside texts that go in or maps that come out, which the runtime cannot take from "
                "and give to memory together; cast the BF16 to FP32 in the graph",
                file=file,
            )

    def run(
        self, feeds: Mapping[str, Tensor], names: Sequence[str] | None = None, *, limit_s: float = math.inf
    ) -> dict[str, Tensor]:
        """Compute outputs, all or the named ones.

        Args:
            feeds: the inputs by name.
            names: of the outputs.
            limit_s: the longest that it may take, where that is less than the settings say.

        Raises:
            InputRefusedError: the model cannot compute with these inputs.
            InferenceFailedError: the runtime failed.
            InferenceTimeoutError: it took too long.
            ModelNotReadyError: the session is closed, or was closed meanwhile.
        """
        session = self._session  # it may be closed meanwhile
        if self._text_inputs:
            feeds = {
                name: to_text(name, array) if name in self._text_inputs else array for name, array in feeds.items()
            }
        names = [spec.name for spec in self.outputs] if names is None else list(names)
        values = self._bounded(partial(self._compute, session, names, feeds), limit_s)
        if self._zipped or self._text_outputs:
            values = [self._tensor(name, value) for name, value in zip(names, values, strict=True)]
        return dict(zip(names, values, strict=True))

    def run_keeping(
        self,
        feeds: Mapping[str, Tensor | Kept],
        names: Sequence[str],
        keep: Collection[str],
        *,
        limit_s: float = math.inf,
    ) -> dict[str, Any]:
        """As `run`, for numbers alone; some outputs stay on the device, to be inputs again."""
        session = self._session

        def compute(options: onnxruntime.RunOptions) -> Sequence[Any]:
            return run_keeping(session, names, keep, feeds, options, self.device)

        return dict(zip(names, self._bounded(compute, limit_s), strict=True))

    def _bounded(self, compute: Callable[[onnxruntime.RunOptions], Sequence[Any]], limit_s: float) -> Sequence[Any]:
        """Compute in its turn, and not for too long; errors as `run` says."""
        try:
            with self.turn, self._track:
                return self._watch.run(compute, min(limit_s, self._max_run_s))
        except RUNTIME_ERRORS as error:
            raise run_failure(error) from None

    def _compute(
        self,
        session: onnxruntime.InferenceSession,
        names: Sequence[str],
        feeds: Mapping[str, Tensor],
        options: onnxruntime.RunOptions,
    ) -> Sequence[Any]:
        if self._halves:
            return run_with_bfloat16(session, names, feeds, options)
        if self._bound:
            return run_bound(session, names, feeds, options, self._buffers)
        values: Sequence[Any] = session.run(names, dict(feeds), options)
        return values

    def _tensor(self, name: str, value: Any) -> Tensor:  # noqa: ANN401 -- whatever the runtime gives
        if isinstance(value, list):
            keys = self._zipped[name]
            return np.array([[row[key] for key in keys] for row in value], np.float32).reshape(len(value), len(keys))
        return to_bytes(value) if name in self._text_outputs else value

    def close(self) -> None:
        """Give the model's memory back; runs under way in other threads are ended. Blocks for some seconds at most."""
        self._watch.close(_END_S)
        self._session = None
        if self._buffers is not None:
            self._buffers.close()


def open_session(path: Path, settings: SessionSettings) -> Session:
    """Check a file and read it into memory. Blocks for as long as that takes; call it in a thread.

    Raises:
        ModelFileError: truncated, no ONNX, an invalid graph, or a type that the protocol has not.
        ExternalDataError: weights outside the model's folder.
        OpsetError: operators that this runtime does not have.
        DeviceUnavailableError: the device is not there; the CPU never steps in silently.
        ModelLoadError: the runtime refused it for another reason.
    """
    providers = _providers(settings)
    classes = check_artifact(path)
    try:
        session = _open(str(path), settings, providers)
    except UnicodeDecodeError:  # the runtime's own words have the name in them
        raise ModelFileError(
            f"{path.name}: is not a valid graph: it holds a name that is not UTF-8", file=path.name
        ) from None
    except RUNTIME_ERRORS as error:
        raise load_failure(path.name, error) from None
    _check_used(session, settings.device)
    made = Session(session, path.name, classes, settings)
    if classes.sized_by_values:
        _take_little(made)
    return made


def open_built(graph: bytes, name: str, settings: SessionSettings) -> Session:
    """Read a graph into memory that is built here, not a file that somebody brought.

    Raises:
        DeviceUnavailableError: as `open_session`.
        ModelLoadError: as above.
    """
    try:
        session = _open(graph, settings, _providers(settings))
    except RUNTIME_ERRORS as error:
        raise load_failure(name, error) from None
    _check_used(session, settings.device)
    return Session(session, name, ArtifactClasses((), {}), settings)


def _take_little(session: Session) -> None:
    """Compute something small: the memory that a session takes first is the only one that is never given back."""
    if sum(map(sample_elements, session.inputs)) > _LITTLE:
        return
    random = np.random.default_rng(7)
    with suppress(EngineError):  # the values mean nothing to it
        session.run({spec.name: sample(spec, random) for spec in session.inputs}, limit_s=_LITTLE_S)


def check_device(settings: SessionSettings) -> None:
    """Make sure that sessions can be opened on the device, by opening one. Blocks; call it in a thread.

    Raises:
        DeviceUnavailableError: they cannot; the message says why.
    """
    providers = _providers(settings)
    if settings.device == "cpu":
        return
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "trial", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        session = _open(model.SerializeToString(), settings, providers)
    except RUNTIME_ERRORS as error:
        raise DeviceUnavailableError(
            f"engine.device: {settings.device}, but the runtime cannot use it: {plain(error)}; `tiation doctor` "
            "says what to do, or set engine.device: cpu",
            device=settings.device,
        ) from None
    _check_used(session, settings.device)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def release_memory() -> None:
    """Hand memory that closed sessions left with the allocator back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _check_used(session: onnxruntime.InferenceSession, device: str) -> None:
    """Refuse a session for which the runtime took another device."""
    if read_device(device).provider not in session.get_providers():
        raise DeviceUnavailableError(
            f"engine.device: {device}, but the runtime could not use it; `tiation doctor` says why, or set "
            "engine.device: cpu",
            device=device,
        )


def _providers(settings: SessionSettings) -> list[Provider]:
    """Where a session shall compute; what a GPU needs is loaded on the way.

    Raises:
        DeviceUnavailableError: the installed runtime cannot.
    """
    device = read_device(settings.device)
    providers = choose(device, onnxruntime.get_available_providers(), memory_bytes=settings.gpu_memory_bytes)
    if device.is_gpu and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # of the wheels for CUDA and cuDNN; those that the system has are found anyway
    return providers


def _open(model: str | bytes, settings: SessionSettings, providers: list[Provider]) -> onnxruntime.InferenceSession:
    """A session on these providers alone: left to itself, the runtime goes on without those that fail."""
    return onnxruntime.InferenceSession(model, _options(settings), providers=providers, enable_fallback=0)


def _options(settings: SessionSettings) -> onnxruntime.SessionOptions:
    """Session options; threads that spun as long as by default would take the cores from the rest of the process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    # Patterns are remembered per input shape and never forgotten: memory would creep with every new length.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_US))
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
