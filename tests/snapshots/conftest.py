"""Parts of scenes that are drawn by chance: a merge does not ask for pixels."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pytest
import shapely

from chipmill.formats import layout
from chipmill.formats.chip_index import ChipColumns, IndexedScene, encode_part
from chipmill.formats.provenance import AssetRecord
from chipmill.io.records import write_record
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef
from chipmill.model.wkb import Wkb

COLLECTION = "sentinel-2-l2a"
SIZE = 16
PutPart = Callable[..., IndexedScene]


def _put_part(
    archive: Store,
    item: str,
    *,
    version: int = 0,
    shape: tuple[int, int] = (2, 3),
    corner: tuple[float, float] = (15.0, 46.0),
    chip_size: int = SIZE,
) -> IndexedScene:
    seed = hashlib.sha256(f"{item} {version}".encode()).digest()
    chance = np.random.default_rng(int.from_bytes(seed[:8]))
    rows, cols = shape
    y, x = np.divmod(np.arange(rows * cols), cols)
    west, north = corner[0] + 0.01 * x, corner[1] - 0.01 * y
    boxes = np.stack([west, north - 0.01, west + 0.01, north], axis=1)
    scene = IndexedScene(
        collection=COLLECTION,
        item=item,
        item_key=layout.item_key(COLLECTION, item),
        datetime=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
        platform=chance.choice(["sentinel-2a", "sentinel-2b"]),
        gsd=10.0,
        bands=("red",),
        chip_size=chip_size,
        rows=rows,
        cols=cols,
        chip_bytes=2 * chip_size**2,
        remainder=0.0,
        assets=f'{{"red": {version}}}',
        checksums=(f"1220{seed.hex()}",),
        inputs=seed.hex(),
    )
    columns = ChipColumns(
        cloud_fraction=chance.random(rows * cols, np.float32),
        nodata_fraction=chance.random(rows * cols, np.float32),
        boxes=boxes,
        polygons=Wkb.of(cast("list[bytes]", [shapely.box(*box).wkb for box in boxes.tolist()])),
    )
    scene, data = encode_part(scene, columns)
    asset = AssetRecord(
        asset="red",
        source=f"https://example.com/{item}.tif",
        key=layout.asset_key(COLLECTION, item, "red"),
        size=version,
        sha256=seed.hex(),
        md5=seed.hex()[:32],
        source_size=version,
        source_sha256=seed.hex(),
        verified="none",
        copied=scene.datetime,
        version="0",
    )
    write_record(SceneRef(collection=COLLECTION, item=item), archive, asset)
    archive.put(layout.part_key(chip_size, COLLECTION, item), data)
    return scene


@pytest.fixture(scope="session")
def put_part() -> PutPart:
    """Give a function that writes the part and the record of a scene into an archive.

    Arguments: the archive, the item's id; by keyword `version` (other counts), `shape` in chips,
    the upper left `corner` in degrees, `chip_size`. Gives what the part says of its scene.
    """
    return _put_part
