"""The SQL of the policy: its revision, what each revision changed, and API keys that were taken back.

The directory's entries are kept as every service keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, column, delete, insert, select, table, update

from security.changes import Change

__all__ = ["PolicyStore"]

_policy = table("policy", column("revision"))
_changes = table("policy_changes", column("revision"), column("kind"), column("name"))
_revocations = table("revocations", column("uid"), column("revoked"))
_KEPT_CHANGES = 10_000


class PolicyStore:
    """Statements on a connection; each method is one, and runs inside the caller's transaction."""

    def policy_revision(self, connection: Connection) -> int:
        """The revision of the policy as it is now."""
        return int(connection.execute(select(_policy.c.revision)).scalar_one())

    def new_policy_revision(self, connection: Connection, change: Change) -> None:
        """Count one change of the policy, and say what it changed."""
        connection.execute(update(_policy).values(revision=_policy.c.revision + 1))
        revision = self.policy_revision(connection)
        connection.execute(insert(_changes).values(revision=revision, kind=change.kind, name=change.name))
        connection.execute(delete(_changes).where(_changes.c.revision <= revision - _KEPT_CHANGES))

    def changes(self, connection: Connection, after: int) -> Sequence[Change] | None:
        """What changed after a revision, oldest first; None where that is not known any more."""
        rows = connection.execute(select(_changes).where(_changes.c.revision > after).order_by(_changes.c.revision))
        found = [(row.revision, Change(row.kind, row.name)) for row in rows]
        if [revision for revision, _ in found] != list(range(after + 1, after + 1 + len(found))):
            return None
        return [change for _, change in found]

    def revoke(self, connection: Connection, uid: str, at: float) -> None:
        """Refuse the tokens of an API key from a time on, seconds since the epoch; 0 to let them hold again."""
        connection.execute(delete(_revocations).where(_revocations.c.uid == uid))
        if at:
            connection.execute(insert(_revocations).values(uid=uid, revoked=at))

    def revocations(self, connection: Connection, since: float) -> dict[str, float]:
        """The keys whose tokens were refused from a time after `since` on, with that time."""
        rows = connection.execute(select(_revocations).where(_revocations.c.revoked > since))
        return {row.uid: row.revoked for row in rows}

    def revocation(self, connection: Connection, uid: str) -> float:
        """From when on a key's tokens are refused; 0 where they are not."""
        found = connection.execute(select(_revocations.c.revoked).where(_revocations.c.uid == uid)).scalar()
        return float(found or 0.0)

    def forget_revocations(self, connection: Connection, before: float) -> None:
        """Forget the keys that were taken back so long ago that no token is left of them."""
        connection.execute(delete(_revocations).where(_revocations.c.revoked < before))
