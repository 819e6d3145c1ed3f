"""Statistics of a data set: a record for each scene, a document beside the snapshot.

The record of a scene keeps exact sums, so that records merge without rounding; the document says
mean and deviation over all usable chips of a snapshot, by collection and band.
"""

import hashlib
import math
import operator
from fractions import Fraction
from typing import Literal, Self, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from chipmill.errors import StoreError
from chipmill.model.moments import Moments

T = TypeVar("T", bound=BaseModel)

VERSION: Literal[1] = 1
"""Of what is measured and how; another version never reads these records."""


class BandSums(BaseModel):
    """The measured pixels of one band of a scene's usable chips."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    band: str
    scale: float
    offset: float
    """Physical value = digital number x scale + offset, in this scene."""
    count: NonNegativeInt
    total: str
    squares: str
    """Sums of values and of squares, each as a fraction in decimal digits."""
    minimum: float | None
    maximum: float | None
    nodata: NonNegativeInt
    """Pixels of these chips without data."""
    not_positive: NonNegativeInt
    """Pixels with data that have no logarithm."""

    @classmethod
    def of(cls, moments: Moments, **said: object) -> Self:
        """Keep moments with what else is said of the band."""
        return cls.model_validate(
            {
                "count": moments.count,
                "total": str(moments.total),
                "squares": str(moments.squares),
                "minimum": moments.minimum if moments.count else None,
                "maximum": moments.maximum if moments.count else None,
                **said,
            }
        )

    @property
    def moments(self) -> Moments:
        """The moments as they were measured."""
        return Moments(
            count=self.count,
            total=Fraction(self.total),
            squares=Fraction(self.squares),
            minimum=math.inf if self.minimum is None else self.minimum,
            maximum=-math.inf if self.maximum is None else self.maximum,
        )


class SceneSums(BaseModel):
    """What was measured of one scene; its name says of which pixels, so it never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    collection: str
    scene: str
    chips: PositiveInt
    decibels: bool
    """Whether 10 log10 of the physical value was measured, not the digital number."""
    bands: tuple[BandSums, ...]

    def encode(self) -> bytes:
        """Write the record as JSON."""
        return self.model_dump_json(indent=1).encode()


class BandStatistics(BaseModel):
    """One band of one collection over a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    band: str
    decibels: bool
    """Whether the figures are of 10 log10 of the physical value, not of the value itself."""
    scenes: PositiveInt
    chips: PositiveInt
    count: NonNegativeInt
    """Pixels that were measured."""
    nodata: NonNegativeInt
    not_positive: NonNegativeInt
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    """All four of physical values (digital number x scale + offset), or of decibels of them."""


class DataStatistics(BaseModel):
    """Mean and deviation over the usable chips of a snapshot; written once and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    statistics: str
    """Name: the first 16 hex digits of the hash of everything that decides it."""
    snapshot: str
    chip_size: PositiveInt
    max_cloud: float
    max_nodata: float
    collections: tuple[str, ...]
    """Only these were measured; empty: all."""
    filter: str = Field(default="", exclude_if=operator.not_)
    """Further conditions on the chips, in CQL2; written only where there are any."""
    scenes: NonNegativeInt
    chips: NonNegativeInt
    bands: tuple[BandStatistics, ...]
    """Sorted by collection and band."""
    created: AwareDatetime

    def encode(self) -> bytes:
        """Write the document as JSON."""
        return self.model_dump_json(indent=1).encode()

    def of(self, collection: str) -> dict[str, BandStatistics]:
        """Give the bands of a collection by name."""
        return {band.band: band for band in self.bands if band.collection == collection}


class ChosenStatistics(BaseModel):
    """Which statistics all megabatches of a plan carry; written once, by the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    statistics: str | None
    """Name of a document of the plan's snapshot; null: the tables of the sensors."""

    def encode(self) -> bytes:
        """Write the choice as JSON."""
        return self.model_dump_json(indent=1).encode()


def short_hash(said: str) -> str:
    """Name what is said: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def decode_sums(data: bytes, *, where: str) -> SceneSums:
    """Read the record of a scene.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    return _decode(SceneSums, data, where)


def decode_statistics(data: bytes, *, where: str) -> DataStatistics:
    """Read the statistics of a data set.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    return _decode(DataStatistics, data, where)


def decode_choice(data: bytes, *, where: str) -> ChosenStatistics:
    """Read which statistics a plan carries.

    Raises:
        StoreError: The bytes do not say it; `where` names the object.
    """
    return _decode(ChosenStatistics, data, where)


def _decode(kind: type[T], data: bytes, where: str) -> T:
    try:
        return kind.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        raise StoreError(
            f"{where} is not what this version of chipmill writes there: {first['msg']}; delete it "
            "and measure again"
        ) from err
