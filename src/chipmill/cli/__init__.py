"""chipmill: thin commands over the library; flows are started in Prefect."""

# A module adds its commands when it is imported.
from chipmill.cli import inspect, plan, sensors, service, snapshots, view
from chipmill.cli.app import app

__all__ = ["app", "inspect", "plan", "sensors", "service", "snapshots", "view"]
