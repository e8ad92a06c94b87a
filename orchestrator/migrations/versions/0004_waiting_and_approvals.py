"""Runs that are put aside until a moment or an answer, and what runs ask of people."""

import sqlalchemy as sa
from alembic import op

revision = "orchestrator_0004"
down_revision = "orchestrator_0003"


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("runs", sa.Column("wake_time", sa.Text))
    aside = sa.text("state IN ('WAITING', 'WAITING_INPUT')")
    op.create_index("runs_waking", "runs", ["wake_time"], sqlite_where=aside, postgresql_where=aside)
    op.create_table(
        "approvals",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("occurrence", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("requester", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("create_time", sa.Text, nullable=False),
        sa.Column("update_time", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.Column("digest", sa.Text),
    )
    pending = sa.text("state = 'PENDING'")
    op.create_index(
        "approvals_pending", "approvals", ["tenant", "name"], sqlite_where=pending, postgresql_where=pending
    )
    op.create_index("approvals_by_run", "approvals", ["run"])


def downgrade() -> None:
    """Drop them; runs that are put aside are queued, and ask again when they come to it."""
    op.execute(sa.text("UPDATE runs SET state = 'QUEUED' WHERE state IN ('WAITING', 'WAITING_INPUT')"))
    op.drop_table("approvals")
    op.drop_index("runs_waking", "runs")
    op.drop_column("runs", "wake_time")
