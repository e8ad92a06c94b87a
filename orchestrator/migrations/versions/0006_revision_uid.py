"""Which revision of its name a run is pinned to."""

import sqlalchemy as sa
from alembic import op

revision = "orchestrator_0006"
down_revision = "orchestrator_0005"


def upgrade() -> None:
    """Add the column; of runs that are there already the times tell."""
    op.add_column("runs", sa.Column("revision_uid", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("runs", "revision_uid")
