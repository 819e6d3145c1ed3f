"""chipmill: thin commands over the library; flows are started in Prefect."""

# A module adds its commands when it is imported.
from chipmill.cli import (
    deploy,
    export,
    index,
    ingest,
    inspect,
    ledger,
    plan,
    sensors,
    service,
    snapshots,
    stats,
    storage,
    up,
    view,
)
from chipmill.cli.app import app

__all__ = [
    "app",
    "deploy",
    "export",
    "index",
    "ingest",
    "inspect",
    "ledger",
    "plan",
    "sensors",
    "service",
    "snapshots",
    "stats",
    "storage",
    "up",
    "view",
]
