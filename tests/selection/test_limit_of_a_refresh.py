"""What `limit` means when a catalogue is asked again: a bound on what is new, for ever."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from chipmill.formats.scene_list import SceneList, decode_scene_list
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.search import list_scenes

Answer = Callable[..., object]
Json = dict[str, Any]
PHOTOGRAPH = Path(__file__).parents[2] / "demo/scenes/naip/m_3008501_ne_16_1_20110815.json"
LIMIT = 3
OLD, NEW = "2024-02-01T00:00:00Z", "2999-01-01T00:00:00Z"


class Asked(Protocol):
    """A request as it came."""

    body: Json


class Server(Protocol):
    """The server of `serve`."""

    url: str
    conforms: tuple[str, ...]


Serve = Callable[[Callable[[Asked], object]], Server]


def photograph(day: int, updated: str = OLD) -> Json:
    """Make an item of one day."""
    item = json.loads(PHOTOGRAPH.read_text())
    time = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)
    item["id"] = f"day-{day:02d}"
    item["properties"] |= {"datetime": time.isoformat(), "updated": updated}
    return item


@pytest.fixture(params=["file", "tells changes", "tells none"])
def listed(
    request: pytest.FixtureRequest, tmp_path: Path, serve: Serve, answer: Answer
) -> Iterator[tuple[list[Json], str]]:
    """Give the items of a catalogue of each kind, to be changed in place, and its address."""
    items: list[Json] = []

    def reply(asked: Asked) -> object:
        said = json.dumps(asked.body.get("filter", ""))
        since = said.split('"timestamp": "')[-1].split('"')[0] if "updated" in said else ""
        ids = asked.body.get("ids")
        found = [
            item
            for item in reversed(items)
            if item["properties"]["updated"] >= since and (not ids or item["id"] in ids)
        ]
        return answer({"type": "FeatureCollection", "features": found, "links": []})

    class Told(list[Json]):
        """Items that write themselves into a file."""

        def extend(self, more: Iterable[Json]) -> None:
            super().extend(more)
            (tmp_path / "items.json").write_text(json.dumps(self[::-1]))

    if request.param == "file":
        yield Told(), str(tmp_path / "items.json")
        return
    api = serve(reply)
    api.conforms = ("filter",) if request.param == "tells changes" else ()
    yield items, api.url


def the_list(archive: Store) -> SceneList:
    """Read the document of the only search."""
    (key,) = [key for key in archive.keys("searches/") if key.endswith("search.json")]
    return decode_scene_list(archive.get(key), where=key)


def run(catalog: str, archive: Store, *, refresh: bool = True) -> list[int]:
    """Search, and give the days that are taken."""
    asked = IngestRequest(sensor="naip", catalog=catalog, limit=LIMIT, refresh=refresh)
    return [int(scene.item[-2:]) for scene in list_scenes(asked, archive).scenes]


def test_a_refresh_takes_new_scenes_for_ever(
    listed: tuple[list[Json], str], archive: Store
) -> None:
    """A schedule that runs for a year must not stop at its limit, nor tell nobody that it did."""
    items, catalog = listed
    items.extend(photograph(day) for day in range(LIMIT))
    assert run(catalog, archive) == [0, 1, 2]
    for day in range(3, 6):
        items.extend([photograph(day, NEW)])
        assert run(catalog, archive) == list(range(day + 1))
        told = the_list(archive)
        assert told.changes is not None
        assert told.changes.new == (f"day-{day:02d}",)
        assert (told.left_out, told.cut) == ({}, ())
    assert run(catalog, archive, refresh=False) == list(range(6))


def test_of_many_new_scenes_the_oldest_come_first(
    listed: tuple[list[Json], str], archive: Store
) -> None:
    """A burst is divided among runs, and what each run leaves out is told."""
    items, catalog = listed
    items.extend([photograph(0)])
    run(catalog, archive)
    items.extend(photograph(day, NEW) for day in range(1, 9))
    for last, over in ((3, 5), (6, 2), (8, 0)):
        assert run(catalog, archive) == list(range(last + 1))
        assert the_list(archive).left_out.get("limit", 0) == over


def test_what_the_first_search_left_unread_comes_later(
    listed: tuple[list[Json], str], archive: Store
) -> None:
    """The first search reads no more than the limit; what it left is older than any change."""
    items, catalog = listed
    items.extend(photograph(day) for day in range(8))
    assert run(catalog, archive, refresh=False) == [5, 6, 7]
    assert the_list(archive).cut == ("",)
    assert run(catalog, archive) == [0, 1, 2, 5, 6, 7]
    assert the_list(archive).left_out == {"limit": 2}
    assert the_list(archive).cut == ()
    assert run(catalog, archive) == list(range(8))


def test_a_newer_version_is_not_new(listed: tuple[list[Json], str], archive: Store) -> None:
    """What was taken stays taken when its document changes, however full the run is."""
    items, catalog = listed
    items.extend(photograph(day) for day in range(LIMIT))
    run(catalog, archive)
    items[2]["properties"] |= {"updated": NEW, "gsd": 0.6001}
    items.extend(photograph(day, NEW) for day in range(10, 14))
    assert run(catalog, archive) == [0, 1, 2, 10, 11, 12]
    told = the_list(archive).changes
    assert told is not None
    assert told.reprocessed == {"day-02": "day-02"}
