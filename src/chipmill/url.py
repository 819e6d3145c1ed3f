"""Names of places: a path and a URL say the same."""

from pathlib import Path

from chipmill.errors import RequestError


def expanded(place: str | Path) -> Path:
    """Give a path with the home directory that `~` stands for.

    Raises:
        RequestError: It is of a user who is not here.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as err:
        raise RequestError(f"{place} names a home that is not here; write the path out") from err


def store_url(place: str | Path) -> str:
    """Give a plain path the form of a URL, so that one word names any store."""
    if "://" in str(place):
        return str(place)
    return expanded(place).resolve().as_uri()


def is_relative(place: str | Path) -> bool:
    """Tell whether a path, or the URL of an SQLite file, says another place in each directory."""
    text = str(place)
    if text.startswith("sqlite"):
        return not _database(text).startswith("/")
    return "://" not in text and not expanded(text).is_absolute()


def absolute_ledger(url: str) -> str:
    """Give the URL of an SQLite file in this directory the form that holds in every other."""
    name = _database(url)
    if not is_relative(url) or name in {"", ":memory:"}:
        return url
    return url.removesuffix(name) + str(Path.cwd() / name)


def _database(url: str) -> str:
    return url.partition(":///")[2].removeprefix("file:")
