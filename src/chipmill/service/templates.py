"""Pages as text: the templates of `web/`, and how figures and times are written in them."""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chipmill.service.glance import WORDS

WEB: Final = Path(__file__).parent / "web"
"""Templates, style and script."""

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_THOUSAND: Final = 1000.0
_STEPS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def render(name: str, **values: object) -> str:
    """Fill a template in; whatever is put into it is escaped."""
    return _environment().get_template(name).render(**values)


def size(count: float) -> str:
    """Write a number of bytes with three digits or so: `1.25 TB`."""
    power = 0
    while count >= _THOUSAND and power < len(_UNITS) - 1:
        count, power = count / _THOUSAND, power + 1
    digits = 0 if power == 0 or count >= 100 else 1 if count >= 10 else 2  # noqa: PLR2004
    return f"{count:.{digits}f} {_UNITS[power]}"


def span(seconds: float) -> str:
    """Write a length of time in its largest unit or two: `2 h 5 min`."""
    seconds = max(0, round(seconds))
    for number, (length, unit) in enumerate(_STEPS):
        if seconds >= length:
            count, rest = divmod(seconds, length)
            text = f"{count} {unit}"
            if number + 1 < len(_STEPS):
                below, small = _STEPS[number + 1]
                text += f" {rest // below} {small}" if rest >= below else ""
            return text
    return f"{seconds} s"


def ago(at: float, now: float) -> str:
    """Write how long ago a moment was, roughly enough that it does not change each second."""
    seconds = now - at
    if seconds < _STEPS[-1][0]:
        return "just now"
    for length, unit in _STEPS:
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def iso(at: float) -> str:
    """Write a moment in full."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def clock(at: float) -> str:
    """Write the time of day."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    filters = cast("dict[str, object]", environment.filters)
    filters.update(size=size, span=span, ago=ago, iso=iso, clock=clock)
    cast("dict[str, object]", environment.globals).update(words=WORDS, session=None)
    return environment
