"""How far stagings are, what people did by hand, and the latest changes at once."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make two tables and an index."""
    op.create_table(
        "progress",
        sa.Column("megabatch", sa.String(22), primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.Float(53), nullable=False),
        sa.Column("first_size", sa.BigInteger, nullable=False),
        sa.Column("first_scenes", sa.Integer, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("scenes", sa.Integer, nullable=False),
        sa.Column("of", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys
    op.create_table(
        "action",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )
    op.create_index("history_latest", "history", ["now", "at"])
