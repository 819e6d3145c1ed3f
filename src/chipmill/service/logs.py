"""The receiver's log: lines for people, or one JSON object a line for a collector."""

import json
import logging
from datetime import UTC, datetime
from typing import Final, Literal

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"
_FACTS: Final = "facts"
_QUIET: Final = ("httpx", "httpcore")  # they log whole URLs, also those with a password


def configure(form: Literal["text", "json"]) -> None:
    """Send the log to standard error, in one of the two forms."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def facts(**values: str | float | None) -> dict[str, dict[str, str | float | None]]:
    """Give the `extra` of a log call whose facts become members of the JSON object."""
    return {_FACTS: values}


class JsonLines(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, and the facts of the call."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= record.__dict__.get(_FACTS, {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
