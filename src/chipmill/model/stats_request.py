"""What people ask of the statistics of a data set: the form of the Prefect UI."""

from pydantic import BaseModel, ConfigDict, Field

from chipmill.model.chip_filter import ChipFilter


class StatsRequest(BaseModel):
    """Which chips of a snapshot are measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str = Field(
        default="latest", title="Snapshot", description="Name of a snapshot, or 'latest'."
    )
    chip_size: int = Field(
        default=256,
        ge=16,
        le=4096,
        title="Chip size (px)",
        description="That of the ingest; it chooses the snapshot where 'latest' is asked for.",
    )
    max_cloud: float = Field(
        default=0.30,
        ge=0,
        le=1,
        title="Most cloud",
        description="Largest share of cloudy pixels in a chip.",
    )
    max_nodata: float = Field(
        default=0.0,
        ge=0,
        le=1,
        title="Most nodata",
        description="Largest share of pixels without data in a chip; 0: none at all.",
    )
    collections: tuple[str, ...] = Field(
        default=(), title="Collections", description="Only these; empty: all of the snapshot."
    )
    filter: ChipFilter = Field(
        default=ChipFilter(),
        title="Filter",
        description="More conditions on chips, in CQL2, such as gsd <= 10 AND datetime >= "
        "DATE('2023-01-01').",
    )
    write_back: bool = Field(
        default=False,
        title="Write into the items",
        description="Put mean and deviation into normalization_average and "
        "normalization_standard_deviation of every item of the snapshot.",
    )
