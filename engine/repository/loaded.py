"""A version in memory, as it is asked: its answers are computed, or were kept; what it holds is given back at the end.

How it came there is `engine.repository.opening`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from engine.cache.answers import Answers
from engine.cache.codec import AnswerInvalidError, as_classified, as_inference
from engine.cache.keys import items_tensor
from engine.errors import EngineError, TooDeepError, VersionNotFoundError
from engine.figures import ModelFigures
from engine.manifest import Manifest
from engine.repository.uses import Uses
from engine.runtime.ledger import Claim
from engine.scheduler.terms import PLAIN, Terms
from engine.servables import Classified, Inference, Servable
from engine.servables.base import MAX_DEPTH, Tensors

__all__ = ["Find", "Loaded"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in memory.

    Attributes:
        name: its full name.
        model: its model's full name.
        version: its number.
        servable: answers requests.
        manifest: what its owner says of it.
        figures: count what it does.
    """

    name: str
    model: str
    version: int
    servable: Servable
    manifest: Manifest
    figures: ModelFigures
    uid: str = ""
    """Of its entry; a version that was deleted and pushed again has another one. Empty before it answers."""
    answers: Answers | None = None
    """Keeps its answers; None where its manifest does not ask for that."""
    bases: Callable[[], tuple[Loaded, ...]] = tuple
    """What it stands on, as that is now."""
    uses: Uses = field(default_factory=Uses, compare=False)
    """Who works with it."""
    claim: Claim | None = None
    """What it has of each device's memory; see `engine.repository.room`."""
    signed_by: str = ""
    """The id of the key with which its files are signed; empty where that is not checked."""

    def close(self) -> None:
        """Give its memory back, after what it was asked is answered. Blocks."""
        try:
            self.servable.close()
        finally:
            if self.claim is not None:
                self.claim.release()

    def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Coroutine[Any, Any, Inference]:
        """As its servable; an answer that is kept is not computed again."""
        scope = self._scope("infer", terms) if self.answers is not None else None
        if self.answers is None or scope is None:
            return self.servable.infer(tensors, terms)
        compute = partial(self.servable.infer, tensors, terms)
        return self.answers.infer(scope, tensors, terms, compute, lambda: self._scope("infer", terms) == scope)

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:
        """As its servable, in the same way."""
        scope, items = self._scope("classify", terms), items_tensor(values)
        if self.answers is None or scope is None or items is None:
            return await self.servable.classify(values, terms)

        async def compute() -> Inference:
            return as_inference(await self.servable.classify(values, terms))

        try:
            return as_classified(
                await self.answers.infer(
                    scope, {"": items}, terms, compute, lambda: self._scope("classify", terms) == scope
                )
            )
        except AnswerInvalidError:
            return await self.servable.classify(values, terms)

    def _scope(self, call: str, terms: Terms) -> tuple[str, ...] | None:
        """Under what its answer to a call is kept: the version and those it stands on now; None for under nothing."""
        if self.answers is None or terms.fresh:
            return None
        try:
            return (call, *self.identity())
        except EngineError:  # something that it stands on is missing, which the servable says better
            return None

    def identity(self, depth: int = 0) -> tuple[str, ...]:
        """What answers for it now: this very version, and those that it stands on.

        Raises:
            EngineError: one of them is not there, or is drawn anew for each request, or too many are above each other.
        """
        if depth > MAX_DEPTH:
            raise TooDeepError(self.model)
        if any(base.version and not base.version.isdecimal() for base in self.manifest.stands_on):
            raise VersionNotFoundError("an alias may name several versions")
        below = tuple(part for base in self.bases() for part in base.identity(depth + 1))
        return (self.model, self.uid, str(len(below)), *below)


Find: TypeAlias = Callable[[str, str, str], Loaded]
"""Finds what is in memory for a tenant: a model by its id, and its version."""
