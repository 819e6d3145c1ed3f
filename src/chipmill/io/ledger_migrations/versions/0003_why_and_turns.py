"""Why a megabatch changed, and when its plan was last given space."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a reason to each change and a turn to each plan."""
    op.add_column("history", sa.Column("why", sa.Text, nullable=False, server_default=""))
    op.add_column("plan", sa.Column("served", sa.Float(53), nullable=False, server_default="0"))
