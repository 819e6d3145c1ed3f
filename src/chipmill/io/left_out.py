"""Items that cannot be judged: each is named once, and a search goes on without it."""

import logging
import threading

from shapely.errors import ShapelyError

from chipmill.errors import CatalogError
from chipmill.formats.item_reading import BROKEN

log = logging.getLogger(__name__)

UNREADABLE = (*BROKEN, CatalogError, ShapelyError)
"""What judging an item comes to that has a field of another type than STAC has it."""


class LeftOut:
    """The items of one catalogue that are left out; many threads may add to them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._told = dict[tuple[str, str], None]()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count them."""
        return len(self._told)

    def add(self, name: str, why: str) -> None:
        """Leave out an item; it is told once, however many tiles it is found for.

        Args:
            name: Its id, or its place where it has none.
            why: What is wrong with it.
        """
        with self._lock:
            is_new = (name, why) not in self._told
            self._told[name, why] = None
        if is_new:
            log.warning("item %s is left out: %s", name, why)

    def words(self) -> str:
        """Count them and say what is wrong with the first."""
        name, why = next(iter(self._told))
        return f"{len(self)} that cannot be read are left out, the first, {name}, since {why}"


def reason(err: Exception) -> str:
    """Say what is wrong with an item that cannot be judged."""
    if isinstance(err, CatalogError):
        return str(err)
    return f"a field of it is not as STAC has it ({type(err).__name__}: {err})"
