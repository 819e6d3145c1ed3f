"""Opening a plan for a training loop."""

import re
from pathlib import Path

from chipmill.errors import MissingError, RequestError
from chipmill.formats.layout import plan_key
from chipmill.formats.plan import Plan, decode_plan
from chipmill.train.place import read_file
from chipmill.train.source import FastStorage, Source
from chipmill.url import store_url


def open_source(
    archive: str | Path, plan: str | None, fast: str | Path | None, *, epoch: int | None
) -> Source:
    """Find where the megabatches are.

    Raises:
        MissingError: The archive has no such plan, or no whole export of it.
        RequestError: The plan or the epoch does not fit to what is opened.
        StoreError: The archive cannot be read.
    """
    if fast is None:
        from chipmill.train.exported import open_export  # noqa: PLC0415  # of exports alone

        return open_export(archive, plan, epoch=epoch)
    if plan is None:
        raise RequestError("say which plan is on fast storage: plan=…")
    if epoch is not None:
        raise RequestError(
            f"epoch {epoch} is asked of fast storage, where each epoch is a plan of its own; plan "
            "and stage it, or train on an export"
        )
    return FastStorage(Path(fast), _read_plan(archive, plan))


def _read_plan(archive: str | Path, plan: str) -> Plan:
    """Read a plan's summary from the archive."""
    if not re.fullmatch(r"[0-9a-f]{16}", plan):
        raise RequestError(f"{plan!r} is no plan id; give the 16 hex digits that planning printed")
    url, key = store_url(archive), plan_key(plan)
    try:
        data = read_file(url, key)
    except MissingError as err:
        raise MissingError(
            f"there is no plan {plan} in the archive {url} ({key}); check both names, or plan first"
        ) from err
    return decode_plan(data, where=f"{url}/{key}")
