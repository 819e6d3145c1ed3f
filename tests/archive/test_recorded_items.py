# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Every recorded document on its way into the archive, of whatever sensor and STAC version."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.warp import transform_bounds
from shapely.geometry import mapping

from chipmill.errors import SceneError
from chipmill.formats.archived_item import read_archived
from chipmill.formats.item_reading import read_item
from chipmill.io.store import Store
from chipmill.model.choice import Choice, choose
from chipmill.model.extent import shape_of
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import Asset, Scene, SceneRef
from chipmill.model.sensor import Sensor
from chipmill.sensors import sensors
from chipmill.steps.copy import copy_assets
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

StacErrors = Callable[[Mapping[str, Any]], list[str]]
FOLDER = Path(__file__).parents[1] / "data" / "items"
SIZE = 40
_EXTENSIONS = "https://stac-extensions.github.io/"
DTYPES = {"sentinel-1-rtc": "float32", "modis-09a1": "int16"}


def _sensor(item: Mapping[str, Any]) -> Sensor | None:
    """Find the sensor of a document; STAC 0.7 names no collection."""
    named = item.get("collection") or "landsat-c2l2-sr"
    return next((each for each in sensors().values() if named in each.collections), None)


DOCUMENTS = sorted(
    path.stem for path in FOLDER.glob("*.json") if _sensor(json.loads(path.read_text()))
)


def _draw(asset: Asset, scene: Scene, *, path: Path, bands: int, dtype: str) -> tuple[float, ...]:
    """Write a small file in the middle of the scene, in the CRS that the item states."""
    crs = asset.grid.crs or "EPSG:3857"
    assert scene.bbox is not None
    west, south, east, north = scene.bbox
    to_crs = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    x, y = to_crs.transform((west + east) / 2, (south + north) / 2)
    unit = 1e-4 if abs(x) <= 180 else 10.0
    pixels = np.random.default_rng(1).integers(1, 120, (bands, SIZE, SIZE)).astype(dtype)
    profile: dict[str, Any] = {"count": bands, "height": SIZE, "width": SIZE, "dtype": dtype}
    transform = (unit, 0.0, x, 0.0, -unit, y)
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=transform, **profile) as file:
        file.write(pixels)
    return transform_bounds(crs, "OGC:CRS84", x, y - SIZE * unit, x + SIZE * unit, y)


def _laid_under(name: str, folder: Path) -> tuple[Path, Sensor, Choice]:
    """Lay small files under the assets that chipmill takes of a document; gives its new path."""
    item = json.loads((FOLDER / f"{name}.json").read_text())
    kind, scene = _sensor(item), read_item(item)
    assert kind is not None
    choice = choose(scene, kind, bands=_there(scene, kind))
    box = (0.0, 0.0, 0.0, 0.0)
    for asset in choice.assets:
        used = [source.index for source in choice.bands if source.asset == asset]
        dtype = "uint16" if not used else DTYPES.get(kind.name, "uint8" if not kind.quality else "")
        file = folder / f"{len(list(folder.iterdir()))}.tif"
        box = _draw(asset, scene, path=file, bands=max(used, default=1), dtype=dtype or "uint16")
        raw = item["assets"][asset.key]
        raw["href"] = file.as_uri()
        raw.pop("alternate", None)  # a better place would be taken
        for stated in ("file:size", "file:checksum", "checksum:multihash"):
            raw.pop(stated, None)
    item |= {"bbox": list(box), "geometry": mapping(shape_of((box[0], box[1], box[2], box[3])))}
    item.setdefault("collection", kind.collections[0])
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path, kind, choice


def _there(scene: Scene, kind: Sensor) -> list[str]:
    """Name the sensor's bands that a document has: some were cut to a few assets."""
    found: list[str] = []
    for band in kind.bands:
        with suppress(SceneError):
            choose(scene, kind, bands=(band.name,))
            found += [band.name] if band.default else []
    return found


@pytest.fixture(params=DOCUMENTS)
def rewritten(
    request: pytest.FixtureRequest, tmp_path: Path, archive: Store
) -> tuple[Scene, dict[str, Any], Choice, Store]:
    """Bring each document into an archive: its scene, the item that was written, its choice."""
    source = tmp_path / "source"
    source.mkdir()
    path, kind, choice = _laid_under(request.param, source)
    (scene,) = search_scenes(IngestRequest(sensor=kind.name, catalog=str(path)), archive)
    names = tuple(source.band.name for source in choice.bands)
    copy_assets(scene, archive, bands=names)
    written = json.loads(archive.get(rewrite_item(scene, archive, bands=names)))
    return read_item(json.loads(path.read_text())), written, choice, archive


Rewritten = tuple[Scene, dict[str, Any], Choice, Store]


def _is_foreign(error: str) -> bool:
    """Tell extensions whose schemas are not at hand; the rest of the item is judged."""
    return (
        not error.startswith(_EXTENSIONS) or "/classification/v2" in error or "/product/" in error
    )


def test_what_is_written_is_valid_stac(rewritten: Rewritten, stac_errors: StacErrors) -> None:
    """By the schemas of the core and of every extension, those kept of the provider too."""
    _, written, _, _ = rewritten
    theirs = [
        error
        for error in stac_errors(written)
        # The schemas of these are not at hand; the rest of the item is judged.
        if not (error.endswith("is not among the schemas of the tests") and _is_foreign(error))
    ]
    assert theirs == []


def test_reading_it_back_gives_the_same_scene(rewritten: Rewritten) -> None:
    """Nothing that a model or a search needs is lost or changed on the way."""
    before, written, choice, archive = rewritten
    after = read_item(written)
    assert (after.id, after.datetime, after.platform, after.cloud_cover) == (
        before.id,
        before.datetime,
        before.platform,
        before.cloud_cover,
    )
    assert after.bbox == pytest.approx(before.bbox)
    assert [asset.key for asset in after.assets] == [asset.key for asset in choice.assets]
    archived = read_archived(written, key_of=archive.key_of)
    assert [band.name for band in archived.bands] == [source.band.name for source in choice.bands]
    assert (archived.quality is None) == (choice.quality is None)
    for band in archived.bands:
        asset = next(a for a in after.assets if archive.key_of(a.href) == band.file.key)
        stated = asset.bands[[each.name for each in asset.bands].index(band.name)]
        assert (stated.scale, stated.offset) == (band.scale, band.offset)
        assert (stated.wavelength, stated.fwhm) == (band.wavelength, band.fwhm)
        assert (stated.dtype, stated.nodata) == (band.file.dtype, band.file.nodata)
        grid = band.file.grid
        assert (asset.grid.shape, asset.grid.transform) == (
            (grid.height, grid.width),
            grid.transform,
        )
        assert asset.grid.crs == grid.crs


def test_the_quality_band_keeps_what_its_values_mean(rewritten: Rewritten) -> None:
    """The bits have other names in each catalogue; the index reads them from the archive."""
    before, written, choice, _ = rewritten
    if choice.quality is None:
        return
    asset = before.asset(choice.quality.key)
    assert asset is not None
    kept = written["assets"][choice.quality.key]
    assert {name: kept[name] for name in asset.quality} == asset.quality


def test_rewriting_what_was_rewritten_finds_nothing(rewritten: Rewritten, tmp_path: Path) -> None:
    """An archive is a catalogue too: what it states is true, so nothing of it disagrees."""
    _, written, choice, _ = rewritten
    again = Store.open((tmp_path / "again").as_uri())
    path = tmp_path / "again.json"
    names = tuple(source.band.name for source in choice.bands)
    path.write_text(json.dumps(written | {"collection": None}))  # the sensor's name is ours
    request = IngestRequest(sensor=written["collection"], catalog=str(path), bands=names)
    (scene,) = search_scenes(request, again)
    assert scene == SceneRef(collection=request.sensor, item=written["id"])
    copy_assets(scene, again, bands=names)
    second = json.loads(again.get(rewrite_item(scene, again, bands=names)))
    assert "chipmill:findings" not in second["properties"]
