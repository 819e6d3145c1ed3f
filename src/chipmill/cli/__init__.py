"""chipmill: thin commands over the library; flows are started in Prefect."""

from chipmill.cli import (
    ingest,
    plan,
    sensors,
    service,
    view,
)  # a module adds its commands when imported
from chipmill.cli.app import app

__all__ = ["app", "ingest", "plan", "sensors", "service", "view"]
