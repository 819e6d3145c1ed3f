"""Commands on what chipmill knows of sensors."""

import typer

from chipmill.cli.app import app, sentence
from chipmill.sensors import sensors as all_sensors


@app.command()
@sentence
def sensors() -> None:
    """List the sensors that chipmill knows, with their bands."""
    for name, sensor in sorted(all_sensors().items()):
        typer.echo(f"{name}: {', '.join(band.name for band in sensor.bands)}")
