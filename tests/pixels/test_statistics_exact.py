# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Mean and deviation of a data set, against NumPy on the same chips of the providers' files."""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipmill.formats import layout
from chipmill.formats.statistics import BandStatistics, DataStatistics, SceneSums, decode_sums
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.chip_filter import ChipFilter
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.model.stats_request import StatsRequest
from chipmill.steps.index import index_chips
from chipmill.steps.merge import load_snapshot, merge_index
from chipmill.steps.normalize import write_back
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import stage_ahead
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.stats import merged, scene_sums, snapshot_statistics, usable_chips
from chipmill.train import Batch, ChipDataset

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
group = pytest.mark.xdist_group("ingested")
REAL = StatsRequest(chip_size=64)
S1 = "sentinel-1-rtc"
FILL = -32768.0


def _pixels(archive: Store, chip: SceneRef, band: str) -> tuple[NDArray[Any], float, float]:
    """Read a band's whole file with rasterio alone: pixels, scale, offset."""
    item = json.loads(archive.get(layout.item_key(chip.collection, chip.item)))
    for asset in item["assets"].values():
        for listed in asset.get("bands", ()):
            if listed["name"] == band:
                path = archive.local_path(archive.key_of(asset["href"]))
                with rasterio.open(path) as data:
                    pixels = data.read(listed["chipmill:index"])
                said = {**asset, **listed}  # what all bands share is on the asset
                return pixels, said["raster:scale"], said["raster:offset"]
    raise AssertionError(band)


def _brute(archive: Store, request: StatsRequest, band: BandStatistics) -> NDArray[np.float64]:
    """Gather the physical values of a band over all usable chips, as one array in memory."""
    found: list[NDArray[np.float64]] = []
    for chips in usable_chips(request, archive):
        if chips.scene.collection != band.collection:
            continue
        try:
            pixels, scale, offset = _pixels(archive, chips.scene, band.band)
        except AssertionError:
            continue  # the demo's scenes of one sensor have different bands
        fine = max(
            asset["proj:shape"][1]
            for asset in json.loads(
                archive.get(layout.item_key(chips.scene.collection, chips.scene.item))
            )["assets"].values()
            if "bands" in asset
        )
        edge = request.chip_size * pixels.shape[1] // fine
        for row, col in zip(chips.row.tolist(), chips.col.tolist(), strict=True):
            square = pixels[row * edge : (row + 1) * edge, col * edge : (col + 1) * edge]
            found.append(square.astype(np.float64).reshape(-1) * scale + offset)
    return np.concatenate(found)


@group
def test_real_scenes_have_the_figures_of_numpy(ingested: Store) -> None:
    """Sentinel-2, Landsat and NAIP as providers deliver them, at 1e-9 of NumPy in float64."""
    found = snapshot_statistics(REAL, ingested)
    collections = {band.collection for band in found.bands}
    assert collections == {"sentinel-2-l2a", "landsat-c2l2-sr", "naip"}
    assert found.chips == sum(len(chips.row) for chips in usable_chips(REAL, ingested))
    for band in found.bands:
        values = _brute(ingested, REAL, band)
        assert band.count == len(values)
        assert band.mean == pytest.approx(values.mean(), rel=1e-9)
        assert band.std == pytest.approx(values.std(), rel=1e-9)
        assert band.minimum == pytest.approx(values.min(), rel=1e-12)
        assert band.maximum == pytest.approx(values.max(), rel=1e-12)


@group
def test_limits_choose_what_is_measured(ingested: Store) -> None:
    """Statistics of clear chips and of all chips are two documents, each under its own name."""
    clear = snapshot_statistics(REAL.model_copy(update={"max_cloud": 0.0}), ingested)
    usual = snapshot_statistics(REAL, ingested)
    naip = snapshot_statistics(REAL.model_copy(update={"collections": ("naip",)}), ingested)
    assert clear.chips < usual.chips
    assert len({clear.statistics, usual.statistics, naip.statistics}) == 3
    assert naip.bands == tuple(band for band in usual.bands if band.collection == "naip")


@group
def test_a_filter_chooses_what_is_measured(ingested: Store) -> None:
    """The same words as for a plan; without any, figures keep the names that they had."""
    naip = snapshot_statistics(REAL.model_copy(update={"collections": ("naip",)}), ingested)
    text = "collection = 'naip' AND S_INTERSECTS(geometry, BBOX(-180, -90, 180, 90))"
    said = snapshot_statistics(REAL.model_copy(update={"filter": ChipFilter(text)}), ingested)
    assert said.bands == naip.bands
    assert (said.filter, naip.filter) == (text, "")
    assert b'"filter"' not in naip.encode()
    assert said.statistics != naip.statistics


def test_a_rerun_reads_no_pixel(tmp_path: Path, archive: Store, draw: Draw, ingest: Ingest) -> None:
    """What is measured is known for good: with the files gone, the same figures come again."""
    pixels = np.arange(48 * 32, dtype=np.uint16).reshape(48, 32)
    layers = {"red": (pixels, 10.0, None), "scl": (pixels.astype(np.uint8) * 0 + 4, 10.0, None)}
    request = IngestRequest(
        sensor="sentinel-2-l2a", catalog=str(draw(tmp_path, layers)), bands=("red",), chip_size=16
    )
    ingest(request, archive)
    merge_index(archive, chip_size=16)
    asked = StatsRequest(chip_size=16)
    found = snapshot_statistics(asked, archive)
    assert snapshot_statistics(asked, archive) == found
    for key in list(archive.keys("assets/")):
        archive.delete(key)
    archive.delete(layout.statistics_key(found.snapshot, found.statistics))
    again = snapshot_statistics(asked, archive)
    assert again.bands == found.bands
    assert again.created > found.created


radar = st.lists(
    st.floats(0, 100, width=32, allow_subnormal=False)
    | st.sampled_from([0.0, -0.5, math.nan, FILL]),
    min_size=1,
    max_size=8,
)


@settings(max_examples=12)
@given(vv=radar, vh=radar, edge=st.sampled_from([16, 20]), seed=st.integers(0, 99))
def test_radar_has_the_figures_of_numpy(
    vv: list[float], vh: list[float], edge: int, seed: int, draw: Draw, ingest: Ingest
) -> None:
    """Float pixels with fill, zeros, negative power and NaN: only what is data is measured."""
    rng = np.random.default_rng(seed)
    shape = (2 * edge + 3, 3 * edge + 1)
    bands = {"vv": rng.choice(vv, shape), "vh": rng.choice(vh, shape)}
    layers = {key: (each.astype(np.float32), 10.0, FILL) for key, each in bands.items()}
    with tempfile.TemporaryDirectory() as folder:
        archive = Store.open((Path(folder) / "archive").as_uri())
        path = draw(Path(folder), layers, collection=S1, properties={"platform": "sentinel-1a"})
        ingest(IngestRequest(sensor=S1, catalog=str(path), chip_size=edge), archive)
        merge_index(archive, chip_size=edge)
        asked = StatsRequest(chip_size=edge, max_nodata=1.0)
        found = snapshot_statistics(asked, archive)
        item = json.loads(archive.get(layout.item_key(S1, "drawn")))
    for band in found.bands:
        whole = layers[band.band][0]
        _agrees(band, whole[: 2 * edge, : 3 * edge])
        said = item["assets"][band.band]["bands"][0]["statistics"]
        good = whole[(whole != FILL) & np.isfinite(whole)].astype(np.float64)
        assert said["count"] == len(good)
        assert said["valid_percent"] == pytest.approx(100 * len(good) / whole.size)
        if len(good):
            assert said["mean"] == pytest.approx(good.mean(), rel=1e-9, abs=1e-12)
            assert said["stddev"] == pytest.approx(good.std(), rel=1e-9, abs=1e-7)
            assert (said["minimum"], said["maximum"]) == (good.min(), good.max())


def _agrees(band: BandStatistics, pixels: NDArray[np.float32]) -> None:
    good = pixels[(pixels != FILL) & np.isfinite(pixels)].astype(np.float64)
    assert band.count == len(good)
    assert band.nodata == pixels.size - len(good)
    if len(good) == 0:
        assert band.mean is band.std is band.minimum is band.maximum is None
        return
    assert band.mean == pytest.approx(good.mean(), rel=1e-9, abs=1e-12)
    assert band.std == pytest.approx(good.std(), rel=1e-9, abs=1e-7)
    assert (band.minimum, band.maximum) == (good.min(), good.max())


_OWN = f"""
from chipmill.model.sensor import Band, Sensor

SENSOR = Sensor(
    name="own-radar",
    title="A radar of a team",
    collections=("own",),
    platforms=(),
    bands=(Band(name="vv", keys=("vv",), gsd=10),),
    quality=None,
    nodata={FILL},
    scale=2.0,
    decibels=True,
)
"""
_MEASURE = """
import sys
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.stats_request import StatsRequest
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes
from chipmill.steps.stats import snapshot_statistics

archive = Store.open(sys.argv[1])
request = IngestRequest(sensor="own-radar", catalog=sys.argv[2], chip_size=16)
for scene in search_scenes(request, archive):
    copy_assets(scene, archive)
    rewrite_item(scene, archive)
    index_chips(scene, archive, chip_size=16)
merge_index(archive, chip_size=16)
print(snapshot_statistics(StatsRequest(chip_size=16), archive).model_dump_json())
"""


def test_a_sensor_in_decibels_is_measured_in_decibels(tmp_path: Path, draw: Draw) -> None:
    """Backscatter spans decades: a sensor may say that its mean is of 10 log10 of it."""
    site = tmp_path / "site"
    info = site / "own_radar-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "own_radar.py").write_text(_OWN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own_radar\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chipmill.sensors]\nown = own_radar:SENSOR\n")
    rng = np.random.default_rng(1)
    pixels = rng.lognormal(-3, 1.5, (32, 48)).astype(np.float32)
    pixels[3, 5:9] = [0.0, -1.0, -0.0, -2e-9]
    path = draw(tmp_path / "source", {"vv": (pixels, 10.0, FILL)}, collection="own")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, (tmp_path / "archive").as_uri(), str(path)],
        env={"PYTHONPATH": ":".join([str(site), *sys.path]), "CHIPMILL_LOCAL_SOURCES": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (band,) = DataStatistics.model_validate_json(done.stdout.splitlines()[-1]).bands
    wanted = 10 * np.log10(2.0 * pixels[pixels > 0].astype(np.float64))
    assert band.decibels
    assert (band.count, band.not_positive, band.nodata) == (wanted.size, 4, 0)
    assert band.mean == pytest.approx(wanted.mean(), rel=1e-9)
    assert band.std == pytest.approx(wanted.std(), rel=1e-9)


@group
def test_records_of_scenes_merge_in_any_order(ingested: Store) -> None:
    """A record is exact after its way through JSON, so order and workers leave no trace."""
    records: list[SceneSums] = []
    for chips in usable_chips(REAL, ingested):
        record, _ = scene_sums(chips, ingested, chip_size=64)
        assert decode_sums(record.encode(), where="here") == record
        records.append(record)
    assert len(records) > 3
    assert merged(records) == merged(records[::-1]) == merged(records[2:] + records[:2])


@pytest.fixture
def two_offsets(tmp_path: Path, archive: Store, draw: Draw, ingest: Ingest) -> Store:
    """Give an archive of one land seen twice, once with an offset of 1000 in the pixels."""
    rng = np.random.default_rng(3)
    # Without a flag of the provider: the baseline and the pixels tell.
    for name, shift, baseline in (("plain", 0, "02.14"), ("shifted", 1000, "05.09")):
        red = rng.integers(1, 5000, (32, 48)).astype(np.uint16) + np.uint16(shift)
        layers = {"red": (red, 10.0, 0.0), "scl": (np.full((32, 48), 4, np.uint8), 10.0, None)}
        told = {"s2:processing_baseline": baseline}
        path = draw(tmp_path / "source", layers, item=name, properties=told)
        item = json.loads(path.read_text())
        item["assets"]["red"]["raster:bands"] = [{"scale": 1e-4, "offset": -0.1 if shift else 0}]
        path.write_text(json.dumps(item))
        asked = IngestRequest(
            sensor="sentinel-2-l2a", catalog=str(path), bands=("red",), chip_size=16
        )
        ingest(asked, archive)
    merge_index(archive, chip_size=16)
    return archive


def _batches(archive: Store, root: Path, **changes: object) -> list[Batch]:
    """Plan, stage and read everything."""
    root.mkdir(exist_ok=True)
    request = PlanRequest(minibatch=2, megabatch=2, chip_size=16, few_scenes=True)
    plan = make_plan(request.model_copy(update=changes), archive)
    with Ledger.open(f"sqlite:///{root / 'ledger.db'}") as ledger:
        stage_ahead(
            plan.plan,
            archive=archive,
            fast=root / "fast",
            ledger=ledger,
            budget=10**9,
            worker="test",
            ahead=99,
        )
    dataset = ChipDataset(
        archive.url, plan=plan.plan, fast=root / "fast", as_torch=False, wait_seconds=1
    )
    return [cast("Batch", batch) for batch in dataset]


def _standing(batches: list[Batch]) -> NDArray[np.float64]:
    """Normalise all pixels as a training loop does."""
    return np.concatenate(
        [
            (
                (batch.pixels[:, 0].astype(np.float64) - batch.mean[:, :1, None])
                / batch.std[:, :1, None]
            ).reshape(-1)
            for batch in batches
        ]
    )


def test_a_staged_plan_carries_the_figures_of_its_snapshot(
    two_offsets: Store, tmp_path: Path
) -> None:
    """Normalised by them, all chips have mean 0 and deviation 1, whatever their offset."""
    before = _batches(two_offsets, tmp_path / "before")
    assert {float(batch.mean[0, 0]) for batch in before} == {1552.0}
    found = snapshot_statistics(StatsRequest(chip_size=16), two_offsets)
    after = _batches(two_offsets, tmp_path / "after", epoch=1)
    assert _standing(after).mean() == pytest.approx(0, abs=1e-4)
    assert _standing(after).std() == pytest.approx(1, abs=1e-4)
    assert len({float(mean) for batch in after for mean in batch.mean[:, 0]}) == 2
    (manifest,) = (tmp_path / "after" / "fast").glob("*/*/manifest.json")
    (told,) = json.loads(manifest.read_text())["groups"]
    assert told["normalization"] == {
        "source": "snapshot",
        "snapshot": found.snapshot,
        "statistics": found.statistics,
        "decibels": False,
    }
    (old,) = (tmp_path / "before" / "fast").glob("*/*/manifest.json")
    assert json.loads(old.read_text())["groups"][0]["normalization"]["source"] == "sensor"


def test_figures_do_not_change_within_a_plan(two_offsets: Store, tmp_path: Path) -> None:
    """Statistics that come in the middle of an epoch are for the next one."""
    first = _batches(two_offsets, tmp_path / "one")
    snapshot_statistics(StatsRequest(chip_size=16), two_offsets)
    again = _batches(two_offsets, tmp_path / "two")
    assert [batch.mean.tolist() for batch in again] == [batch.mean.tolist() for batch in first]
    assert [batch.manifest for batch in again] == [batch.manifest for batch in first]


def test_writing_back_changes_two_properties_and_no_part(two_offsets: Store) -> None:
    """The origin text wants the figures in the items; nothing else may move or be counted."""
    keys = [layout.item_key("sentinel-2-l2a", name) for name in ("plain", "shifted")]
    before = [json.loads(two_offsets.get(key)) for key in keys]
    found = snapshot_statistics(StatsRequest(chip_size=16), two_offsets)
    assert write_back(found, two_offsets) == 2
    assert write_back(found, two_offsets) == 0
    after = [json.loads(two_offsets.get(key)) for key in keys]
    figures = [item["properties"]["normalization_average"]["red"] for item in after]
    (band,) = found.bands
    assert band.mean is not None
    assert figures == pytest.approx([band.mean / 1e-4, band.mean / 1e-4 + 1000])
    for old, new in zip(before, after, strict=True):
        for name in ("normalization_average", "normalization_standard_deviation"):
            assert old["properties"].pop(name) != new["properties"].pop(name)
        assert old == new
    snapshot = load_snapshot(two_offsets, "latest", chip_size=16)
    for name in ("plain", "shifted"):
        scene = SceneRef(collection="sentinel-2-l2a", item=name)
        assert not index_chips(scene, two_offsets, chip_size=16).fresh
    assert merge_index(two_offsets, chip_size=16).snapshot == snapshot.snapshot


def test_an_item_says_what_its_file_holds(two_offsets: Store) -> None:
    """Rewriting again reads no pixel of a file that the item knows."""
    key = layout.item_key("sentinel-2-l2a", "plain")
    item = json.loads(two_offsets.get(key))
    said = item["assets"]["red"]["bands"][0]["statistics"]
    with rasterio.open(
        two_offsets.local_path(two_offsets.key_of(item["assets"]["red"]["href"]))
    ) as f:
        pixels = f.read(1).astype(np.float64)
    assert said == {
        "count": pixels.size,
        "valid_percent": 100.0,
        "minimum": pixels.min(),
        "maximum": pixels.max(),
        "mean": pytest.approx(pixels.mean(), rel=1e-12),
        "stddev": pytest.approx(pixels.std(), rel=1e-12),
    }
    item["assets"]["red"]["bands"][0]["statistics"]["mean"] = 7.0
    two_offsets.put(key, json.dumps(item).encode())
    scene = SceneRef(collection="sentinel-2-l2a", item="plain")
    rewrite_item(scene, two_offsets, bands=("red",))
    kept = json.loads(two_offsets.get(key))["assets"]["red"]["bands"][0]["statistics"]
    assert kept["mean"] == 7.0
    rewrite_item(scene, two_offsets, bands=("red",), statistics=False)
    assert "statistics" not in json.loads(two_offsets.get(key))["assets"]["red"]["bands"][0]
