"""The policy's revision, and the records."""

import sqlalchemy as sa
from alembic import op

revision = "security_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table("policy", sa.Column("revision", sa.Integer, nullable=False))
    op.execute("INSERT INTO policy (revision) VALUES (0)")
    op.create_table(
        "records",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("receive_time", sa.Text, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("records_by_tenant", "records", ["tenant", "sequence"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("records", "policy"):
        op.drop_table(table)
