"""Which scenes people ask for: the form of the Prefect UI, the YAML of the command line."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chipmill.model.radiometry import OffsetChoice
from chipmill.model.scene import BBox

_OPEN = ("", "..")
"""Ends of a period that are left open."""

Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]


class IngestRequest(BaseModel):
    """Which scenes to bring into the archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensor: str = Field(
        title="Sensor", description="Name of the sensor, such as sentinel-2-l2a or naip."
    )
    catalog: str = Field(
        title="Catalogue",
        description="URL or path of a STAC API, a static catalogue, an ItemCollection (JSON), a "
        "stac-geoparquet file, or a folder of GeoTIFFs.",
    )
    bbox: tuple[Longitude, Latitude, Longitude, Latitude] | None = Field(
        default=None,
        title="Area",
        description="West, south, east, north in degrees; west > east crosses the antimeridian.",
    )
    period: str | None = Field(
        default=None,
        title="Period",
        description="start/end as dates or RFC 3339 times, as 2023-08-01/2023-08-31; '..' leaves "
        "an end open.",
    )
    ids: tuple[str, ...] = Field(
        default=(), title="Item ids", description="Only these items; empty: all that match."
    )
    max_cloud: float | None = Field(
        default=None,
        ge=0,
        le=100,
        title="Most cloud (%)",
        description="Leaves out scenes whose catalogue states more cloud, in percent.",
    )
    limit: int = Field(default=1000, ge=1, title="Most scenes")
    bands: tuple[str, ...] = Field(
        default=(), title="Bands", description="chipmill's band names; empty: all of the sensor."
    )
    cloud_classes: tuple[str, ...] = Field(
        default=(),
        title="Cloud classes",
        description="Flags of the quality band that count as cloud, such as cloud_shadow; empty: "
        "those of the sensor. `chipmill sensors` lists them.",
    )
    chip_size: int = Field(
        default=256,
        ge=16,
        le=4096,
        title="Chip size (px)",
        description="Edge of a chip in pixels of the scene's finest grid.",
    )
    offset: OffsetChoice = Field(
        default="from evidence",
        title="Offset in the pixels",
        description="Whether the offset of Sentinel-2 is subtracted already. Scenes where pixels, "
        "baseline and flags do not tell are quarantined, unless you decide for all of them.",
    )
    shard_size: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        title="Scenes per task run",
        description="1 shows each scene as a task run of its own. Empty: 1 for up to 50 scenes, "
        "else as many as make some hundred task runs a step.",
    )

    @field_validator("bbox")
    @classmethod
    def _is_box(cls, value: BBox | None) -> BBox | None:
        if value and value[1] > value[3]:
            raise ValueError(
                f"the south {value[1]} lies north of the north {value[3]}; give west, south, east, "
                "north"
            )
        return value

    @field_validator("period")
    @classmethod
    def _is_period(cls, value: str | None) -> str | None:
        try:
            ends = [datetime.fromisoformat(end) for end in _ends(value) if end not in _OPEN]
        except ValueError:
            raise ValueError(
                f"{value!r} is not a period; write start/end as 2023-08-01/2023-08-31"
            ) from None
        if len(ends) > 1 and ends[0].replace(tzinfo=None) > ends[1].replace(tzinfo=None):
            raise ValueError(f"the period {value!r} ends before it starts; swap the two")
        return value


def _ends(period: str | None) -> list[str]:
    """Give the start and the end of a period; a single time is both."""
    ends = (period or "..").split("/")
    return ends if len(ends) <= len(("start", "end")) else ["no period"]
