"""The SQL of the policy's revision; the directory's entries are kept as every service keeps its own."""

from __future__ import annotations

from sqlalchemy import Connection, column, select, table, update

__all__ = ["PolicyStore"]

_policy = table("policy", column("revision"))


class PolicyStore:
    """Statements on a connection; each method is one, and runs inside the caller's transaction."""

    def policy_revision(self, connection: Connection) -> int:
        """The revision of the policy as it is now."""
        return int(connection.execute(select(_policy.c.revision)).scalar_one())

    def new_policy_revision(self, connection: Connection) -> None:
        """Count one change of the policy."""
        connection.execute(update(_policy).values(revision=_policy.c.revision + 1))
