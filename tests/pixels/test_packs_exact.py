# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""What a training loop gets, against the files that providers deliver."""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyarrow import parquet

from chipmill.formats import layout
from chipmill.formats.manifest import decode_manifest
from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.manner import DEFAULT, Codec, Manner
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import load_snapshot, merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import stage_ahead
from chipmill.train import Batch, ChipDataset

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
Pixels = NDArray[np.generic]
group = pytest.mark.xdist_group("ingested")

S2 = "sentinel-2-l2a"
CHIP = 64
BANDS = {
    "sentinel-2-l2a": {
        "blue": "B02.tif",
        "green": "B03.tif",
        "red": "B04.tif",
        "rededge1": "B05.tif",
        "nir08": "B8A.tif",
        "swir16": "B11.tif",
    },
    "landsat-c2l2-sr": {
        "blue": "_SR_B2.TIF",
        "green": "_SR_B3.TIF",
        "red": "_SR_B4.TIF",
        "nir08": "_SR_B5.TIF",
    },
}


@dataclass(frozen=True)
class Staged:
    """A plan, all of whose megabatches are on fast storage."""

    archive: Store
    plan: Plan
    fast: Path

    def archive_files(self) -> list[Path]:
        """List the assets of the archive."""
        return [*(self.archive.local_path("assets") or Path()).rglob("*.tif")]

    def batches(self, *, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Iterate over one rank's batches."""
        dataset = ChipDataset(
            self.archive.url,
            plan=self.plan.plan,
            fast=self.fast,
            rank=rank,
            world_size=world,
            as_torch=False,
            wait_seconds=1,
        )
        return (cast("Batch", batch) for batch in dataset)


def stage_all(request: PlanRequest, archive: Store, root: Path, manner: Manner = DEFAULT) -> Staged:
    """Plan and stage everything."""
    plan = make_plan(request, archive)
    with Ledger.open(f"sqlite:///{root / 'ledger.db'}") as ledger:
        staged = stage_ahead(
            plan.plan,
            archive=archive,
            fast=root / "fast",
            ledger=ledger,
            budget=10**9,
            worker="test",
            ahead=99,
            manner=manner,
        )
    assert len(staged) == len(plan.megabatches)
    return Staged(archive, plan, root / "fast")


@pytest.fixture(scope="module")
def staged(ingested: Store, tmp_path_factory: pytest.TempPathFactory) -> Staged:
    """Stage every usable chip of the demo scenes in two megabatches."""
    request = PlanRequest(
        minibatch=4, megabatch=3, chip_size=CHIP, few_scenes=True, leftover="spread", seed=5
    )
    return stage_all(request, ingested, tmp_path_factory.mktemp("staged"))


def place(chip: str) -> tuple[str, str, int, int]:
    """Take a chip's id apart: collection, item, row, column."""
    collection, item, spot = chip.split("/")
    row, col = spot.split("-")
    return collection, item, int(row), int(col)


def usable(archive: Store) -> set[str]:
    """Name the chips with at most 30 % cloud and no nodata at all."""
    snapshot = load_snapshot(archive, "latest", chip_size=CHIP)
    rows = parquet.read_table(BytesIO(archive.get(snapshot.chip_files[0]))).to_pylist()
    good = (row for row in rows if row["cloud_fraction"] <= 0.3 and row["nodata_fraction"] == 0)
    return {row["chip_id"] for row in good}


def source_of(scenes: Path, collection: str, item: str, band: str) -> tuple[Path, int]:
    """Find the file of a band as the provider delivers it, and the band's place in it."""
    if collection == "naip":
        number = ("red", "green", "blue", "nir").index(band) + 1
        return scenes / "naip" / f"{item}.tif", number
    folder = scenes / collection / item.replace("_20200908_02", "")
    name = BANDS[collection][band]
    return folder / (item + name if name.startswith("_") else name), 1


def chip_of(source: Pixels, row: int, col: int, *, fine: int) -> Pixels:
    """Take a chip out of a file's pixels; `fine` is the width of the scene's finest file."""
    ys = [(row * CHIP + i) * source.shape[1] // fine for i in range(CHIP)]
    xs = [(col * CHIP + i) * source.shape[1] // fine for i in range(CHIP)]
    return source[np.ix_(ys, xs)]


@group
def test_every_usable_chip_comes_once(staged: Staged) -> None:
    """A chip that is lost is money lost; a chip that comes twice bends the training."""
    seen = Counter(chip for batch in staged.batches() for chip in batch.chip_ids)
    assert set(seen.values()) == {1}
    assert set(seen) == usable(staged.archive)
    assert len(seen) == staged.plan.usable


@group
def test_every_pixel_is_that_of_the_source(staged: Staged, scenes: Path) -> None:
    """From the provider's file to the model: copied, transcoded, cut and packed without a loss."""
    compared = 0

    @cache
    def read(path: Path, number: int) -> Pixels:
        with rasterio.open(path) as data:
            return data.read(number)

    for batch in staged.batches():
        for chip, pixels in zip(batch.chip_ids, batch.pixels, strict=True):
            collection, item, row, col = place(chip)
            sources = [read(*source_of(scenes, collection, item, band)) for band in batch.bands]
            fine = max(source.shape[1] for source in sources)
            for source, found in zip(sources, pixels, strict=True):
                assert (found == chip_of(source, row, col, fine=fine)).all(), chip
                compared += 1
    assert compared > staged.plan.usable * 3


@group
@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_no_codec_changes_a_pixel(staged: Staged, codec: Codec, tmp_path: Path) -> None:
    """Compression is a matter of room and speed: same batches, bit by bit, in less room."""
    request = PlanRequest(
        minibatch=4, megabatch=3, chip_size=CHIP, few_scenes=True, leftover="spread", seed=5
    )
    packed = stage_all(request, staged.archive, tmp_path, Manner(codec=codec))
    for plain, found in zip(staged.batches(), packed.batches(), strict=True):
        assert (plain.position, plain.chip_ids) == (found.position, found.chip_ids)
        np.testing.assert_array_equal(plain.pixels, found.pixels)
    assert _bytes(packed.fast) < 0.9 * _bytes(staged.fast)
    manifest = next(packed.fast.rglob("manifest.json"))
    assert decode_manifest(manifest.read_bytes(), where="").codec == codec


@group
def test_scenes_as_they_are_give_the_same_batches(staged: Staged, tmp_path: Path) -> None:
    """GeoTIFFs for other tools, or on FSx: the loader cuts the same chips out of them."""
    request = PlanRequest(
        minibatch=4, megabatch=3, chip_size=CHIP, few_scenes=True, leftover="spread", seed=5
    )
    whole = stage_all(request, staged.archive, tmp_path, Manner(form="scenes"))
    for plain, found in zip(staged.batches(), whole.batches(), strict=True):
        assert (plain.position, plain.chip_ids) == (found.position, found.chip_ids)
        np.testing.assert_array_equal(plain.pixels, found.pixels)
    assets = {path.read_bytes() for path in staged.archive_files()}
    copies = [path.read_bytes() for path in whole.fast.rglob("*.tif")]
    assert copies
    assert set(copies) <= assets


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.arrow"))


@group
def test_no_scene_is_twice_in_a_minibatch(staged: Staged) -> None:
    """Chips of one scene are alike; two of them in a step are a step with less to learn from."""
    for batch in staged.batches():
        parents = [place(chip)[:2] for chip in batch.chip_ids]
        assert len(set(parents)) == len(parents) <= 4
        assert {collection for collection, _ in parents} == {batch.collection}


@group
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_one_global_order(staged: Staged, world: int) -> None:
    """A run that grows or shrinks goes on in the same order: it is one experiment, not two."""
    wanted = {batch.position: batch.chip_ids for batch in staged.batches()}
    found: dict[tuple[int, int, int], tuple[str, ...]] = {}
    for rank in range(world):
        for batch in staged.batches(rank=rank, world=world):
            found[batch.position] = found.get(batch.position, ()) + batch.chip_ids
    assert found == wanted


@group
def test_the_same_seed_gives_the_same_minibatches(staged: Staged, tmp_path: Path) -> None:
    """Planned, staged and read anew, the order is the same; with another seed it is not."""
    request = PlanRequest(
        minibatch=4, megabatch=3, chip_size=CHIP, few_scenes=True, leftover="spread", seed=5
    )
    again = stage_all(request, staged.archive, tmp_path)
    order = [batch.chip_ids for batch in staged.batches()]
    assert [batch.chip_ids for batch in again.batches()] == order
    other = stage_all(request.model_copy(update={"seed": 6}), staged.archive, tmp_path)
    assert [batch.chip_ids for batch in other.batches()] != order


@group
def test_a_batch_knows_its_sensor(staged: Staged) -> None:
    """A foundation model reads wavelengths, sizes and times; figures of the S2A band table."""
    batch = next(batch for batch in staged.batches() if "swir16" in batch.bands)
    assert batch.bands == ("red", "rededge1", "nir08", "swir16")
    np.testing.assert_allclose(batch.wavelength[0], [0.6646, 0.7041, 0.8647, 1.6137], rtol=1e-6)
    np.testing.assert_allclose(batch.gsd[0], [100, 200, 200, 200])
    assert batch.time[0] == np.datetime64("2020-02-19T11:34:25.405")
    assert (abs(batch.latlon[0] - [24.8, -11.4]) < 0.6).all()


@settings(max_examples=25)
@given(
    ratio=st.sampled_from([Fraction(n, d) for n, d in ((1, 1), (2, 1), (3, 1), (6, 1), (5, 2))])
    | st.sampled_from([Fraction(n, d) for n, d in ((3, 2), (4, 3), (6, 5), (9, 8))]),
    edge=st.sampled_from([16, 18, 30]),
    rows=st.integers(1, 3),
    over=st.integers(0, 5),
)
def test_a_coarser_band_is_cut_by_the_nearest_pixel(
    ratio: Fraction, edge: int, rows: int, over: int, draw: Draw, ingest: Ingest
) -> None:
    """Each fine pixel has the coarse pixel that lies under its middle, at any ratio."""
    size = edge * rows + over, edge * 2
    fine, coarse = _numbered(size, Fraction(1)), _numbered(size, ratio)
    layers = {
        "red": (fine, 72.0, math.nan),
        "nir08": (coarse, 72.0 * float(ratio), math.nan),
        "scl": (np.full(size, 4, np.uint8), 72.0, None),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        path, bands = draw(root, layers), ("red", "nir08")
        ingest(
            IngestRequest(sensor=S2, catalog=str(path), bands=bands, chip_size=edge),
            archive,
        )
        merge_index(archive, chip_size=edge)
        request = PlanRequest(minibatch=1, megabatch=5, chip_size=edge)
        batches = [*stage_all(request, archive, root).batches()]
    assert len(batches) == 2 * rows
    for batch in batches:
        _, _, row, col = place(batch.chip_ids[0])
        ys, xs = (
            [
                min(math.floor((start * edge + i + Fraction(1, 2)) / ratio), limit - 1)
                for i in range(edge)
            ]
            for start, limit in zip((row, col), coarse.shape, strict=True)
        )
        np.testing.assert_array_equal(batch.pixels[0, 1], coarse[np.ix_(ys, xs)])


@settings(max_examples=10)
@given(edge=st.sampled_from([16, 17, 30]), rows=st.integers(1, 3), seed=st.integers(0, 2**32))
def test_a_panchromatic_band_is_laid_on_the_others(
    edge: int, rows: int, seed: int, draw: Draw, ingest: Ingest
) -> None:
    """Landsat's grids share the middles of their first pixels: counted and cut where they are."""
    lots = np.random.default_rng(seed)
    height, width = (edge * rows) // 2 + 2, edge + 2
    red = _numbered((height, width), Fraction(1))
    layers = {
        "red": (red, 30.0, math.nan),
        "pan": (_numbered((2 * height - 1, 2 * width - 1), Fraction(1)), 15.0, math.nan),
        "qa_pixel": (lots.choice([64, 72], red.shape).astype(np.uint16), 30.0, None),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        said = {"platform": "landsat-8"}
        path = draw(root, layers, collection="landsat-c2l1", properties=said)
        with rasterio.open(root / "drawn-pan.tif", "r+") as file:
            file.transform = Affine(15, 0, 500_007.5, 0, -15, 5_099_992.5)
        request = IngestRequest(
            sensor="landsat-c2l1", catalog=str(path), bands=("red", "pan"), chip_size=edge
        )
        (scene,) = ingest(request, archive)
        merge_index(archive, chip_size=edge)
        chips = parquet.read_table(
            root / "archive" / layout.part_key(edge, scene.collection, scene.item)
        )
        every = PlanRequest(minibatch=1, megabatch=5, chip_size=edge, max_cloud=1)
        batches = [*stage_all(every, archive, root).batches()]
    assert len(batches) == len(chips) == ((2 * height - 1) // edge) * ((2 * width - 1) // edge)
    cloudy = layers["qa_pixel"][0] == 72
    for chip in chips.to_pylist():
        ys, xs = (
            [p for p in range(limit) if 2 * p < (at + 1) * edge + 0.5 and 2 * p + 1.5 > at * edge]
            for at, limit in zip((chip["row"], chip["col"]), red.shape, strict=True)
        )
        assert chip["cloud_fraction"] == np.float32(cloudy[np.ix_(ys, xs)].mean())
    for batch in batches:
        _, _, row, col = place(batch.chip_ids[0])
        ys, xs = (
            (start * edge + np.arange(edge) + 1) // 2  # under the middle, the later on an edge
            for start in (row, col)
        )
        np.testing.assert_array_equal(batch.pixels[0, 0], red[np.ix_(ys, xs)])


def _numbered(size: tuple[int, int], ratio: Fraction) -> Pixels:
    """Number the pixels of a file whose pixels are `ratio` fine ones wide."""
    height, width = (math.ceil(edge / ratio) for edge in size)
    return (np.arange(height * width, dtype=np.float32) + 1).reshape(height, width)


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_an_archive_on_s3_gives_the_same_batches(
    tmp_path: Path, archive: Store, s3_archive: Store, draw: Draw, ingest: Ingest
) -> None:
    """Where the archive lies decides nothing: one plan id, one order, the same pixels."""
    layers = {
        "red": (_numbered((48, 40), Fraction(1)), 60.0, math.nan),
        "nir08": (_numbered((48, 40), Fraction(2)), 120.0, math.nan),
        "scl": (np.full((48, 40), 4, np.uint8), 60.0, None),
    }
    path, found = str(draw(tmp_path, layers)), list[list[Batch]]()
    for store in (archive, s3_archive):
        ingest(IngestRequest(sensor=S2, catalog=path, bands=("red", "nir08"), chip_size=16), store)
        merge_index(store, chip_size=16)
        root = tmp_path / store.url[:2]
        root.mkdir()
        staged = stage_all(PlanRequest(minibatch=1, chip_size=16), store, root)
        found.append([*staged.batches()])
    assert len(found[0]) == 6
    for one, other in zip(*found, strict=True):
        assert (one.plan, one.position, one.chip_ids) == (
            other.plan,
            other.position,
            other.chip_ids,
        )
        np.testing.assert_array_equal(one.pixels, other.pixels)
