# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""The chip index against plain counting, chip by chip and pixel by pixel."""

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import parquet

from chipmill.errors import SceneError
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.index import index_item

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
Pixels = NDArray[np.generic]
Counts = dict[tuple[int, int], tuple[float, float]]
"""By row and column of a chip: its cloud fraction and its nodata fraction."""

S2 = "sentinel-2-l2a"
# What each demo scene has: its folder, its data files, its quality file, its sensor.
DEMO = {
    "S2A_29RKH_20200219_0_L2A": (S2, ("B04.tif", "B05.tif", "B8A.tif", "B11.tif"), "SCL.tif"),
    "S2A_33TWM_20230815_0_L2A": (S2, ("B02.tif", "B03.tif", "B04.tif"), "SCL.tif"),
    "S2A_33TWM_20230818_0_L2A": (S2, ("B02.tif", "B03.tif", "B04.tif"), "SCL.tif"),
    "LC08_L2SP_005009_20150710_20200908_02_T2": (
        "landsat-c2l2-sr",
        tuple(f"LC08_L2SP_005009_20150710_20200908_02_T2_SR_B{band}.TIF" for band in (2, 3, 4, 5)),
        "LC08_L2SP_005009_20150710_20200908_02_T2_QA_PIXEL.TIF",
    ),
    "m_3607824_se_17_1_20160620_subset": ("naip", (".",), None),
    "m_4709963_se_14_1_20180716": ("naip", (".",), None),
}


def scl_cloud(pixel: int) -> bool:
    """Tell cloud by Sen2Cor's classes: defective, shadow, medium and high probability, cirrus."""
    return pixel in {1, 3, 8, 9, 10}


def qa_cloud(pixel: int) -> bool:
    """Tell cloud by the bits of QA_PIXEL: dilated, cirrus, cloud, shadow; fill is no cloud."""
    return pixel & 0b11110 != 0 and pixel & 0b1 == 0


def qa_fill(pixel: int) -> bool:
    """Tell fill by the lowest bit of QA_PIXEL."""
    return pixel & 0b1 == 1


@dataclass(frozen=True)
class File:
    """One file of a scene: pixels of shape (bands, y, x), pixel size and nodata value."""

    pixels: Pixels
    size: float
    nodata: float | None


def file_of(path: Path) -> File:
    """Read a whole file."""
    with rasterio.open(path) as data:
        nodata = 0.0 if data.nodata is None else data.nodata
        return File(data.read(), data.transform.a, nodata)


def touched(start: int, size: int, ratio: float, limit: int) -> range:
    """Give the pixels of a file that lie at least in part under a chip, along one axis."""
    first = start * size / ratio
    last = (start + 1) * size / ratio
    return range(math.floor(first + 1e-6), min(limit, math.ceil(last - 1e-6)))


def is_empty(value: Pixels, nodata: float | None) -> bool:
    """Tell whether all bands of one pixel are nodata."""
    if nodata is None:
        return False
    if math.isnan(nodata):
        return all(math.isnan(float(band)) for band in value)
    return all(float(band) == nodata for band in value)


def share(
    file: File, chip: tuple[int, int], edge: int, fine: float, test: Callable[[Pixels], bool]
) -> float:
    """Count the pixels of a chip that pass a test, one after the other."""
    ratio = file.size / fine
    ys = touched(chip[0], edge, ratio, file.pixels.shape[1])
    xs = touched(chip[1], edge, ratio, file.pixels.shape[2])
    return sum(test(file.pixels[:, y, x]) for y in ys for x in xs) / (len(ys) * len(xs))


def counted(
    data: list[File],
    quality: File | None,
    edge: int,
    *,
    cloud: Callable[[int], bool],
    fill: Callable[[int], bool],
) -> Counts:
    """Count every chip of a scene: cloud of the quality file, nodata of the worst file."""
    finest = min(data, key=lambda file: file.size)
    _, height, width = finest.pixels.shape
    counts: Counts = {}
    for row in range(height // edge):
        for col in range(width // edge):
            chip, cloudy = (row, col), 0.0
            empty = [
                share(file, chip, edge, finest.size, lambda v, f=file: is_empty(v, f.nodata))
                for file in data
            ]
            if quality:
                cloudy = share(quality, chip, edge, finest.size, lambda v: cloud(int(v[0])))
                empty.append(share(quality, chip, edge, finest.size, lambda v: fill(int(v[0]))))
            counts[chip] = (cloudy, max(empty))
    return counts


def indexed(archive: Store, edge: int, scene: SceneRef) -> Counts:
    """Read the counts of a scene from its part of the index."""
    data = archive.get(layout.part_key(edge, scene.collection, scene.item))
    rows = parquet.read_table(BytesIO(data)).to_pylist()
    return {
        (row["row"], row["col"]): (row["cloud_fraction"], row["nodata_fraction"]) for row in rows
    }


def assert_same(found: Counts, wanted: Counts) -> None:
    """Compare counts; fractions are kept as float32."""
    assert found.keys() == wanted.keys()
    for chip, fractions in wanted.items():
        assert found[chip] == tuple(float(np.float32(value)) for value in fractions), chip


@pytest.mark.xdist_group("ingested")
@pytest.mark.parametrize("item", DEMO)
def test_a_demo_scene_is_counted_as_by_hand(item: str, scenes: Path, ingested: Store) -> None:
    """The index is what users filter by: each count must be the true one, not an estimate."""
    collection, names, quality = DEMO[item]
    folder = scenes / collection
    inside = folder / item.replace("_20200908_02", "")
    paths = [folder / f"{item}.tif" if name == "." else inside / name for name in names]
    landsat = collection.startswith("landsat")
    wanted = counted(
        [file_of(path) for path in paths],
        file_of(inside / quality) if quality else None,
        64,
        cloud=qa_cloud if landsat else scl_cloud,
        fill=qa_fill if landsat else lambda pixel: pixel == 0,
    )
    assert_same(indexed(ingested, 64, SceneRef(collection=collection, item=item)), wanted)


@dataclass(frozen=True)
class Drawing:
    """A generated scene: files by asset key, chip edge, tile edge."""

    layers: Mapping[str, tuple[Pixels, float, float | None]]
    edge: int
    block: int | None


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    """Draw a scene of two data files and a quality file, each on a grid of its own.

    Ratios are of the fine pixel to the coarse one; 2:3 and 3:4 do not fall on whole pixels.
    """
    edge = draw(st.sampled_from([16, 18, 24]))
    rows, cols = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    over = draw(st.tuples(st.integers(0, edge - 1), st.integers(0, edge - 1)))
    height, width = rows * edge + over[0], cols * edge + over[1]
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    form = draw(st.sampled_from(["header", "sensor", "nan"]))
    kind = np.float32 if form == "nan" else np.uint16
    nodata = {"header": 7.0, "sensor": None, "nan": math.nan}[form]

    def layer(factor: float, dtype: type[np.generic], *, most: int) -> Pixels:
        shape = math.ceil(height / factor), math.ceil(width / factor)
        return seed.integers(0, most, shape).astype(dtype)

    def holed(pixels: Pixels) -> Pixels:
        holes = seed.random(pixels.shape) < draw(st.sampled_from([0.0, 0.05, 1.0]))
        return np.where(holes, np.asarray(0 if nodata is None else nodata, kind), pixels)

    coarse, judged = draw(st.tuples(*[st.sampled_from([1, 2, 3, 6, 3 / 2, 4 / 3])] * 2))
    layers = {
        "red": (holed(layer(1, kind, most=9)), 12.0, nodata),
        "nir08": (holed(layer(coarse, kind, most=9)), 12.0 * coarse, nodata),
        "scl": (layer(judged, np.uint8, most=12), 12.0 * judged, None),
    }
    return Drawing(layers, edge, draw(st.sampled_from([None, 16, 32])))


@settings(max_examples=60)
@given(drawing=drawings())
def test_any_scene_is_counted_as_by_hand(drawing: Drawing, draw: Draw, ingest: Ingest) -> None:
    """Other sizes, ratios, tilings and forms of nodata than those of the demo scenes."""
    with tempfile.TemporaryDirectory() as folder:
        path = draw(Path(folder), drawing.layers, block=drawing.block)
        archive = Store.open(Path(folder, "archive").as_uri())
        request = IngestRequest(
            sensor=S2, catalog=str(path), bands=("red", "nir08"), chip_size=drawing.edge
        )
        (scene,) = ingest(request, archive)
        found = indexed(archive, drawing.edge, scene)
    files = {
        key: File(pixels[None], size, 0.0 if nodata is None else nodata)
        for key, (pixels, size, nodata) in drawing.layers.items()
    }
    quality = files.pop("scl")
    wanted = counted(
        list(files.values()), quality, drawing.edge, cloud=scl_cloud, fill=lambda pixel: pixel == 0
    )
    assert_same(found, wanted)


CHIPS = (16, 17, 100, 129, 255, 256, 333, 512, 1000, 1024, 2047, 2048, 4096)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, draw: Draw) -> tuple[str, dict[str, File]]:
    """Draw a scene that holds 4,096 px; a band is twice and the classes 1.5 times as coarse."""
    chance, edge = np.random.default_rng(5), 4_200

    def patches(most: int, size: int, dtype: type[np.generic]) -> Pixels:
        cells = chance.integers(0, most, (-(-size // 9),) * 2)
        found = cells.repeat(9, axis=0).repeat(9, axis=1)[:size, :size].astype(dtype)
        found[chance.integers(0, size, 999), chance.integers(0, size, 999)] = 0
        return found

    layers = {
        "red": (patches(5, edge, np.uint16), 12.0, 0.0),
        "nir08": (patches(5, edge // 2, np.uint16), 24.0, 0.0),
        "scl": (patches(12, edge * 2 // 3, np.uint8), 18.0, None),
    }
    path = draw(tmp_path_factory.mktemp("large"), layers, block=512)
    return str(path), {key: File(*layer) for key, layer in layers.items()}


@pytest.mark.parametrize("size", CHIPS)
def test_chips_of_any_size_are_counted(size: int, large: tuple[str, dict[str, File]]) -> None:
    """From 16 to 4,096 px, with edges on pixels of the coarser files and between them."""
    path, files = large
    found = index_item(path, bands=("red", "nir08"), chip_size=size)
    count = 4_200 // size

    def shares(file: File, test: Callable[[Pixels], Pixels]) -> NDArray[np.float32]:
        """Add the pixels of each chip up, from sums over all that lie above and left of them."""
        hits = np.pad(test(file.pixels).astype(np.int64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        limit = file.pixels.shape[0]
        spans = [touched(n, size, file.size / 12, limit) for n in range(count)]
        first, last = np.array([(span.start, span.stop) for span in spans]).T
        rows = hits[last] - hits[first]
        long = last - first
        return ((rows[:, last] - rows[:, first]) / (long[:, None] * long)).astype(np.float32)

    empty = [shares(file, lambda values: values == 0) for file in files.values()]
    cloud = shares(files["scl"], lambda values: np.isin(values, [1, 3, 8, 9, 10]))
    assert np.array_equal(found.shares.cloud, cloud)
    assert np.array_equal(found.shares.nodata, np.max(empty, axis=0))


def test_a_chip_larger_than_the_scene_is_refused(large: tuple[str, dict[str, File]]) -> None:
    """By one sentence that tells both sizes."""
    with pytest.raises(SceneError, match="no chip of 4201 px fits in a scene of 4200 x 4200 px"):
        index_item(large[0], bands=("red", "nir08"), chip_size=4_201)


def test_the_part_says_what_it_was_made_of(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """A part is made anew when the files or the chip size change, and only then."""
    ones = np.ones((40, 40), np.uint16)
    layers = {"red": (ones, 10.0, None), "scl": (ones.astype(np.uint8) * 4, 10.0, None)}
    archive = Store.open((tmp_path / "archive").as_uri())
    request = IngestRequest(
        sensor=S2, catalog=str(draw(tmp_path, layers)), bands=("red",), chip_size=16
    )
    key = layout.part_key(16, S2, "drawn")
    ingest(request, archive)
    first = (tmp_path / "archive" / key).stat().st_mtime_ns
    ingest(request, archive)
    assert (tmp_path / "archive" / key).stat().st_mtime_ns == first
    ingest(request.model_copy(update={"chip_size": 20}), archive)
    assert len(list(archive.keys("index/parts"))) == 2
    assert json.loads(archive.get(layout.item_key(S2, "drawn")))["id"] == "drawn"
