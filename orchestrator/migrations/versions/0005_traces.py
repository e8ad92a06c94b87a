"""The trace that a run belongs to."""

import sqlalchemy as sa
from alembic import op

revision = "orchestrator_0005"
down_revision = "orchestrator_0004"


def upgrade() -> None:
    """Add the column; runs that are there already belong to no trace."""
    op.add_column("runs", sa.Column("trace", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("runs", "trace")
