"""Indexes for every way in which records are asked for: however many there are, a page is found at once."""

from alembic import op

revision = "security_0003"
down_revision = "security_0002"

_ASKED_BY = ("service", "subject", "code")


def upgrade() -> None:
    """Create the indexes."""
    for column in _ASKED_BY:
        op.create_index(f"records_by_{column}", "records", ["tenant", column, "sequence"])


def downgrade() -> None:
    """Drop them."""
    for column in _ASKED_BY:
        op.drop_index(f"records_by_{column}", "records")
