# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false
# geopandas and pyproj are typed in part.
"""Chips of the sinusoidal grid of MODIS, which has no EPSG code, against pyproj and by hand."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Transformer

from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index

Layer = tuple[NDArray[np.generic], float, float | None]
Recorded = Callable[[str], dict[str, Any]]
DrawRecorded = Callable[[Path, str, Mapping[str, Layer]], Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]

ITEM = "stactools-modis-09a1-1.0"
SIZE = 16
RADIUS = 6_371_007.181
"""Of the sphere of the grid in metres, as the recorded item has it."""


def sphere(x: float, y: float) -> tuple[float, float]:
    """Invert the sinusoidal projection: longitude and latitude in degrees of metres."""
    latitude = y / RADIUS
    return math.degrees(x / (RADIUS * math.cos(latitude))), math.degrees(latitude)


def test_sinusoidal_chips_lie_where_they_are(
    tmp_path: Path, recorded: Recorded, draw_recorded: DrawRecorded, ingest: Ingest
) -> None:
    """The grid has no EPSG code: a guess of one moves chips by many kilometres.

    One tile of 10 degrees with pixels 50 times as large, so that its chips end at its corners.
    """
    item = recorded(ITEM)
    step, _, left, _, _, top = item["properties"]["proj:transform"]
    pixel = step * 50
    layers: dict[str, Layer] = {
        "sur_refl_b01": (np.ones((48, 48), np.int16), pixel, -28672.0),
        "sur_refl_state_500m": (np.zeros((48, 48), np.uint16), pixel, None),
    }
    path = draw_recorded(tmp_path / "source", ITEM, layers)
    archive = Store.open((tmp_path / "archive").as_uri())
    request = IngestRequest(
        sensor="modis-09a1", catalog=str(path), bands=("sur_refl_b01",), chip_size=SIZE
    )
    (scene,) = ingest(request, archive)
    written = json.loads(archive.get(layout.item_key(scene.collection, scene.item)))
    asset = written["assets"]["sur_refl_b01"]
    assert asset["proj:code"] is None
    assert asset["proj:wkt2"].startswith("PROJCRS")
    assert asset["raster:spatial_resolution"] == pytest.approx(pixel)
    (key,) = merge_index(archive, chip_size=SIZE).chip_files
    chips = geopandas.read_parquet(tmp_path / "archive" / key)
    assert len(chips) == 9
    to_lonlat = Transformer.from_crs(item["properties"]["proj:wkt2"], "OGC:CRS84", always_xy=True)
    for row, col, polygon in zip(chips["row"], chips["col"], chips.geometry, strict=True):
        xs = [left + pixel * SIZE * (col + right) for right in (0, 0, 1, 1)]
        ys = [top - pixel * SIZE * (row + down) for down in (0, 1, 1, 0)]
        corners = np.array(polygon.exterior.coords)[:4]
        assert np.allclose(corners, np.stack(to_lonlat.transform(xs, ys), axis=-1), atol=1e-9)
        by_hand = [sphere(x, y) for x, y in zip(xs, ys, strict=True)]
        assert np.allclose(corners, by_hand, atol=1e-6)
    said = {(lon, lat) for lon, lat in item["geometry"]["coordinates"][0] if lat in (-10.0, -20.0)}
    ends = np.array([corner for each in chips.geometry for corner in each.exterior.coords])
    for corner in said:
        assert np.abs(ends - corner).max(axis=1).min() < 1e-5
