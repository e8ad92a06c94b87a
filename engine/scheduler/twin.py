"""A second session of a model: two runs at once, each with its part of the cores.

A run on several cores waits at every step for the slowest of them. Under load something else takes one of them all the
time, and the others idle meanwhile; with two runs they have something to do. Measured by `bench/serving` on two cores
with 8 and 32 clients. It costs the model's memory a second time, and so is opened only once requests wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Generic

import structlog

from engine.runtime.ledger import CPU, Claim
from engine.runtime.sessions import Session, SessionSettings, open_session
from engine.scheduler.run import Item, Result, Runner

__all__ = ["Twin"]

_MAX_BYTES = 512 * 1024 * 1024
"""A model with larger files is not worth its memory twice."""


class Twin(Generic[Item, Result]):
    """The second session of a model, if it gets one.

    Args:
        path: the ONNX file; what lies beside it counts as its size.
        settings: how its first session is opened.
        run: computes a batch with a session.
    """

    def __init__(
        self, path: Path, settings: SessionSettings, run: Callable[[Session, Sequence[Item]], Sequence[Result]]
    ) -> None:
        self._path = path
        self._settings = settings
        self._run = run
        self._changed = threading.Lock()
        self._session: Session | None = None
        self._claim: Claim | None = None
        self._closed = False

    def open(self) -> Runner[Item, Result] | None:
        """Open it, with half of the cores, and say how it runs. Blocks.

        Returns:
            None for a large model, on one core, or where the memory budget has no room for it.
        """
        threads = self._settings.threads
        claim = None
        try:
            if not self._settings.twins or self._settings.device != "cpu" or threads < 2 or self._size() > _MAX_BYTES:
                return None
            claim = self._settings.ledger.claim({CPU: self._size()})
            if claim is None:  # nothing is put aside for it
                return None
            session = open_session(self._path, replace(self._settings, intra_op_threads=threads // 2))
        except Exception as error:  # noqa: BLE001 -- whatever it is, memory for instance: the first one goes on alone
            structlog.get_logger("engine.twin").warning("no second session", file=self._path.name, error=str(error))
            if claim is not None:
                claim.release()
            return None
        with self._changed:
            if not self._closed:
                self._session, self._claim = session, claim
                return Runner(partial(self._run, session), session.turn, session.abandon)
        session.close()
        claim.release()
        return None

    def close(self) -> None:
        """End its runs and give its memory back."""
        with self._changed:
            self._closed = True
            session, self._session = self._session, None
        if session is not None:
            session.close()
        if self._claim is not None:
            self._claim.release()

    def _size(self) -> int:
        return sum(file.stat().st_size for file in self._path.parent.iterdir() if file.is_file())
