"""Names of places: a path and a URL say the same."""

from pathlib import Path


def store_url(place: str | Path) -> str:
    """Give a plain path the form of a URL, so that one word names any store."""
    if "://" in str(place):
        return str(place)
    return Path(place).expanduser().resolve().as_uri()
