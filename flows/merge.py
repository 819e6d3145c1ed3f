"""The flow `merge`."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from tasks.archive import compact_index, merge_index
from tasks.places import check_places
from tasks.reports import report_snapshot


@flow(name="merge", flow_run_name="merge chips of {chip_size} px")
def merge(chip_size: Annotated[int, Field(title="Chip size (px)", ge=16, le=4096)] = 256) -> str:
    """Merge what is indexed into a snapshot, and bind the small files of many ingests into few.

    Args:
        chip_size: Edge of a chip in pixels of the scene's finest grid.

    Returns:
        Name of the snapshot.
    """
    check_places("archive", "ledger")
    merge_index(chip_size)
    snapshot = compact_index(chip_size)
    report_snapshot(snapshot)
    return snapshot
