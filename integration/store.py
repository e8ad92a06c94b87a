"""The SQL of integration's own tables: tokens, effects, rate limits, deliveries. It runs on SQLite and PostgreSQL.

Every change of state is a guarded UPDATE, so that of two processes on one database exactly one succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from sqlalchemy import Column, Float, Integer, MetaData, String, Table, Text, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from integration.deliveries import Delivery
from integration.ports import KeptEffect, KeptToken
from mesh.db import Transaction
from mesh.identity import Requester

__all__ = ["DeliveryStore", "IntegrationStore"]

_metadata = MetaData()
_tokens = Table(
    "access_tokens",
    _metadata,
    Column("target", String(512), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("expires", Float, nullable=False),
    Column("holder", String(64), nullable=False),
    Column("held_until", Float, nullable=False),
    Column("touched", Float, nullable=False),
)
_effects = Table(
    "effects",
    _metadata,
    Column("effect_key", String(768), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("output", Text),
    Column("touched", Float, nullable=False),
)
_limits = Table(
    "rate_limits",
    _metadata,
    Column("limit_key", String(512), primary_key=True),
    Column("free_at", Float, nullable=False),
)
_deliveries = Table(
    "deliveries",
    _metadata,
    Column("delivery_key", String(128), primary_key=True),
    Column("webhook", String(256), nullable=False),
    Column("run", String(256), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(256), nullable=False),
    Column("role", String(64), nullable=False),
    Column("input", Text),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("problem", Text, nullable=False),
    Column("uid", String(64), nullable=False),
)
_WAITING = "WAITING"


class IntegrationStore:
    """Statements; each runs in the transaction that it is given. Times are seconds since 1970."""

    # Access tokens.

    def token(self, transaction: Transaction, target: str) -> KeptToken | None:
        """What is kept for a target."""
        row = transaction.execute(select(_tokens).where(_tokens.c.target == target)).one_or_none()
        return None if row is None else KeptToken(row.version, row.sealed, row.expires, row.holder, row.held_until)

    def claim_token(
        self, transaction: Transaction, target: str, version: int, holder: str, now: float, until: float
    ) -> bool:
        """Take the right to replace version `version`, unless somebody else has it or was faster."""
        first = {"version": 0, "sealed": "", "expires": 0.0, "holder": "", "held_until": 0.0, "touched": now}
        self._add(transaction, _tokens, {"target": target, **first})
        claimed = transaction.execute(
            update(_tokens)
            .where(_tokens.c.target == target, _tokens.c.version == version, _tokens.c.held_until <= now)
            .values(holder=holder, held_until=until, touched=now)
        )
        return claimed.rowcount == 1

    def keep_token(
        self, transaction: Transaction, target: str, holder: str, sealed: str, expires: float, now: float
    ) -> bool:
        """Replace the token and give the right back; false where the right was lost meanwhile."""
        kept = transaction.execute(
            update(_tokens)
            .where(_tokens.c.target == target, _tokens.c.holder == holder)
            .values(
                version=_tokens.c.version + 1, sealed=sealed, expires=expires, holder="", held_until=0.0, touched=now
            )
        )
        return kept.rowcount == 1

    def release_token(self, transaction: Transaction, target: str, holder: str) -> None:
        """Give the right back without a new token."""
        transaction.execute(
            update(_tokens)
            .where(_tokens.c.target == target, _tokens.c.holder == holder)
            .values(holder="", held_until=0.0)
        )

    # Effects.

    def effect(self, transaction: Transaction, key: str) -> KeptEffect | None:
        """What is known of an effect."""
        row = transaction.execute(select(_effects).where(_effects.c.effect_key == key)).one_or_none()
        return None if row is None else KeptEffect(row.digest, row.output)

    def begin_effect(self, transaction: Transaction, key: str, digest: str, now: float) -> bool:
        """Note that an effect is about to be asked for; false where that was noted before."""
        return self._add(transaction, _effects, {"effect_key": key, "digest": digest, "output": None, "touched": now})

    def end_effect(self, transaction: Transaction, key: str, output: str, now: float) -> None:
        """Keep what came of an effect."""
        transaction.execute(update(_effects).where(_effects.c.effect_key == key).values(output=output, touched=now))

    def undo_effect(self, transaction: Transaction, key: str) -> None:
        """Forget an effect that certainly did not happen."""
        transaction.execute(delete(_effects).where(_effects.c.effect_key == key, _effects.c.output.is_(None)))

    # Rate limits.

    def free_at(self, transaction: Transaction, key: str) -> float:
        """When a limit allows the next request; 0 where nothing is kept."""
        return float(transaction.execute(select(_limits.c.free_at).where(_limits.c.limit_key == key)).scalar() or 0.0)

    def move_limit(self, transaction: Transaction, key: str, seen: float, free_at: float) -> bool:
        """Move a limit on, unless somebody else did since it was `seen`."""
        self._add(transaction, _limits, {"limit_key": key, "free_at": 0.0})
        moved = transaction.execute(
            update(_limits).where(_limits.c.limit_key == key, _limits.c.free_at == seen).values(free_at=free_at)
        )
        return moved.rowcount == 1

    def hold_off(self, transaction: Transaction, key: str, until: float) -> None:
        """Let nobody pass before `until`; a later time that is kept already stays."""
        self._add(transaction, _limits, {"limit_key": key, "free_at": 0.0})
        transaction.execute(
            update(_limits).where(_limits.c.limit_key == key, _limits.c.free_at < until).values(free_at=until)
        )

    def forget(self, transaction: Transaction, *, before: float) -> None:
        """Forget what nobody has touched since then."""
        transaction.execute(delete(_effects).where(_effects.c.touched < before))
        transaction.execute(delete(_tokens).where(_tokens.c.touched < before, _tokens.c.expires < before))
        transaction.execute(delete(_limits).where(_limits.c.free_at < before))

    @staticmethod
    def _add(transaction: Transaction, table: Table, values: dict[str, object]) -> bool:
        """Add a row unless its key is there already."""
        insert = sqlite_insert if transaction.dialect.name == "sqlite" else postgresql_insert
        key = next(iter(table.primary_key.columns))
        added = transaction.execute(insert(table).values(values).on_conflict_do_nothing().returning(key))
        return added.first() is not None


class DeliveryStore:
    """Statements about what webhooks have accepted; each runs in the transaction that it is given."""

    def run_of(self, transaction: Transaction, key: str) -> str | None:
        """The run that a delivery becomes or has become; None where nothing of that key was accepted."""
        found = transaction.execute(select(_deliveries.c.run).where(_deliveries.c.delivery_key == key)).scalar()
        return None if found is None else str(found)

    def waiting(self, transaction: Transaction, webhook: str, at_most: int) -> int:
        """How many deliveries of a webhook wait to be started; counts no further than `at_most`."""
        rows = (
            select(_deliveries.c.delivery_key)
            .where(_deliveries.c.webhook == webhook, _deliveries.c.state == _WAITING)
            .limit(at_most)
        )
        return int(transaction.execute(select(func.count()).select_from(rows.subquery())).scalar_one())

    def accept(self, transaction: Transaction, delivery: Delivery) -> bool:
        """Keep a new delivery, due at once; false where its key is there already."""
        asked = delivery.requester
        insert = sqlite_insert if transaction.dialect.name == "sqlite" else postgresql_insert
        row = {
            "delivery_key": delivery.key,
            "webhook": delivery.webhook,
            "run": delivery.run,
            "tenant": asked.tenant,
            "subject": asked.subject,
            "role": asked.role,
            "uid": asked.uid,
            "input": msgspec.json.encode(delivery.input).decode(),
            "state": _WAITING,
            "attempts": 0,
            "due": delivery.received,
            "received": delivery.received,
            "problem": "",
        }
        added = insert(_deliveries).values(row).on_conflict_do_nothing().returning(_deliveries.c.delivery_key)
        return transaction.execute(added).first() is not None

    def due(self, transaction: Transaction, now: float, limit: int) -> Sequence[Delivery]:
        """Deliveries to be started now, those first that have waited longest."""
        rows = transaction.execute(
            select(_deliveries)
            .where(_deliveries.c.state == _WAITING, _deliveries.c.due <= now)
            .order_by(_deliveries.c.due)
            .limit(limit)
        )
        return [
            Delivery(
                row.delivery_key,
                row.webhook,
                row.run,
                Requester(row.tenant, row.subject, row.webhook, role=row.role, uid=row.uid),
                msgspec.json.decode(row.input),
                row.received,
                row.attempts,
            )
            for row in rows
        ]

    def end(self, transaction: Transaction, key: str, state: str, problem: str) -> None:
        """Note that a delivery's run has started, or never will; what it began with is kept no longer."""
        transaction.execute(
            update(_deliveries)
            .where(_deliveries.c.delivery_key == key, _deliveries.c.state == _WAITING)
            .values(state=state, problem=problem, input=None)
        )

    def put_off(self, transaction: Transaction, key: str, attempts: int, due: float, problem: str) -> None:
        """Note when to try again."""
        transaction.execute(
            update(_deliveries)
            .where(_deliveries.c.delivery_key == key, _deliveries.c.state == _WAITING)
            .values(attempts=attempts, due=due, problem=problem)
        )

    def forget(self, transaction: Transaction, *, before: float) -> None:
        """Forget deliveries that were accepted before then, unless they still wait."""
        transaction.execute(delete(_deliveries).where(_deliveries.c.received < before, _deliveries.c.state != _WAITING))
