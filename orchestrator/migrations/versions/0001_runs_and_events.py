"""Runs, and the events that are their only truth."""

import sqlalchemy as sa
from alembic import op

revision = "orchestrator_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "runs",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("requester", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("output", sa.Text),
        sa.Column("problem", sa.Text),
        sa.Column("create_time", sa.Text, nullable=False),
        sa.Column("update_time", sa.Text, nullable=False),
        sa.Column("start_time", sa.Text),
        sa.Column("end_time", sa.Text),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("lease_expires", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("request_digest", sa.Text, nullable=False),
    )
    op.create_index("runs_by_agent", "runs", ["agent", "name"])
    op.create_index("runs_by_request", "runs", ["agent", "request_id"], unique=True)
    live = sa.text("state IN ('QUEUED', 'RUNNING')")
    op.create_index("runs_live", "runs", ["create_time"], sqlite_where=live, postgresql_where=live)
    op.create_table(
        "events",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("sequence", sa.Integer, primary_key=True),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("occurrence", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("duration_ms", sa.Float, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("events")
    op.drop_table("runs")
