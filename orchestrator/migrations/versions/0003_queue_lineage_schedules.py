"""Priorities, limits and crashes of runs that wait; where a run comes from; schedules."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "orchestrator_0003"
down_revision = "orchestrator_0001"

_INDEXES = (
    ("runs_queued", ["rank", "agent"], "state = 'QUEUED'"),
    ("runs_waiting", ["tenant", "agent"], "state = 'QUEUED'"),
    ("runs_running", ["agent", "lease_expires"], "state = 'RUNNING'"),
    ("runs_failed", ["agent", "name"], "state = 'FAILED' OR state = 'DEAD_LETTERED'"),
    ("runs_of_schedule", ["schedule"], "schedule IS NOT NULL AND end_time IS NULL"),
    ("runs_by_time", ["agent", "create_time", "name"], None),
)


def _run_columns() -> tuple[sa.Column[Any], ...]:
    """What a run has besides; made anew each time, as a column belongs to one table."""
    return (
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rank", sa.BigInteger, nullable=False, server_default="0"),  # old runs go before all new ones
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("crashes", sa.Integer, nullable=False, server_default="0"),
        sa.Column("crashed_steps", sa.Integer, nullable=False, server_default="0"),
        sa.Column("source_run", sa.Text),
        sa.Column("source_sequence", sa.Integer),
        sa.Column("schedule", sa.Text),
        sa.Column("scheduled_time", sa.Text),
    )


def upgrade() -> None:
    """Add columns, tables and indexes."""
    for column in _run_columns():
        op.add_column("runs", column)
    op.drop_index("runs_live", "runs")
    for name, columns, where in _INDEXES:
        only = sa.text(where) if where else None
        op.create_index(name, "runs", columns, sqlite_where=only, postgresql_where=only)
    op.create_table(
        "queues",
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("max_concurrency", sa.Integer, nullable=False),
    )
    _carry_over_paused()
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("next_time", sa.BigInteger),
        sa.Column("fire_time", sa.BigInteger),
        sa.Column("last_time", sa.BigInteger),
        sa.Column("buffered_time", sa.BigInteger),
        sa.Column("last_run", sa.Text, nullable=False),
        sa.Column("started", sa.Integer, nullable=False),
        sa.Column("skipped", sa.Integer, nullable=False),
        sa.Column("missed", sa.Integer, nullable=False),
        sa.Column("blocked", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("since_time", sa.BigInteger),
    )
    due = sa.text("fire_time IS NOT NULL")
    op.create_index("schedules_due", "schedules", ["fire_time"], sqlite_where=due, postgresql_where=due)
    waiting = sa.text("buffered_time IS NOT NULL")
    op.create_index("schedules_buffered", "schedules", ["name"], sqlite_where=waiting, postgresql_where=waiting)


def _carry_over_paused() -> None:
    """Agents that are paused already; a flow's text may hold the same words, but with escaped quotes."""
    paused = sa.text("INSERT INTO queues SELECT name, :yes, 0 FROM entries WHERE kind = 'Agent' AND body LIKE :body")
    op.execute(paused.bindparams(sa.bindparam("yes", True, sa.Boolean), body='%,"paused":true,%'))


def downgrade() -> None:
    """Remove them; runs that were given up count as failed then."""
    op.drop_table("schedules")
    op.drop_table("queues")
    for name, _, _ in _INDEXES:
        op.drop_index(name, "runs")
    op.execute("UPDATE runs SET state = 'FAILED' WHERE state = 'DEAD_LETTERED'")
    for column in _run_columns():
        op.drop_column("runs", column.name)
    live = sa.text("state IN ('QUEUED', 'RUNNING')")
    op.create_index("runs_live", "runs", ["create_time"], sqlite_where=live, postgresql_where=live)
