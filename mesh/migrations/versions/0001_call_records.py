"""The spool of call records."""

import sqlalchemy as sa
from alembic import op

revision = "mesh_0001"
down_revision = None


def upgrade() -> None:
    """Create the spool."""
    op.create_table(
        "call_records",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the spool."""
    op.drop_table("call_records")
