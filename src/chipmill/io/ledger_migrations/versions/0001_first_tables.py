"""The first tables, as they were made before the ledger had versions.

Tables that are there already are left as they are: so a ledger without a version is recognised.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_STATES = "'planned', 'staging', 'ready', 'in_use', 'complete', 'removing', 'removed'"


def upgrade() -> None:
    """Make what is missing of the first tables."""
    _make_plans()
    _make_runs()
    _make_history()
    _make_outbox()
    op.create_table(
        "lock",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("lease_until", sa.Float(53), nullable=False),
        if_not_exists=True,
    )


def _make_plans() -> None:
    op.create_table(
        "budget",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        if_not_exists=True,
    )
    op.create_table(
        "plan",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("created", sa.Float(53), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "megabatch",
        sa.Column("id", sa.String(22), primary_key=True),
        sa.Column("plan", sa.String(16), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False, server_default="1"),
        sa.Column("state", sa.String(16), nullable=False, server_default="planned"),
        sa.Column("version", sa.Integer, nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("fence", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_until", sa.Float(53), nullable=False, server_default="0"),
        sa.Column("worker", sa.Text, nullable=False, server_default=""),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.CheckConstraint(f"state IN ({_STATES})", name="megabatch_state"),
        sa.CheckConstraint("bytes >= 0 AND reserved >= 0", name="megabatch_bytes"),
        if_not_exists=True,
    )
    op.create_index("ix_megabatch_plan", "megabatch", ["plan"], if_not_exists=True)


def _make_runs() -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("plan", sa.String(16), primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("world", sa.Integer, nullable=False),
        sa.Column("begun", sa.Float(53), nullable=False),
        sa.Column("released", sa.Float(53)),
        if_not_exists=True,
    )
    op.create_index("ix_run_plan", "run", ["plan"], if_not_exists=True)
    op.create_table(
        "done",
        sa.Column("megabatch", sa.String(22), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("run", sa.String(128), primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "delivery",
        sa.Column("run", sa.String(128), primary_key=True),
        sa.Column("message", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        if_not_exists=True,
    )


def _make_history() -> None:
    op.create_table(
        "history",
        sa.Column("megabatch", sa.String(22), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("was", sa.String(16), nullable=False),
        sa.Column("now", sa.String(16), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.CheckConstraint(f"was IN ({_STATES})", name="history_was"),
        sa.CheckConstraint(f"now IN ({_STATES})", name="history_now"),
        if_not_exists=True,
    )


def _make_outbox() -> None:
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite numbers only INTEGER keys
    op.create_table(
        "outbox",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(22), nullable=False),
        sa.Column("key", sa.String(256), nullable=False, unique=True),
        sa.Column("created", sa.Float(53), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_try", sa.Float(53), nullable=False),
        sa.Column("sent_at", sa.Float(53)),
        sa.Column("flow_run", sa.Text),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.CheckConstraint("kind IN ('cleanup', 'stage')", name="outbox_kind"),
        if_not_exists=True,
    )
    op.create_index("outbox_due", "outbox", ["sent_at", "next_try"], if_not_exists=True)
