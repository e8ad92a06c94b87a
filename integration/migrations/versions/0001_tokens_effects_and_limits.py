"""Access tokens of other systems, effects that were asked of them, and when they may be asked again."""

import sqlalchemy as sa
from alembic import op

revision = "integration_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "access_tokens",
        sa.Column("target", sa.String(512), primary_key=True),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("holder", sa.String(64), nullable=False),
        sa.Column("held_until", sa.Float, nullable=False),
        sa.Column("touched", sa.Float, nullable=False),
    )
    op.create_table(
        "effects",
        sa.Column("effect_key", sa.String(768), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("output", sa.Text),
        sa.Column("touched", sa.Float, nullable=False),
    )
    op.create_index("effects_by_age", "effects", ["touched"])
    op.create_table(
        "rate_limits",
        sa.Column("limit_key", sa.String(512), primary_key=True),
        sa.Column("free_at", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("rate_limits")
    op.drop_table("effects")
    op.drop_table("access_tokens")
