"""Contact sheets: what is on them is what is in the files, for every sensor."""

import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from chipmill.errors import RequestError
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.picture import EMPTY, as_shown, known_values, limits, stretched, three_bands
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensors
from chipmill.steps.merge import load_snapshot, merge_index
from chipmill.steps.preview import Sheet, contact_sheet

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
group = pytest.mark.xdist_group("ingested")
ONE = Sheet(chips=1, scenes=1, edge=32)
"""One chip of 32 px in the upper left, as large as it is: its pixels can be looked at."""


def picture(png: bytes) -> NDArray[np.uint8]:
    """Decode a sheet: shape (y, x, 3)."""
    with Image.open(BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def first_chip(png: bytes) -> NDArray[np.uint8]:
    """Take the first chip out of a sheet of `ONE`."""
    return picture(png)[34:66, 8:40]


def archive_of(
    folder: Path, path: Path, sensor: str, ingest: Ingest, bands: tuple[str, ...] = ()
) -> tuple[Store, Snapshot]:
    """Ingest one scene in chips of 32 px."""
    archive = Store.open((folder / "archive").as_uri())
    ingest(IngestRequest(sensor=sensor, catalog=str(path), bands=bands, chip_size=32), archive)
    return archive, merge_index(archive, chip_size=32)


@group
def test_a_sheet_shows_a_line_for_each_scene(ingested: Store) -> None:
    """All chips are more than usable ones; a seed chooses others, the same again and again."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    usable = picture(contact_sheet(ingested, snapshot, Sheet(edge=32)))
    everything = Sheet(edge=32, max_cloud=None, max_nodata=None)
    assert picture(contact_sheet(ingested, snapshot, everything)).shape[0] >= usable.shape[0]
    assert (usable < 250).any(axis=2).mean() > 0.2
    drawn = [contact_sheet(ingested, snapshot, Sheet(edge=32, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    few = picture(contact_sheet(ingested, snapshot, Sheet(edge=32, scenes=2, seed=3)))
    assert few.shape[0] < usable.shape[0] / 2


@group
def test_wrong_bands_and_limits_are_said(ingested: Store) -> None:
    """One sentence that says what there is to do."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    with pytest.raises(RequestError, match="one band or three, not 2"):
        contact_sheet(ingested, snapshot, Sheet(bands=("red", "blue")))
    with pytest.raises(RequestError, match="has no band purple"):
        contact_sheet(ingested, snapshot, Sheet(bands=("purple",)))
    with pytest.raises(RequestError, match="show all chips"):
        contact_sheet(ingested, snapshot, Sheet(max_cloud=-1.0))


def test_true_colour_is_red_green_blue(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """A red land is red on the sheet, whatever the order of bands; a named band is grey."""
    ramp = np.tile(np.arange(1, 33, dtype=np.uint16) * 100, (32, 1))
    flat = np.full((32, 32), 900, np.uint16)
    flat[:, ::2] += 1
    layers = {
        "blue": (flat, 10.0, 0.0),
        "green": (flat[::-1], 10.0, 0.0),
        "red": (ramp, 10.0, 0.0),
        "scl": (np.full((32, 32), 4, np.uint8), 10.0, None),
    }
    path = draw(tmp_path, layers)
    archive, snapshot = archive_of(
        tmp_path, path, "sentinel-2-l2a", ingest, bands=("blue", "green", "red")
    )
    chip = first_chip(contact_sheet(archive, snapshot, ONE)).astype(int)
    assert (np.diff(chip[:, :, 0], axis=1) >= 0).all()
    assert chip[0, 0, 0] == 0
    assert chip[0, -1, 0] == 255
    grey = Sheet(chips=1, scenes=1, edge=32, bands=("red",))
    chip = first_chip(contact_sheet(archive, snapshot, grey))
    assert (chip[..., 0] == chip[..., 1]).all()
    assert (chip[..., 0] == chip[..., 2]).all()


def test_radar_is_shown_in_decibels_and_empty_pixels_are_grey(
    tmp_path: Path, draw: Draw, ingest: Ingest
) -> None:
    """Ten times the power is one step brighter, not ten; fill is told from a dark sea."""
    power = np.tile(np.logspace(-3, 0, 32, dtype=np.float32), (32, 1))
    power[:4] = -32768
    layers = {"vv": (power, 10.0, -32768.0), "vh": (power[:, ::-1] / 5, 10.0, -32768.0)}
    layers["vh"][0][:4] = -32768
    path = draw(tmp_path, layers, collection="sentinel-1-rtc")
    archive, snapshot = archive_of(tmp_path, path, "sentinel-1-rtc", ingest)
    sheet = Sheet(chips=1, scenes=1, edge=32, max_nodata=None)
    chip = first_chip(contact_sheet(archive, snapshot, sheet)).astype(int)
    assert (chip[:4] == EMPTY).all()
    steps = np.diff(chip[10, 2:-2, 0])
    assert steps.max() - steps.min() <= 1, "equal factors of power are equal steps"
    assert (np.diff(chip[10, :, 1]) <= 0).all()


@pytest.mark.parametrize("name", sorted(sensors()))
def test_every_sensor_has_a_picture(name: str) -> None:
    """Of every registered sensor some bands become a picture with light and dark in it."""
    kind = sensors()[name]
    bands = kind.bands or ()
    names = [band.name for band in bands] or ["1", "2", "3"]
    radar = bool(bands) and not any(band.spectral for band in bands)
    shown = three_bands(names, [band.common_name for band in bands] or [None] * 3, radar=radar)
    assert len(shown) in (1, 2, 3)
    if len(names) >= 3 and any(band.common_name == "red" for band in bands):
        wanted = [
            next(b.name for b in bands if b.common_name == c) for c in ("red", "green", "blue")
        ]
        assert [names[number] for number in shown] == wanted
    rng = np.random.default_rng(7)
    values = rng.lognormal(0, 1, (2, 8, 8, len(shown)))
    values[0, 0, 0] = math.nan
    layers = as_shown(values, radar=radar)
    seen = stretched(layers, limits(layers))
    assert seen.shape == (2, 8, 8, 3)
    assert tuple(seen[0, 0, 0]) == EMPTY
    assert seen.min() == 0
    assert seen.max() == 255


def test_flat_and_empty_scenes_have_a_picture() -> None:
    """Water is all alike, and some chips have nothing at all: neither is an error."""
    flat = np.full((1, 4, 4, 3), 5.0)
    assert stretched(flat, limits(flat)).max() == 0
    nothing = known_values(np.zeros((1, 4, 4), np.uint8), nodata=0.0, scale=1.0, offset=0.0)
    layers = as_shown(nothing[..., None], radar=False)
    assert (stretched(layers, limits(layers)) == EMPTY).all()


def test_a_few_clouds_leave_the_land_visible() -> None:
    """Bright clouds over a twentieth of the chips must not turn the rest black."""
    rng = np.random.default_rng(0)
    land = rng.normal(0.1, 0.02, (4, 20, 20, 3))
    land[0, :4] = 0.9
    seen = stretched(land, limits(land))
    assert 60 < np.median(seen) < 200
