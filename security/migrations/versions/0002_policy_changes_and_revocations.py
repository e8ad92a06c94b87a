"""What each revision of the policy changed, and API keys that ended while their tokens may not have."""

import sqlalchemy as sa
from alembic import op

revision = "security_0002"
down_revision = "security_0001"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "policy_changes",
        sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "revocations",
        sa.Column("uid", sa.Text, primary_key=True),
        sa.Column("revoked", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("revocations", "policy_changes"):
        op.drop_table(table)
