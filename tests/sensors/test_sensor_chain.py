"""From search to snapshot with each sensor: recorded items over small files of known pixels."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from chipmill.formats import layout
from chipmill.formats.snapshot import Snapshot
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index

Layer = tuple[NDArray[np.generic], float, float | None]
DrawRecorded = Callable[[Path, str, Mapping[str, Layer]], Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]

SIZE = 16
SHAPE = (40, 56)
"""Two by three chips, and a remainder at the right and at the bottom."""


@dataclass(frozen=True)
class Case:
    """A recorded item and the pixels that are drawn under it."""

    item: str
    pixel: float
    bands: Mapping[str, NDArray[np.generic]]
    empty: float
    """Digital number of an empty data pixel."""
    header: float | None
    """Nodata value of the files' headers."""
    quality: tuple[str, NDArray[np.uint16]] | None = None
    cloud: Callable[[int], bool] = bool
    fill: Callable[[int], bool] = bool


def _holed(values: NDArray[np.generic], empty: float, seed: int) -> NDArray[np.generic]:
    """Make a twentieth of the pixels empty."""
    holes = np.random.default_rng(seed).random(values.shape) < 0.05
    return np.where(holes, np.asarray(empty, values.dtype), values)


def _words(seed: int, *more: int) -> NDArray[np.uint16]:
    """Draw quality words of 16 bits, a tenth of them one of those given, half of them clear."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 2**16, SHAPE).astype(np.uint16)
    drawn[rng.random(SHAPE) < 0.5] = 0
    some = rng.random(SHAPE) < 0.1
    drawn[some] = rng.choice(np.array(more, np.uint16), int(some.sum()))
    return drawn


def _said_clear(words: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Set the bit `clear` where there is neither fill nor cloud nor dilated cloud, as USGS does."""
    return np.where(words & 0b1011, words, words | 0b100_0000).astype(np.uint16)


def _case(kind: str) -> Case:
    """Draw the pixels of a sensor: its dtype, its fill, its quality band."""
    rng = np.random.default_rng(7)
    if kind == "landsat-c2l1":
        dn = rng.integers(1, 60_000, (2, *SHAPE)).astype(np.uint16)
        return Case(
            item="usgs-landsat-level-1-1.0",
            pixel=30.0,
            bands={"blue": _holed(dn[0], 0, 1), "nir08": _holed(dn[1], 0, 2)},
            empty=0,
            header=None,
            quality=("qa_pixel", _said_clear(_words(3, 1, 21824, 22280, 23888))),
            cloud=lambda word: word % 2 == 0 and word // 2 % 16 != 0,
            fill=lambda word: word % 2 == 1,
        )
    if kind == "modis-09a1":
        dn = rng.integers(-100, 16_000, (2, *SHAPE)).astype(np.int16)
        return Case(
            item="stactools-modis-09a1-1.0",
            pixel=463.3127165274999,
            bands={
                "sur_refl_b01": _holed(dn[0], -28672, 1),
                "sur_refl_b05": _holed(dn[1], -28672, 2),
            },
            empty=-28672,
            header=None,
            quality=("sur_refl_state_500m", _words(3, 65535, 1, 2, 3, 256, 512)),
            cloud=lambda word: (
                word != 65535
                and (word % 4 in (1, 2) or word & 4 > 0 or word // 256 % 4 >= 2 or word & 1024 > 0)
            ),
            fill=lambda word: word == 65535,
        )
    power = rng.gamma(1, 0.1, (2, *SHAPE)).astype(np.float32)
    return Case(
        item="planetary-computer-sentinel-1-rtc-1.0",
        pixel=10.0,
        bands={"vv": _holed(power[0], -32768, 1), "vh": _holed(power[1], -32768, 2)},
        empty=-32768,
        header=-32768.0,
    )


KINDS = ("landsat-c2l1", "modis-09a1", "sentinel-1-rtc")


@dataclass(frozen=True)
class Milled:
    """A scene that went the whole way."""

    case: Case
    archive: Store
    scene: SceneRef
    snapshot: Snapshot

    @property
    def item(self) -> dict[str, Any]:
        """The archive's item."""
        return json.loads(self.archive.get(layout.item_key(self.scene.collection, self.scene.item)))

    @property
    def chips(self) -> list[dict[str, Any]]:
        """The chips of the snapshot."""
        (key,) = self.snapshot.chip_files
        return parquet.read_table(BytesIO(self.archive.get(key))).to_pylist()


@pytest.fixture(params=KINDS)
def milled(
    request: pytest.FixtureRequest, tmp_path: Path, draw_recorded: DrawRecorded, ingest: Ingest
) -> Milled:
    """Give a scene of each sensor, from search to snapshot."""
    kind: str = request.param
    case = _case(kind)
    layers: dict[str, Layer] = {
        key: (pixels, case.pixel, case.header) for key, pixels in case.bands.items()
    }
    if case.quality:
        layers[case.quality[0]] = (case.quality[1], case.pixel, None)
    path = draw_recorded(tmp_path / "source", case.item, layers)
    archive = Store.open((tmp_path / "archive").as_uri())
    request_ = IngestRequest(
        sensor=kind, catalog=str(path), bands=tuple(case.bands), chip_size=SIZE
    )
    (scene,) = ingest(request_, archive)
    return Milled(case, archive, scene, merge_index(archive, chip_size=SIZE))


def share(
    pixels: NDArray[np.generic], row: int, col: int, test: Callable[[Any], bool]
) -> np.float32:
    """Count the pixels of a chip that pass a test, one after the other."""
    chip = pixels[row * SIZE : (row + 1) * SIZE, col * SIZE : (col + 1) * SIZE]
    return np.float32(sum(test(value) for value in chip.ravel().tolist()) / SIZE**2)


def test_every_chip_is_counted_as_by_hand(milled: Milled) -> None:
    """Users filter by these counts: they must be the true ones for every kind of quality band."""
    case, chips = milled.case, milled.chips
    assert milled.snapshot.chips == len(chips) == 6
    for chip in chips:
        row, col = chip["row"], chip["col"]
        empty = [share(each, row, col, lambda v: v == case.empty) for each in case.bands.values()]
        cloudy = np.float32(0)
        if case.quality:
            empty.append(share(case.quality[1], row, col, case.fill))
            cloudy = share(case.quality[1], row, col, case.cloud)
        assert (chip["cloud_fraction"], chip["nodata_fraction"]) == (cloudy, max(empty))


def test_the_item_is_true_of_the_copied_files(milled: Milled) -> None:
    """A trainer reads type, fill, scale and place from this item alone."""
    case, item = milled.case, milled.item
    assert item["collection"] == milled.scene.collection
    for key, pixels in case.bands.items():
        asset = item["assets"][key]
        assert asset["data_type"] == pixels.dtype.name
        assert asset["nodata"] == case.empty
        assert asset["proj:shape"] == list(SHAPE)
        (band,) = asset["bands"]
        assert band["name"] == key
        radar = milled.scene.collection == "sentinel-1-rtc"
        assert ("eo:center_wavelength" in band) is not radar
        assert item["properties"]["normalization_average"][key] > 0
    records = read_records(milled.scene, milled.archive)
    how = "checksum" if milled.scene.collection == "sentinel-1-rtc" else "size"
    assert {asset.verified for asset in records.values()} == {how}


SCALES = {
    "landsat-c2l1": (2e-05, -0.1),
    "modis-09a1": (0.0001, 0.0),
    "sentinel-1-rtc": (1.0, 0.0),
}


def test_numbers_become_what_the_product_says(milled: Milled) -> None:
    """Reflectance for the optical sensors, linear power for radar."""
    for key in milled.case.bands:
        (band,) = milled.item["assets"][key]["bands"]
        assert (band["raster:scale"], band["raster:offset"]) == SCALES[milled.scene.collection]


def test_a_composite_is_at_the_middle_of_its_period(milled: Milled) -> None:
    """A datetime of null stays null in the item, and the index has the time that it stands for."""
    said = milled.item["properties"]
    (key,) = milled.snapshot.scene_files
    (time,) = parquet.read_table(BytesIO(milled.archive.get(key)))["datetime"].to_pylist()
    if milled.scene.collection != "modis-09a1":
        assert time == datetime.fromisoformat(said["datetime"])
        return
    assert said["datetime"] is None
    assert (said["start_datetime"], said["end_datetime"]) == (
        "2022-02-02T00:00:00Z",
        "2022-02-09T23:59:59Z",
    )
    assert time == datetime(2022, 2, 5, 23, 59, 59, 500_000, UTC)
