"""Revisions of the ledger, for Alembic; one file a change of its tables."""
