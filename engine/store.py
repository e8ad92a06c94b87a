"""The SQL of what bandits have learnt. Models and decisions are entries, whose SQL is `mesh.entry_store`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from engine.decisions.bandits.ports import ArmState, Counts, Floats, KeptChoice, Outcomes
from mesh.db import Transaction

__all__ = ["BanditStore"]

_metadata = MetaData()
_bandits = Table(
    "bandits",
    _metadata,
    Column("bandit", String(36), primary_key=True),
    Column("choices", BigInteger, nullable=False),
    Column("updates", BigInteger, nullable=False),
)
_arms = Table(
    "bandit_arms",
    _metadata,
    Column("bandit", String(36), primary_key=True),
    Column("arm", String(64), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("updates", BigInteger, nullable=False),
    Column("counted", Double, nullable=False),
    Column("total", Double, nullable=False),
    Column("gram", LargeBinary, nullable=False),
    Column("moment", LargeBinary, nullable=False),
    Column("last", LargeBinary, nullable=False),
)
_choices = Table(
    "bandit_choices",
    _metadata,
    Column("bandit", String(36), primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("choice", String(36), nullable=False, unique=True),
    Column("arm", String(64), nullable=False),
    Column("context", LargeBinary, nullable=False),
    Column("probability", Double, nullable=False),
    Column("chosen", Double, nullable=False),
    Column("reward", Double),
)
_FORGOTTEN = 1000
"""Choices that are forgotten with one that is made: more than are ever made at once."""


class BanditStore:
    """Statements by a bandit's uid; each runs in the transaction that it is given. Times are seconds since 1970.

    Writers of a service take turns, so that numbers are given in the order of the commits.
    """

    def begin(self, transaction: Transaction, bandit: str) -> None:
        """Begin to count."""
        transaction.execute(insert(_bandits).values(bandit=bandit, choices=0, updates=0))

    def end(self, transaction: Transaction, bandit: str) -> None:
        """Forget everything."""
        for table in (_choices, _arms, _bandits):
            transaction.execute(delete(table).where(table.c.bandit == bandit))

    def keep_arms(self, transaction: Transaction, bandit: str, arms: Collection[str]) -> None:
        """Forget the other arms."""
        known = transaction.execute(select(_arms.c.arm).where(_arms.c.bandit == bandit)).scalars()
        for arm in set(known) - set(arms):
            transaction.execute(delete(_arms).where(_arms.c.bandit == bandit, _arms.c.arm == arm))

    def counts(self, transaction: Transaction, bandit: str) -> Counts | None:
        """How much it has done; None where there is no such bandit."""
        row = transaction.execute(select(_bandits).where(_bandits.c.bandit == bandit)).one_or_none()
        return None if row is None else Counts(row.choices, row.updates)

    def take_numbers(self, transaction: Transaction, bandit: str, count: int) -> int | None:
        """The first of the next numbers for choices, from 1; None where there is no such bandit."""
        taken = transaction.execute(
            update(_bandits)
            .where(_bandits.c.bandit == bandit)
            .values(choices=_bandits.c.choices + count)
            .returning(_bandits.c.choices)
        ).scalar()
        return None if taken is None else int(taken) - count + 1

    def next_update(self, transaction: Transaction, bandit: str) -> int:
        """The next number for a reward, from 1."""
        taken = transaction.execute(
            update(_bandits)
            .where(_bandits.c.bandit == bandit)
            .values(updates=_bandits.c.updates + 1)
            .returning(_bandits.c.updates)
        )
        return int(taken.scalar_one())

    def arm(self, transaction: Transaction, bandit: str, arm: str) -> ArmState | None:
        """What is known of an arm."""
        row = transaction.execute(select(_arms).where(_arms.c.bandit == bandit, _arms.c.arm == arm)).one_or_none()
        return None if row is None else _state(row)

    def arms_since(self, transaction: Transaction, bandit: str, revision: int) -> Sequence[ArmState]:
        """What is known of the arms that have had a reward since the one of that number."""
        rows = transaction.execute(select(_arms).where(_arms.c.bandit == bandit, _arms.c.revision > revision))
        return [_state(row) for row in rows]

    def put_arm(self, transaction: Transaction, bandit: str, state: ArmState) -> None:
        """Keep what is known of an arm in the place of what was."""
        values: dict[str, Any] = {
            "revision": state.revision,
            "updates": state.updates,
            "counted": state.count,
            "total": state.total,
            "gram": _bytes(state.gram),
            "moment": _bytes(state.moment),
            "last": _bytes(state.last),
        }
        where = (_arms.c.bandit == bandit, _arms.c.arm == state.arm)
        if not transaction.execute(update(_arms).where(*where).values(values)).rowcount:
            transaction.execute(insert(_arms).values(bandit=bandit, arm=state.arm, **values))

    def add_choices(self, transaction: Transaction, bandit: str, choices: Sequence[KeptChoice]) -> None:
        """Keep choices, which have no reward yet."""
        rows = [
            {
                "bandit": bandit,
                "sequence": each.sequence,
                "choice": each.id,
                "arm": each.arm,
                "context": _bytes(each.context),
                "probability": each.probability,
                "chosen": each.chosen,
            }
            for each in choices
        ]
        transaction.execute(insert(_choices), rows)

    def choice(self, transaction: Transaction, bandit: str, choice: str) -> KeptChoice | None:
        """A choice that is kept."""
        row = transaction.execute(
            select(_choices).where(_choices.c.choice == choice, _choices.c.bandit == bandit)
        ).one_or_none()
        if row is None:
            return None
        context = np.frombuffer(row.context)
        return KeptChoice(row.choice, row.sequence, row.arm, context, row.probability, row.chosen, row.reward)

    def put_reward(self, transaction: Transaction, bandit: str, choice: str, reward: float) -> bool:
        """Keep a choice's reward; false where it has one."""
        kept = transaction.execute(
            update(_choices)
            .where(_choices.c.choice == choice, _choices.c.bandit == bandit, _choices.c.reward.is_(None))
            .values(reward=reward)
        )
        return kept.rowcount == 1

    def forget_choices(self, transaction: Transaction, bandit: str, *, upto: int, before: float) -> None:
        """Forget choices up to a number, and the oldest ones that were made before a time."""
        transaction.execute(delete(_choices).where(_choices.c.bandit == bandit, _choices.c.sequence <= upto))
        oldest = (
            select(_choices.c.sequence)
            .where(_choices.c.bandit == bandit)
            .order_by(_choices.c.sequence)
            .limit(_FORGOTTEN)
            .scalar_subquery()
        )
        transaction.execute(
            delete(_choices).where(
                _choices.c.bandit == bandit, _choices.c.sequence.in_(oldest), _choices.c.chosen < before
            )
        )

    def outcomes(self, transaction: Transaction, bandit: str) -> dict[str, Outcomes]:
        """Sums over the choices that are kept and have their reward, by arm."""
        weight = 1.0 / _choices.c.probability
        rows = transaction.execute(
            select(
                _choices.c.arm,
                func.sum(_choices.c.reward * weight),
                func.sum(weight),
                func.sum(weight * weight),
            )
            .where(_choices.c.bandit == bandit, _choices.c.reward.is_not(None), _choices.c.probability > 0)
            .group_by(_choices.c.arm)
        )
        return {
            arm: Outcomes(float(weighted), float(weights), float(squares)) for arm, weighted, weights, squares in rows
        }


def _bytes(array: Floats) -> bytes:
    return np.ascontiguousarray(array, np.float64).tobytes()


def _state(row: Row[Any]) -> ArmState:
    """A row's sums; doubles in the machine's order, which is little-endian on every platform that this runs on."""
    moment = np.frombuffer(row.moment)
    gram = np.frombuffer(row.gram).reshape(moment.size, moment.size)
    return ArmState(row.arm, row.revision, row.updates, row.counted, row.total, gram, moment, np.frombuffer(row.last))
