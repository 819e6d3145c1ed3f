"""Values of which a process has one for each set of arguments, whatever number of threads ask."""

import threading
from collections.abc import Callable, Hashable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def shared(make: Callable[P, T]) -> Callable[P, T]:
    """Make a value once for its arguments; `functools.cache` makes two where threads meet."""
    made: dict[Hashable, T] = {}
    lock = threading.Lock()

    @wraps(make)
    def given(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (args, tuple(sorted(kwargs.items())))
        with lock:
            if key not in made:
                made[key] = make(*args, **kwargs)
            return made[key]

    return given
