"""Commands on what chipmill knows of sensors."""

from typing import Annotated

import typer

from chipmill.cli.app import app, sentence
from chipmill.formats.sensor_page import markdown, text
from chipmill.sensors import described, sensor


@app.command()
@sentence
def sensors(
    names: Annotated[list[str] | None, typer.Argument(help="Only these; none: all.")] = None,
    *,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="With all figures and their sources, as Markdown.")
    ] = False,
) -> None:
    """Show the sensors that chipmill knows: bands, platforms, and the classes of their clouds."""
    wanted = {sensor(name).name for name in names or ()}
    shown = [each for each in described() if not wanted or each[0].name in wanted]
    if as_markdown:
        typer.echo(markdown(shown), nl=False)
    else:
        typer.echo("\n\n".join(text(each) for each, _ in shown))
