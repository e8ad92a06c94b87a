"""Which principal of a name a delivery is on behalf of."""

import sqlalchemy as sa
from alembic import op

revision = "integration_0003"
down_revision = "integration_0002"


def upgrade() -> None:
    """Add the column; deliveries of an earlier release do not say."""
    op.add_column("deliveries", sa.Column("uid", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("deliveries", "uid")
