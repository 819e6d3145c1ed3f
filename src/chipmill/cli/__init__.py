"""chipmill: thin commands over the library; flows are started in Prefect."""

from chipmill.cli import (
    plan,
    sensors,
    service,
    stats,
    view,
)  # a module adds its commands when imported
from chipmill.cli.app import app

__all__ = ["app", "plan", "sensors", "service", "stats", "view"]
