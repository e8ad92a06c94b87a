"""Series, rollups, and how far the records have been counted."""

import sqlalchemy as sa
from alembic import op

revision = "analytics_0001"
down_revision = None

_DIMENSIONS = ("service", "method", "agent", "model", "model_version", "connection", "principal")
_SUMS = (
    "calls", "duration_us", "tokens_in", "tokens_out", "usage_rows", "cost_nanos", "request_bytes", "response_bytes",
    "runs", "run_steps", "run_duration_us",
)  # fmt: skip


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO cursors (name, position) VALUES ('records', 0)")
    op.create_table(
        "series",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("cube", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in _DIMENSIONS),
        sa.Column("last_day", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant", "cube", *_DIMENSIONS),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rollups",
        sa.Column("granularity", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("cube", sa.Text, primary_key=True),
        sa.Column("bucket", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("series", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        sa.Column("codes", sa.Text, nullable=False),
        sa.Column("run_states", sa.Text, nullable=False),
        sa.Column("latency", sa.LargeBinary),
        sa.Column("run_latency", sa.LargeBinary),
        sa.Column("principals", sa.LargeBinary),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("rollups", "series", "cursors"):
        op.drop_table(table)
