"""Thousands of tiles of one request: side by side, at a common pace, and none twice."""

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import pytest
import shapely

from chipmill.errors import TransientError
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.search import search_scenes

Recorded = Callable[[str], Any]
TILES, ALL_TILES = 150, 2728
"""In the gate, and with `--full`: as many as the sample tiles of Clay v1."""
RATE = 500.0
SCENE = "stac/earth-search-v1/sentinel-2-l2a-31UDQ-item.json"


class Asked(Protocol):
    """A request as it came."""

    body: dict[str, Any]


class Api(Protocol):
    """The server of `serve`."""

    url: str
    asked: list[Asked]


Serve = Callable[[Callable[[Asked], Any]], Api]


def tile_file(folder: Any, count: int) -> dict[str, str]:  # noqa: ANN401
    """Write squares of a degree, one a row, as a request names them."""
    features = [
        {
            "type": "Feature",
            "properties": {"name": f"t{n}"},
            "geometry": json.loads(
                shapely.to_geojson(shapely.box(n % 180, n // 180, n % 180 + 1, n // 180 + 1))
            ),
        }
        for n in range(count)
    ]
    path = folder / "tiles.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return {"file": str(path), "column": "name"}


def test_thousands_of_tiles_keep_the_pace(
    tmp_path: Any,  # noqa: ANN401
    archive: Store,
    serve: Serve,
    answer: Any,  # noqa: ANN401
    recorded: Recorded,
    full: bool,  # noqa: FBT001  # pytest gives it by name
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One request each, and never faster than allowed."""
    count = ALL_TILES if full else TILES
    caplog.set_level(logging.INFO, "chipmill")
    template = recorded(SCENE)
    at_once, most, lock = 0, 0, threading.Lock()

    def reply(asked: Asked) -> object:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        area = shapely.from_geojson(json.dumps(asked.body["intersects"]))
        west, south, *_ = area.bounds
        number = int(south) * 180 + int(west)
        item = {**template, "id": f"scene-{number}"}
        item["geometry"] = json.loads(shapely.to_geojson(area.buffer(-0.1)))
        item["properties"] = {**template["properties"], "grid:code": f"TEST-{number}"}
        item["properties"]["s2:datatake_id"] = f"take-{number}"
        with lock:
            at_once -= 1
        return answer({"type": "FeatureCollection", "features": [item]})

    api = serve(reply)
    request = IngestRequest(
        sensor="sentinel-2-l2a",
        catalog=api.url,
        tiles=tile_file(tmp_path, count),  # pyright: ignore[reportArgumentType]
        limit=10_000,
    )
    began = time.monotonic()
    found = search_scenes(request, archive, at_once=8, rate=RATE)
    assert time.monotonic() - began >= (count - 1) / RATE
    assert {scene.item for scene in found} == {f"scene-{n}" for n in range(count)}
    areas = Counter(json.dumps(asked.body["intersects"]) for asked in api.asked)
    assert len(areas) == count
    assert set(areas.values()) == {1}
    assert 1 < most <= 8
    assert f"{count // 100 * 100} of {count} tiles are searched" in caplog.text
    assert search_scenes(request, archive) == found
    assert len(api.asked) == count


def test_a_catalogue_that_is_down_is_left_soon(
    tmp_path: Any,  # noqa: ANN401
    archive: Store,
    serve: Serve,
    answer: Any,  # noqa: ANN401
) -> None:
    """Six tries for each of thousands of tiles would take a day; the task's own retries come."""
    api = serve(lambda _: answer(status=503, headers={"retry-after": "3600"}))
    request = IngestRequest(
        sensor="sentinel-2-l2a",
        catalog=api.url,
        tiles=tile_file(tmp_path, 2000),  # pyright: ignore[reportArgumentType]
    )
    with pytest.raises(TransientError, match=r"answered 503 \(it asks for 3600 s\)"):
        search_scenes(request, archive, rate=1000)
    assert len(api.asked) < 1000
    assert list(archive.keys("")) == []
