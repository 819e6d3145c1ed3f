"""Which scenes people ask for: the form of the Prefect UI, the YAML of the command line."""

import json
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from chipmill.errors import RequestError
from chipmill.model.mgrs import grid_code, tile_area
from chipmill.model.policy import Policy
from chipmill.model.radiometry import OffsetChoice
from chipmill.model.scene import BBox
from chipmill.model.tile import TileFile

_OPEN = ("", "..")
"""Ends of a period that are left open."""

Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]


def _text(value: object) -> object:
    """Take GeoJSON as YAML or JSON gives it, and keep it as text, which a form can show."""
    return json.dumps(value) if isinstance(value, dict) else value


class IngestRequest(BaseModel):
    """Which scenes to bring into the archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensor: str = Field(
        title="Sensor", description="Name of the sensor, such as sentinel-2-l2a or naip."
    )
    catalog: str = Field(
        title="Catalogue",
        description="URL or path of a STAC API, a static catalogue, an ItemCollection (JSON), "
        "items as JSON lines, a stac-geoparquet file, or a folder of GeoTIFFs.",
    )
    bbox: tuple[Longitude, Latitude, Longitude, Latitude] | None = Field(
        default=None,
        title="Area",
        description="West, south, east, north in degrees; west > east crosses the antimeridian.",
    )
    geometry: Annotated[str | None, BeforeValidator(_text)] = Field(
        default=None,
        title="Area as GeoJSON",
        description="GeoJSON, or the path or URL of a file of it.",
    )
    mgrs: tuple[str, ...] = Field(
        default=(),
        title="MGRS tiles",
        description="Sentinel-2 tiles as 33TWM; each is searched by itself.",
    )
    tiles: TileFile = Field(
        default=TileFile(), title="Tiles of a file", description="Each is searched by itself."
    )
    grid_codes: tuple[str, ...] = Field(
        default=(),
        title="Grid codes",
        description="Only scenes with one of these, as WRS2-189027 or MGRS-33T*; empty: any.",
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
    max_nodata: float | None = Field(
        default=None,
        ge=0,
        le=100,
        title="Most nodata (%)",
        description="Leaves out scenes whose catalogue states more nodata, in percent.",
    )
    policy: Policy = Field(
        default=Policy(), title="Policy", description="Which of the scenes that match are taken."
    )
    limit: int = Field(
        default=1000,
        ge=1,
        title="Most scenes",
        description="Those over it are left out, and the summary says how many. Under `refresh` it "
        "holds for what is new: the oldest first, the rest by the next run.",
    )
    refresh: bool = Field(
        default=False,
        title="Refresh",
        description="Ask the catalogue again for what is new; otherwise a request that was "
        "searched before gives the same scenes.",
    )
    bands: tuple[str, ...] = Field(
        default=(), title="Bands", description="chipmill's band names; empty: all of the sensor."
    )
    chip_size: int = Field(
        default=256,
        ge=16,
        le=4096,
        title="Chip size (px)",
        description="Edge of a chip in pixels of the scene's finest grid.",
    )
    cloud_classes: tuple[str, ...] = Field(
        default=(),
        title="Cloud classes",
        description="Flags of the quality band that count as cloud, such as cloud_shadow; empty: "
        "those of the sensor. `chipmill sensors` lists them.",
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
    statistics: bool = Field(
        default=True,
        title="Statistics",
        description="Measure each band's valid pixels for its item; all of them are decoded once.",
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

    @field_validator("mgrs")
    @classmethod
    def _are_tiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for name in value:
                tile_area(name)
            return tuple(sorted({grid_code(name).removeprefix("MGRS-") for name in value}))
        except RequestError as err:
            raise ValueError(str(err)) from None

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

    @field_validator("max_cloud", "max_nodata")
    @classmethod
    def _is_percent(cls, value: float | None) -> float | None:
        # Clay v1 compared a limit of 0.75 with percent and so kept cloudless scenes only.
        if value is not None and 0 < value < 1:
            raise ValueError(
                f"{value:g} reads like a share, and catalogues state percent; write "
                f"{100 * value:g}, or 1 where a hundredth is meant"
            )
        return value

    @model_validator(mode="after")
    def _is_one_area(self) -> Self:
        given: dict[str, Any] = {
            "bbox": self.bbox,
            "geometry": self.geometry,
            "mgrs": self.mgrs,
            "tiles": self.tiles.file,
        }
        named = [name for name, value in given.items() if value]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} both name the area; leave one of them")
        return self


def _ends(period: str | None) -> list[str]:
    """Give the start and the end of a period; a single time is both."""
    ends = (period or "..").split("/")
    return ends if len(ends) <= len(("start", "end")) else ["no period"]
