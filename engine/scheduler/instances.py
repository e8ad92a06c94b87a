"""The sessions of one model: one, with a second one beside it once requests wait, or as many as its manifest says.

All of them take their batches from one queue. Why a second one helps is told in `engine.scheduler.twin`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic

from engine.errors import ManifestError
from engine.runtime.sessions import Session, SessionSettings, cores, open_session, release_memory
from engine.scheduler.batcher import Batcher
from engine.scheduler.observer import BatchObserver
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.run import Item, Result, Runner
from engine.scheduler.twin import Twin

__all__ = ["Instances"]


class Instances(Generic[Item, Result]):
    """The sessions of one model.

    Args:
        path: the ONNX file.
        settings: how a session is opened that is the only one.
        run: computes a batch with a session.
        devices: a session for each, an empty one stands for the device in the settings; without any there is one, and
            a second one on occasion.

    Attributes:
        first: the one that tells what the model takes and gives.

    Raises:
        EngineError: one cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        settings: SessionSettings,
        run: Callable[[Session, Sequence[Item]], Sequence[Result]],
        devices: Sequence[str] = (),
    ) -> None:
        if settings.budget is not None:
            settings = replace(settings, budget=settings.budget.share())
        self._run = run
        self._sessions: list[Session] = []
        self._twin: Twin[Item, Result] | None = None if devices else Twin(path, settings, run)
        with ExitStack() as failed:
            failed.callback(self.close)
            for each in _each(settings, devices):
                self._sessions.append(open_session(path, each))
            failed.pop_all()
        self.first = self._sessions[0]
        # Another graph may be quick a thousand times and then take as long as a number in its input says.
        self._may_be_inline = settings.device == "cpu" and self.first.is_bounded

    def batcher(self, name: str, policy: BatchPolicy, observer: BatchObserver) -> Batcher[Item, Result]:
        """What feeds them.

        Args:
            name: of the model, for its threads.
            policy: how much may wait, and how batches are cut.
            observer: hears how batches went.
        """
        first, *others = (
            Runner(partial(self._run, session), session.turn, session.abandon) for session in self._sessions
        )
        return Batcher(
            first,
            name=name,
            policy=policy,
            observer=observer,
            beside=others,
            inline=self._may_be_inline and not others and not policy.max_delay_s,
            open_beside=self._twin.open if self._twin is not None else None,
        )

    def close(self) -> None:
        """End their runs and give their memory back."""
        for session in self._sessions:
            session.close()
        if self._twin is not None:
            self._twin.close()
        release_memory()


def _each(settings: SessionSettings, devices: Sequence[str]) -> list[SessionSettings]:
    """How each session is opened; those on the CPU share its cores.

    Raises:
        ManifestError: there are more of them than cores.
    """
    if not devices:
        return [settings]
    wanted = [device or settings.device for device in devices]
    here = wanted.count("cpu")
    if here > cores():
        raise ManifestError(
            f"scheduling.instances: {here} on the CPU, which has {cores()} cores; write the line `instances: {cores()}`"
        )
    threads = max(1, settings.threads // max(1, here))
    return [replace(settings, device=device, intra_op_threads=threads) for device in wanted]
