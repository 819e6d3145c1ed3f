"""The flow `tidy`."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from tasks.archive import collect_garbage
from tasks.places import check_places


@flow(name="tidy", flow_run_name="tidy up")
def tidy(
    keep: Annotated[int, Field(title="Steps of history that stay", ge=1)] = 10,
    hours: Annotated[int, Field(title="Hours in which nothing is removed", ge=1)] = 24,
    *,
    remove: Annotated[bool, Field(title="Remove")] = True,
) -> int:
    """Remove files of old snapshots; what a plan names stays, and so does everything young.

    Args:
        keep: Newest steps of history of each chip size that stay.
        hours: What was written in these last hours stays; no merge and no reader may take longer.
        remove: Remove; else the log only says what would go.

    Returns:
        How many objects are not needed.
    """
    check_places("archive")
    return collect_garbage(keep, hours, remove=remove)
