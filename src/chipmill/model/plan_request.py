"""What people ask of a plan: the form of the Prefect UI."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from chipmill.model.chip_filter import ChipFilter
from chipmill.model.split import SpatialSplit


class PlanRequest(BaseModel):
    """What a training run will see of a snapshot, in which order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str = Field(
        default="latest", title="Snapshot", description="Name of a snapshot, or 'latest'."
    )
    minibatch: int = Field(
        ge=1,
        title="Chips per minibatch",
        description="Over all ranks; no two of them are of the same scene.",
    )
    megabatch: int | None = Field(
        default=None,
        ge=1,
        title="Scenes per megabatch",
        description="Empty: ten times the chips of a minibatch; at least five times as many.",
    )
    seed: int = Field(
        default=0, title="Seed", description="Another number gives another order of the same chips."
    )
    epoch: int = Field(
        default=0,
        ge=0,
        title="Epoch",
        description="Each pass over the data has a plan of its own, in an order of its own.",
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
        "DATE('2023-01-01') AND S_INTERSECTS(geometry, BBOX(5, 47, 15, 55)).",
    )
    split: SpatialSplit | None = Field(
        default=None,
        title="Split",
        description="Train or validation, apart on earth; empty: all chips.",
    )
    strata: str = Field(
        default="collection",
        title="Strata",
        description="Column of the table of scenes whose values each megabatch has in the same "
        "ratios, such as collection or platform.",
    )
    mix: dict[str, PositiveFloat] = Field(
        default={},
        title="Mix",
        description="Weights of strata by name, in chips; scenes that are too many are left out. "
        "Empty: all scenes, in the snapshot's own mix.",
    )
    leftover: Literal["drop", "spread"] = Field(
        default="drop",
        title="Chips that do not fit",
        description="Chips whose scene would repeat in a minibatch: 'drop' leaves them out and "
        "reports them; 'spread' puts them into further, shorter minibatches.",
    )
    mixed: bool = Field(
        default=False,
        title="Mixed minibatches",
        description="Chips of several sensors in each minibatch, in proportion to the chips, for "
        "models that take them; otherwise a minibatch is of one sensor.",
    )
    few_scenes: bool = Field(
        default=False,
        title="Few scenes",
        description="Allow fewer than five scenes per chip of a minibatch, for small data sets; "
        "minibatches are then less varied.",
    )
