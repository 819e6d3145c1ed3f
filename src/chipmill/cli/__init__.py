"""chipmill: thin commands over the library; flows are started in Prefect."""

# A module adds its commands when it is imported.
from chipmill.cli import plan, sensors, service, snapshots, view
from chipmill.cli.app import app

__all__ = ["app", "plan", "sensors", "service", "snapshots", "view"]
