"""The entry point of `chipmill`: says what to install where only the training side is."""


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: The packages of the pipeline are not installed.
    """
    try:
        from chipmill.cli import app  # noqa: PLC0415  # it imports the extras
    except ModuleNotFoundError as err:
        raise SystemExit(
            f"the command chipmill needs the pipeline's packages ({err.name} is missing); "
            "install chipmill[pipeline,serve]"
        ) from err
    app()
