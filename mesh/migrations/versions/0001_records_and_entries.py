"""The spool of call records, and the entries."""

import sqlalchemy as sa
from alembic import op

revision = "mesh_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "call_records",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "entries",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("create_time", sa.Text, nullable=False),
        sa.Column("update_time", sa.Text, nullable=False),
        sa.Column("delete_time", sa.Text),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text),
        sa.Column("request_digest", sa.Text),
    )
    op.create_index("entries_by_tenant", "entries", ["kind", "tenant", "name"])
    op.create_index("entries_by_request", "entries", ["kind", "tenant", "request_id"], unique=True)


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("entries")
    op.drop_table("call_records")
