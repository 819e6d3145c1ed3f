"""Recorded items as providers gave them, and small files to lay under them."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Layer = tuple[NDArray[np.generic], float, float | None]
Recorded = Callable[[str], dict[str, Any]]
Draw = Callable[..., Path]
DrawRecorded = Callable[[Path, str, Mapping[str, Layer]], Path]


@pytest.fixture(scope="session")
def recorded() -> Recorded:
    """Give a function that reads a recorded item by its name."""
    folder = Path(__file__).parents[1] / "data" / "items"
    return lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def draw_recorded(recorded: Recorded, draw: Draw) -> DrawRecorded:
    """Give a function that draws a scene under a recorded item; gives the item's path.

    Arguments: the folder, the name of the item, and by asset key pixels of shape (y, x), the pixel
    size and the nodata value of the header. CRS and upper left corner are those of the item.
    """

    def drawn(folder: Path, name: str, layers: Mapping[str, Layer]) -> Path:
        item = recorded(name)
        said = item["properties"]
        path = draw(
            folder,
            layers,
            item=item["id"],
            crs=f"EPSG:{said['proj:epsg']}" if said["proj:epsg"] else said["proj:wkt2"],
            corner=(said["proj:transform"][2], said["proj:transform"][5]),
        )
        drawn_item = json.loads(path.read_text())
        item |= {name: drawn_item[name] for name in ("bbox", "geometry")}  # where the files are
        for key in layers:
            _point(item["assets"][key], folder / f"{item['id']}-{key}.tif")
        path.write_text(json.dumps(item))
        return path

    return drawn


def _point(asset: dict[str, Any], file: Path) -> None:
    """Make an asset name a file, with its size and checksum where the item has such."""
    asset["href"] = file.name
    if "file:size" in asset:
        asset["file:size"] = file.stat().st_size
    if "file:checksum" in asset:  # the Planetary Computer writes a bare MD5
        asset["file:checksum"] = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
