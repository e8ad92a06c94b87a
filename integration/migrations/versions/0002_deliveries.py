"""What webhooks have accepted, until its run has started and for as long as a repeat must be known."""

import sqlalchemy as sa
from alembic import op

revision = "integration_0002"
down_revision = "integration_0001"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "deliveries",
        sa.Column("delivery_key", sa.String(128), primary_key=True),
        sa.Column("webhook", sa.String(256), nullable=False),
        sa.Column("run", sa.String(256), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("role", sa.String(64), nullable=False),
        sa.Column("input", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("received", sa.Float, nullable=False),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_index("deliveries_by_due", "deliveries", ["state", "due"])
    op.create_index("deliveries_by_webhook", "deliveries", ["webhook", "state"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("deliveries")
