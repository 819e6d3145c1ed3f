"""Where a run keeps things: not in the directory that it starts in."""

from chipmill.errors import RequestError
from chipmill.settings import Settings, Where, has_worker


def check_places(*places: Where) -> None:
    """Refuse a run of a work pool whose data would be lost with the directory that it starts in.

    Args:
        places: What the run reads or writes.

    Raises:
        RequestError: One of them is not set, or is relative.
    """
    if not has_worker():
        return
    unsettled = Settings.load().unsettled(*places)
    if unsettled:
        said = ", ".join(f"{name} {wrong}" for name, wrong in unsettled.items())
        raise RequestError(
            f"{said}: a run of a work pool starts in a directory of its own, which has no .env and "
            "does not stay; set absolute places in the environment that the worker is started "
            "with, or in `env` of the work pool"
        )
