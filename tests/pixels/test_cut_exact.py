# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""What is cut of a file is what rasterio reads of it, however the file is laid out."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window
from xxhash import xxh3_128_hexdigest

from chipmill.errors import DamagedError
from chipmill.formats.multihash import Checksum
from chipmill.formats.pack import band_view
from chipmill.io.proven import PIECE, Known, OnePass, proven
from chipmill.io.raster import is_geotiff
from chipmill.io.store import Store
from chipmill.model.archived import ArchivedBand, ArchivedFile, ArchivedScene
from chipmill.model.grid import ChipGrid, Grid
from chipmill.model.scene import SceneRef
from chipmill.steps.cut import opened_cut, pack_header

EDGE = 32
_PEAK = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_cut_exact import scene_of, opened_cut, pack_header, ChipGrid, Store
from pathlib import Path

scene = scene_of([Path(path) for path in sys.argv[3:]])
chips = ChipGrid(grid=scene.bands[0].file.grid, size=256)
rows, cols = np.indices((chips.rows, chips.cols)).reshape(2, -1).astype(np.uint16)
archive = Store.open(Path(sys.argv[2]).as_uri())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with opened_cut(scene, pack_header(scene, chips), archive=archive, rows=rows, cols=cols) as cut:
    size = sum(records.nbytes for _, records in cut.stripes())
print(size, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def scene_of(paths: list[Path], *, quick: bool = True) -> ArchivedScene:
    """Describe files, the finest first, as the archive's items do."""
    bands = list[ArchivedBand]()
    for path in paths:
        with rasterio.open(path) as data:
            grid = Grid(
                height=data.height,
                width=data.width,
                transform=tuple(data.transform)[:6],
                crs="EPSG:32633",
            )
            count, dtype = data.count, data.dtypes[0]
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        file = ArchivedFile(
            key=path.name,
            grid=grid,
            dtype=dtype,
            nodata=None,
            size=path.stat().st_size,
            checksum=f"1220{digest}",
            quick=f"e4e70210{xxh3_128_hexdigest(path.read_bytes())}" if quick else None,
        )
        bands += [
            ArchivedBand(
                name=f"{path.stem}-{index}",
                common_name=None,
                file=file,
                index=index,
                gsd=grid.pixel[0],
                wavelength=None,
                fwhm=None,
                scale=1,
                offset=0,
                mean=None,
                std=None,
            )
            for index in range(count, 0, -1)
        ]
    return ArchivedScene(
        ref=SceneRef(collection="sentinel-2-l2a", item="drawn"),
        datetime=datetime(2024, 1, 1, tzinfo=UTC),
        bbox=(0, 0, 1, 1),
        platform=None,
        bands=tuple(bands),
        quality=None,
    )


def write(path: Path, size: tuple[int, int, int], px: float, **layout: Any) -> None:  # noqa: ANN401
    """Write a file of noise, of size (bands, height, width)."""
    dtype = np.dtype(layout.pop("dtype", "uint16"))
    noise = np.random.default_rng(size[1]).integers(0, 200, size).astype(dtype)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=size[0],
        height=size[1],
        width=size[2],
        dtype=dtype,
        crs="EPSG:32633",
        transform=(px, 0.0, 500_000.0, 0.0, -px, 5_100_000.0),
        **layout,
    ) as file:
        file.write(noise)


tiled = st.fixed_dictionaries(
    {
        "tiled": st.just(value=True),
        "blockxsize": st.sampled_from([16, 48]),
        "blockysize": st.sampled_from([16, 64]),
    }
)
striped = st.fixed_dictionaries({"blockysize": st.sampled_from([1, 7, 500])})
coded = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "compress": st.sampled_from(["deflate", "lzw", "zstd"]),
            "predictor": st.sampled_from([1, 2]),
        }
    ),
    st.just({"compress": "lerc"}),
    st.just({"compress": "packbits"}),
)
laid_out = st.tuples(
    st.one_of(tiled, striped),
    coded,
    st.fixed_dictionaries(
        {
            "interleave": st.sampled_from(["pixel", "band"]),
            "ENDIANNESS": st.sampled_from(["LITTLE", "BIG"]),
            "dtype": st.sampled_from(["uint8", "uint16", "int16", "float32"]),
        }
    ),
).map(lambda parts: parts[0] | parts[1] | parts[2])


@settings(max_examples=60)
@given(
    fine=laid_out,
    coarse=laid_out,
    bands=st.integers(1, 3),
    size=st.tuples(st.integers(EDGE, 150), st.integers(EDGE, 150)),
    ratio=st.sampled_from([1, 2, 3, 4]),
    data=st.data(),
)
def test_every_layout_is_cut_as_rasterio_reads_it(
    fine: dict[str, Any],
    coarse: dict[str, Any],
    bands: int,
    size: tuple[int, int],
    ratio: int,
    data: st.DataObject,
) -> None:
    """Strips, tiles, planes, byte orders, codecs of ours and of GDAL's: the pixels are the same."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, "fine.tif"), Path(folder, "coarse.tif")]
        write(paths[0], (bands, *size), 10, **fine)
        height, width = (-(-each // ratio) for each in size)
        write(paths[1], (1, height, width), 10 * ratio, **coarse)
        scene = scene_of(paths)
        chips = ChipGrid(grid=scene.bands[0].file.grid, size=EDGE)
        every = [(row, col) for row in range(chips.rows) for col in range(chips.cols)]
        chosen = sorted(data.draw(st.sets(st.sampled_from(every), min_size=1)))
        rows, cols = np.array(chosen, np.uint16).T
        header, archive = pack_header(scene, chips), Store.open(Path(folder).as_uri())
        found = np.empty((len(chosen), header.chip_bytes), np.uint8)
        with opened_cut(scene, header, archive=archive, rows=rows, cols=cols) as cut:
            for part, records in cut.stripes():
                found[part] = records
        for number, packed in enumerate(header.bands):
            band = scene.bands[number]
            with rasterio.open(Path(folder, band.file.key)) as source:
                for (row, col), pixels in zip(chosen, band_view(found, packed), strict=True):
                    np.testing.assert_array_equal(
                        pixels, _expected(source, band.index, row, col, scale=ratio), str(fine)
                    )


def _expected(source: Any, index: int, row: int, col: int, *, scale: int) -> Any:  # noqa: ANN401
    """Read a chip by a window of rasterio, or pixel by pixel where it does not fall evenly."""
    scale = round(source.transform.a / 10)
    if EDGE % scale == 0:
        edge = EDGE // scale
        window = Window(col * edge, row * edge, edge, edge)  # pyright: ignore[reportCallIssue]
        return source.read(index, window=window)
    ys = [(row * EDGE + y) // scale for y in range(EDGE)]
    xs = [(col * EDGE + x) // scale for x in range(EDGE)]
    return source.read(index)[np.ix_(ys, xs)]


ROOT = Path(__file__).parents[2]
REAL = sorted(
    path
    for folder in ("demo/scenes", "tests/data/rasters")
    for path in (ROOT / folder).rglob("*")
    # Some are JPEG 2000 whatever their name says; those are transcoded when they are copied.
    if path.suffix.lower() in (".tif", ".tiff") and is_geotiff(path.read_bytes()[:4])
)


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_real_file_is_cut_as_rasterio_reads_it(path: Path) -> None:
    """What providers have really written, with all of its bands."""
    scene = scene_of([path])
    grid = scene.bands[0].file.grid
    chips = ChipGrid(grid=grid, size=min(64, grid.height, grid.width))
    rows, cols = np.indices((chips.rows, chips.cols)).reshape(2, -1).astype(np.uint16)
    header, archive = pack_header(scene, chips), Store.open(path.parent.as_uri())
    with rasterio.open(path) as source:
        pixels = source.read()
    with opened_cut(scene, header, archive=archive, rows=rows, cols=cols) as cut:
        for part, records in cut.stripes():
            for band, packed in zip(scene.bands, header.bands, strict=True):
                for number, found in zip(
                    range(part.start, part.stop), band_view(records, packed), strict=True
                ):
                    y, x = int(rows[number]) * chips.size, int(cols[number]) * chips.size
                    expected = pixels[band.index - 1, y : y + chips.size, x : x + chips.size]
                    np.testing.assert_array_equal(found, expected)
        assert cut.header.proof == "files"


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Write a file of several pieces."""
    path = tmp_path / "large.tif"
    write(path, (1, 2100, 2100), 10, tiled=True, blockxsize=512, blockysize=512, dtype="uint32")
    assert path.stat().st_size > 3 * PIECE
    return path


def _cut(
    path: Path, chips: Callable[[ChipGrid], list[tuple[int, int]]], *, quick: bool = True
) -> str:
    scene = scene_of([path], quick=quick)
    grid = ChipGrid(grid=scene.bands[0].file.grid, size=256)
    rows, cols = np.array(chips(grid), np.uint16).T
    store = Store.open(path.parent.as_uri())
    header = pack_header(scene, grid)
    path.write_bytes(_flipped(path))
    with opened_cut(scene, header, archive=store, rows=rows, cols=cols) as cut:
        for _ in cut.stripes():
            pass
        return cut.header.proof


def _flipped(path: Path) -> bytes:
    """Flip one bit of the very last pixel: no chip has it."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    return bytes(data)


@pytest.mark.parametrize(("quick", "named"), [(True, "xxh3_128"), (False, "sha256")])
def test_one_wrong_bit_anywhere_in_a_file_is_found(large: Path, *, quick: bool, named: str) -> None:
    """A disk or a network lies in one bit, in a block without a check of its own."""
    with pytest.raises(DamagedError, match=rf"large\.tif has the {named} .* copy the scene again"):
        _cut(
            large,
            lambda grid: [(r, c) for r in range(grid.rows) for c in range(grid.cols)],
            quick=quick,
        )


def test_of_a_file_of_which_little_is_needed_only_blocks_are_read(large: Path) -> None:
    """One clear chip of a cloudy scene does not cost the whole file; the pack says what it is."""
    assert _cut(large, lambda _: [(0, 0)]) == "blocks"


def test_a_file_cut_short_is_found(large: Path) -> None:
    """Every way of reading has a word for it; none gives pixels."""
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    known = Known(size=large.stat().st_size, checksum=Checksum("sha256", digest))
    large.write_bytes(large.read_bytes()[:-1])
    store = Store.open(large.parent.as_uri())
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(DamagedError, match=r"large\.tif gave"):
            OnePass(store, large.name, known=known, pool=pool).prove()
        with pytest.raises(DamagedError), proven(store, large.name, known=known, pool=pool):
            pass


def test_memory_holds_some_rows_of_blocks_not_the_scene(tmp_path: Path) -> None:
    """A scene of 470 MB of pixels in less than 160 MB: what it takes grows with its width alone."""
    paths = [tmp_path / f"{name}.tif" for name in ("a", "b", "c")]
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd"}
    for path in paths:
        write(path, (1, 8960, 8704), 10, dtype="uint16", **tiles)
    command = [sys.executable, "-c", _PEAK, str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run([*command, *map(str, paths)], check=True, capture_output=True, text=True)
    size, peak = map(int, done.stdout.split())
    assert size > 450e6
    assert peak < 160e6
