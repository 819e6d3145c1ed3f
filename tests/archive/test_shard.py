"""A shard: scenes that one task run works through."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipmill.errors import SceneError, TransientError
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef
from chipmill.steps.shard import EACH_SEEN, Shard, each_scene, into_shards


def scenes(count: int) -> list[SceneRef]:
    """Name some scenes."""
    return [SceneRef(collection="naip", item=f"item-{n}") for n in range(count)]


@given(count=st.integers(1, 2000), size=st.none() | st.integers(1, 300))
def test_every_scene_is_in_one_shard(count: int, size: int | None) -> None:
    """None is lost between two shards, and none is worked at twice."""
    shards = into_shards(scenes(count), size=size)
    assert [scene for shard in shards for scene in shard.scenes] == scenes(count)
    assert len({shard.name for shard in shards}) == len(shards)


@pytest.mark.parametrize("count", [EACH_SEEN + 1, 1000, 30_000, 2_000_000])
def test_large_runs_are_some_hundred_shards(count: int) -> None:
    """Prefect's server records some hundred task runs in seconds, and loses some of thousands."""
    assert len(into_shards(scenes(count))) <= 300


def test_few_scenes_are_seen_one_by_one() -> None:
    """Who tries chipmill on a dozen scenes finds each of them in the list of task runs."""
    assert [str(shard) for shard in into_shards(scenes(3))] == [str(s) for s in scenes(3)]


def test_a_scene_that_fails_fails_alone(archive: Store) -> None:
    """One bad file, or an error that nobody foresaw, must not stop the scenes around it."""

    def work(scene: SceneRef) -> Mapping[str, int]:
        match scene.item:
            case "item-1":
                raise SceneError("item-1 is damaged; drop it")
            case "item-3":
                raise ZeroDivisionError
            case _:
                return {"chips": 5}

    shard = Shard(name="all", scenes=tuple(scenes(5)), tally={"chips": 1})
    done = each_scene(shard, work, step="index", archive=archive, waits=())
    assert [scene.item for scene in done.scenes] == ["item-0", "item-2", "item-4"]
    assert done.tally == {"chips": 16}
    assert {f.item: f.kind for f in done.findings} == {"item-1": "quarantined", "item-3": "failed"}
    kept = json.loads(archive.get("findings/naip/item-3.json"))
    assert "ZeroDivisionError" in kept["reason"]


def test_what_may_work_in_a_while_is_tried_again(archive: Store) -> None:
    """A provider that is busy for a minute costs no scene; one that is damaged is asked once."""
    calls: list[str] = []

    def work(scene: SceneRef) -> Mapping[str, int]:
        calls.append(scene.item)
        if scene.item == "item-0":
            raise SceneError("item-0 is damaged")
        if calls.count(scene.item) < int(scene.item[-1]):
            raise TransientError(f"{scene.item}: come back later")
        return {"chips": 1}

    shard = Shard(name="all", scenes=tuple(scenes(5)))
    done = each_scene(shard, work, step="copy", archive=archive, waits=(0, 0))
    assert [scene.item for scene in done.scenes] == ["item-1", "item-2", "item-3"]
    assert calls.count("item-0") == 1
    assert done.tally == {"chips": 3}
    assert {f.item: f.kind for f in done.findings} == {"item-0": "quarantined", "item-4": "failed"}
