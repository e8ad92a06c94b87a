"""Choosing and learning: a choice is kept before it is told, a reward is learnt in the transaction that keeps it.

So nothing is lost and nothing counted twice when an engine dies, and several engines on one database learn together:
what is believed is made anew from the sums of arms that have had rewards since, wherever those came in.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine.decisions.bandits.beliefs import Beliefs, learnt, nothing_of
from engine.decisions.bandits.contexts import Encoder
from engine.decisions.bandits.policies import Verdict, choose
from engine.decisions.bandits.ports import ArmState, BanditRows, Counts, Floats, KeptChoice, Outcomes
from engine.decisions.bandits.resource import Bandit, Bandits
from engine.decisions.errors import ChoiceNotFoundError, RewardConflictError
from engine.scheduler.aside import aside
from mesh.catalogue import NotFoundError
from mesh.db import Database, Transaction
from mesh.entries import Entry
from mesh.errors import InvalidError
from mesh.sandboxed.recent import Recent

__all__ = ["Chosen", "Learner", "Learnt", "Told"]

MAX_BATCH_SCORES = 32_768
"""Contexts of one call times arms: some seconds of a processor at most."""
MAX_KEPT_CHOICES = 100_000
"""Of each bandit the newest are kept."""
_LEAST_LIKELY = 1e-9
"""A probability below it is kept as this: its square is divided by."""
_REMEMBERED = 256
_REMEMBERED_BYTES = 128 << 20
_FLOAT_BYTES = 8
_PRODUCTS_A_VALUE = 512
"""Multiplications that cost as much as one value that `aside` counts."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice, and why.

    Attributes:
        id: names it when its reward is told.
        verdict: what was chosen, rewards scaled to 0 to 1.
        parts: float64, shape (d,): what each number of the context gave to the reward expected of the arm, scaled.
    """

    id: str
    verdict: Verdict
    parts: Floats


@dataclass(frozen=True, slots=True)
class Told:
    """What a reward did: the arm, and whether anything was learnt from it now."""

    arm: str
    learnt: bool


@dataclass(frozen=True, slots=True)
class Learnt:
    """All that a bandit knows.

    Attributes:
        entry: the bandit.
        counts: how much it has done.
        beliefs: of its arms.
        outcomes: sums over what is kept, by arm.
    """

    entry: Entry[Bandit]
    counts: Counts
    beliefs: Beliefs
    outcomes: dict[str, Outcomes]


@dataclass(slots=True)
class _Memory:
    """What is believed of a bandit, and whose turn it is to look into it."""

    beliefs: Beliefs
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Learner:
    """Lets bandits choose, and learn.

    Args:
        database: the service's own.
        bandits: knows the resources.
        rows: statements on what they have learnt.
        now: the wall clock, seconds since 1970.
        new_id: makes ids of choices.
    """

    def __init__(
        self,
        database: Database,
        bandits: Bandits,
        rows: BanditRows,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._database = database
        self._bandits = bandits
        self._rows = rows
        self._now = now
        self._new_id = new_id
        self._memories: Recent[_Memory] = Recent(_REMEMBERED, _REMEMBERED_BYTES)

    async def choose(
        self, name: str, contexts: Sequence[Mapping[str, Any]], fields: Sequence[str]
    ) -> tuple[Entry[Bandit], list[Chosen]]:
        """Choose an arm for each context; the choices are kept when this returns.

        Args:
            name: the bandit's.
            contexts: JSON, a value for each feature.
            fields: where each context is in the request, for errors.

        Raises:
            NotFoundError: there is no such bandit.
            InvalidError: a context has another value than its features allow, or there are too many.
        """
        entry = await self._bandits.get(Bandit, name)
        arms = len(entry.body.arms)
        if len(contexts) > 1 and len(contexts) * arms > MAX_BATCH_SCORES:
            raise InvalidError("contexts", f"may be at most {MAX_BATCH_SCORES // arms} with {arms} arms")
        encoder = Encoder(entry.body.features)
        vectors = [encoder.vector(context, at) for context, at in zip(contexts, fields, strict=True)]
        memory = await self._warm(entry)
        seen = memory.beliefs.revision
        first, news = await self._database.write(
            lambda transaction: self._begin(transaction, entry, len(vectors), seen), durable=False
        )
        size = len(vectors) * memory.beliefs.inverse.size // _PRODUCTS_A_VALUE + _cost_of(news)
        async with memory.turn:
            chosen = await aside(size, self._choose, entry, memory.beliefs, news, vectors, first)
        kept = [
            KeptChoice(
                each.id, first + at, entry.body.arms[each.verdict.arm].id, vectors[at],
                max(float(each.verdict.probabilities[each.verdict.arm]), _LEAST_LIKELY), self._now(),
            )
            for at, each in enumerate(chosen)
        ]  # fmt: skip
        await self._database.write(lambda transaction: self._keep(transaction, entry, kept))
        return entry, chosen

    async def reward(self, name: str, choice_id: str, reward: float) -> Told:
        """Learn what came of a choice; it is kept, and learnt, when this returns.

        Args:
            name: the bandit's.
            choice_id: as `choose` named it.
            reward: in the bandit's units.

        Raises:
            NotFoundError: there is no such bandit.
            ChoiceNotFoundError: it has made no such choice, or too long ago.
            RewardConflictError: another reward has been told.
            InvalidError: the reward is not in the bandit's range.
        """
        return await self._database.write(lambda transaction: self._reward(transaction, name, choice_id, reward))

    async def report(self, name: str) -> Learnt:
        """All that a bandit knows.

        Raises:
            NotFoundError: there is no such bandit.
        """
        entry = await self._bandits.get(Bandit, name)
        memory = self._memory(entry)
        seen = memory.beliefs.revision

        def work(transaction: Transaction) -> tuple[Counts, Sequence[ArmState], dict[str, Outcomes]]:
            counts = self._rows.counts(transaction, entry.uid)
            if counts is None:
                raise NotFoundError(name)
            news = self._rows.arms_since(transaction, entry.uid, seen)
            return counts, news, self._rows.outcomes(transaction, entry.uid)

        counts, news, outcomes = await self._database.read(work)
        async with memory.turn:
            await aside(_cost_of(news), memory.beliefs.follow, news)
        return Learnt(entry, counts, memory.beliefs, outcomes)

    async def _warm(self, entry: Entry[Bandit]) -> _Memory:
        """What is believed of a bandit; where that is nothing yet, all is read here and not where writers wait."""
        memory = self._memory(entry)
        if not memory.beliefs.revision:
            news = await self._database.read(lambda transaction: self._rows.arms_since(transaction, entry.uid, 0))
            async with memory.turn:
                await aside(_cost_of(news), memory.beliefs.follow, news)
        return memory

    def _memory(self, entry: Entry[Bandit]) -> _Memory:
        """What is believed of a bandit as it is now: another revision may have other arms."""
        key = (entry.uid, entry.revision)
        memory = self._memories.get(key)
        if memory is None:
            body = entry.body
            width = Encoder(body.features).width
            arms = [arm.id for arm in body.arms]
            memory = _Memory(Beliefs(arms, width, body.ridge, decays=body.kept_share < 1.0))
            self._memories.put(key, memory, _FLOAT_BYTES * (memory.beliefs.inverse.size + 4 * len(arms)))
        return memory

    def _begin(
        self, transaction: Transaction, entry: Entry[Bandit], count: int, seen: int
    ) -> tuple[int, Sequence[ArmState]]:
        """The number of the first choice, and what has been learnt since."""
        first = self._rows.take_numbers(transaction, entry.uid, count)
        if first is None:
            raise NotFoundError(entry.name)
        return first, self._rows.arms_since(transaction, entry.uid, seen)

    def _choose(
        self, entry: Entry[Bandit], beliefs: Beliefs, news: Sequence[ArmState], vectors: Sequence[Floats], first: int
    ) -> list[Chosen]:
        beliefs.follow(news)
        seed = entry.body.seed or uuid.UUID(entry.uid).int
        chosen = []
        for at, vector in enumerate(vectors):
            verdict = choose(entry.body, beliefs, vector, np.random.default_rng([seed, first + at]))
            chosen.append(Chosen(self._new_id(), verdict, beliefs.weights[verdict.arm] * vector))
        return chosen

    def _keep(self, transaction: Transaction, entry: Entry[Bandit], kept: Sequence[KeptChoice]) -> None:
        if self._rows.counts(transaction, entry.uid) is None:
            raise NotFoundError(entry.name)
        self._rows.add_choices(transaction, entry.uid, kept)
        self._rows.forget_choices(
            transaction,
            entry.uid,
            upto=kept[-1].sequence - MAX_KEPT_CHOICES,
            before=self._now() - entry.body.taken_s,
        )

    def _reward(self, transaction: Transaction, name: str, choice_id: str, reward: float) -> Told:
        entry = self._bandits.found(transaction, Bandit, name)
        body, uid = entry.body, entry.uid
        if not body.min_reward <= reward <= body.top_reward:
            raise InvalidError("reward", f"must be from {body.min_reward:g} to {body.top_reward:g}")
        choice = self._rows.choice(transaction, uid, choice_id)
        if choice is None or choice.chosen < self._now() - body.taken_s:
            raise ChoiceNotFoundError(
                f"{name} has made no choice {choice_id}, or more than {body.taken_s:g} seconds ago", choice=choice_id
            )
        if choice.reward is not None and choice.reward != reward:
            raise RewardConflictError(
                f"the reward of choice {choice_id} is {choice.reward:g} already; it cannot become {reward:g}",
                choice=choice_id,
            )
        if not self._rows.put_reward(transaction, uid, choice_id, reward):
            return Told(choice.arm, learnt=False)
        if choice.arm not in {arm.id for arm in body.arms}:
            return Told(choice.arm, learnt=False)
        state = self._rows.arm(transaction, uid, choice.arm) or nothing_of(choice.arm, choice.context.size)
        scaled = (reward - body.min_reward) / (body.top_reward - body.min_reward)
        revision = self._rows.next_update(transaction, uid)
        self._rows.put_arm(transaction, uid, learnt(state, choice.context, scaled, body.kept_share, revision))
        return Told(choice.arm, learnt=True)


def _cost_of(news: Sequence[ArmState]) -> int:
    """How much there is to solve, as `aside` counts."""
    return sum(state.gram.size * len(state.last) for state in news) // _PRODUCTS_A_VALUE
