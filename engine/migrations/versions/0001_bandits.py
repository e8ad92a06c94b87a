"""What bandits have learnt: how much they have done, what is known of each arm, choices that wait for their reward."""

import sqlalchemy as sa
from alembic import op

revision = "engine_0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "bandits",
        sa.Column("bandit", sa.String(36), primary_key=True),
        sa.Column("choices", sa.BigInteger, nullable=False),
        sa.Column("updates", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "bandit_arms",
        sa.Column("bandit", sa.String(36), primary_key=True),
        sa.Column("arm", sa.String(64), primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("updates", sa.BigInteger, nullable=False),
        sa.Column("counted", sa.Double, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
        sa.Column("gram", sa.LargeBinary, nullable=False),
        sa.Column("moment", sa.LargeBinary, nullable=False),
        sa.Column("last", sa.LargeBinary, nullable=False),
    )
    op.create_index("bandit_arms_by_revision", "bandit_arms", ["bandit", "revision"])
    op.create_table(
        "bandit_choices",
        sa.Column("bandit", sa.String(36), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("choice", sa.String(36), nullable=False, unique=True),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("context", sa.LargeBinary, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("chosen", sa.Double, nullable=False),
        sa.Column("reward", sa.Double),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("bandit_choices", "bandit_arms", "bandits"):
        op.drop_table(table)
