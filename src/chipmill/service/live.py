"""The page's stream of server-sent events: its sections, whenever they have changed."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Final

MOST_STREAMS: Final = 32
"""Pages that are kept live at one time."""

_PAUSE: Final = 1.0  # seconds between looks
_SILENCE: Final = 15  # looks without a change after which a comment shows that we are there


class Streams:
    """Counts the streams that are open."""

    def __init__(self) -> None:
        """Begin with none."""
        self._open = 0

    @property
    def full(self) -> bool:
        """Whether one more is too many."""
        return self._open >= MOST_STREAMS

    async def events(self, draw: Callable[[], Coroutine[Any, Any, str]]) -> AsyncGenerator[str]:
        """Send what `draw` gives, at first and after each change, until the reader goes away."""
        self._open += 1
        try:
            yield "retry: 2000\n\n"
            last, silent = "", 0
            while True:
                text = await draw()
                if text != last:
                    yield event("page", text)
                    last, silent = text, 0
                silent += 1
                if silent % _SILENCE == 0:
                    yield ": here\n\n"
                await asyncio.sleep(_PAUSE)
        finally:
            self._open -= 1


def event(name: str, text: str) -> str:
    """Write one event: each line of its text after `data:`, as the HTML standard has it."""
    lines = "\n".join(f"data: {line}" for line in text.splitlines())
    return f"event: {name}\n{lines}\n\n"
