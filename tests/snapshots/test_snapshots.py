"""Snapshots by name and by time: what a merge writes, what differs, what may go."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from chipmill.cli import app
from chipmill.errors import RequestError, StoreError
from chipmill.formats import layout
from chipmill.formats.chip_index import IndexedScene
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.steps.collect import collect_garbage
from chipmill.steps.compact import compact_index
from chipmill.steps.diff import diff_snapshots
from chipmill.steps.history import history, load_snapshot
from chipmill.steps.merge import merge_index

PutPart = Callable[..., IndexedScene]
C = "sentinel-2-l2a"
SIZE = 16


def test_a_merge_writes_what_has_changed(archive: Store, put_part: PutPart) -> None:
    """The files of scenes that are as they were stay in place: the cost is that of the change."""
    snapshots: list[Snapshot] = []
    for items in ("ab", "cd", "ef"):
        for item in items:
            put_part(archive, item)
        snapshots.append(merge_index(archive, chip_size=SIZE))
    first, second, third = snapshots
    assert third.files[:1] == second.files[:1] == first.files[:1]
    assert [len(each.chip_files) for each in snapshots] == [1, 2, 3]
    put_part(archive, "c", version=1)
    fourth = merge_index(archive, chip_size=SIZE)
    assert set(third.chip_files) - set(fourth.chip_files) == {second.chip_files[1]}
    assert fourth.scenes == 6
    assert [step.number for step in history(archive, SIZE)] == [1, 2, 3, 4]


def test_a_merge_reads_no_part_twice(archive: Store, put_part: PutPart) -> None:
    """Of 30,000 parts only the new ones are read: those that are known may even be spoilt."""
    put_part(archive, "a")
    put_part(archive, "b")
    merge_index(archive, chip_size=SIZE)
    path = archive.local_path(layout.part_key(SIZE, C, "a"))
    assert path is not None
    there = path.stat()
    path.write_bytes(b"x" * there.st_size)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))  # so that it looks as it was
    put_part(archive, "c")
    assert merge_index(archive, chip_size=SIZE).scenes == 3


def test_small_scenes_are_merged_some_hundred_at_a_time(archive: Store, put_part: PutPart) -> None:
    """Each is held as a table with its assets: memory goes with scenes, not only with chips."""
    for number in range(300):
        put_part(archive, f"scene-{number}")
    merged = merge_index(archive, chip_size=SIZE)
    (path,) = (archive.local_path(key) for key in merged.chip_files)
    file = parquet.ParquetFile(str(path))
    groups = [file.read_row_group(n, columns=["scene"]) for n in range(file.num_row_groups)]
    held = [len(set(group["scene"].to_pylist())) for group in groups]
    assert sum(held) == 300
    assert len(held) == 2
    assert compact_index(archive, chip_size=SIZE) == merged


def test_going_back_gives_the_old_name(archive: Store, put_part: PutPart) -> None:
    """The name is that of the content; history goes on."""
    put_part(archive, "a")
    first = merge_index(archive, chip_size=SIZE)
    put_part(archive, "b")
    merge_index(archive, chip_size=SIZE)
    archive.delete(layout.part_key(SIZE, C, "b"))
    third = merge_index(archive, chip_size=SIZE)
    assert third.snapshot == first.snapshot
    assert third.number == 3
    assert load_snapshot(archive, first.snapshot) == third


def test_the_part_of_another_scene_is_refused(archive: Store, put_part: PutPart) -> None:
    """A part that was copied to another key would bring its scene in twice."""
    put_part(archive, "a")
    data = archive.get(layout.part_key(SIZE, C, "a"))
    archive.put(layout.part_key(SIZE, C, "b"), data)
    with pytest.raises(StoreError, match=r"b\.parquet is the part of sentinel-2-l2a/a; remove"):
        merge_index(archive, chip_size=SIZE)


def test_the_beginning_of_a_name_is_enough(archive: Store, put_part: PutPart) -> None:
    """As with commits: four digits or more, and the message says which names begin so."""
    put_part(archive, "a")
    found = merge_index(archive, chip_size=SIZE)
    assert load_snapshot(archive, found.snapshot[:5]) == found
    for none in (found.snapshot[:3], "/nowhere", "../snapshots"):
        with pytest.raises(RequestError, match="there is no snapshot"):
            load_snapshot(archive, none)
    other = found.model_copy(update={"snapshot": found.snapshot[:5] + "x"})
    archive.put(layout.snapshot_key(other.snapshot, 1), other.encode())
    with pytest.raises(RequestError, match=f"{found.snapshot}, {other.snapshot}; say more"):
        load_snapshot(archive, found.snapshot[:5])
    assert load_snapshot(archive, found.snapshot) == found


def test_a_merge_that_was_killed_before_the_end_is_finished(
    archive: Store, put_part: PutPart
) -> None:
    """The step is taken and the name does not find it yet: the next merge sees to that."""
    put_part(archive, "a")
    found = merge_index(archive, chip_size=SIZE)
    key = layout.snapshot_key(found.snapshot, found.number)
    archive.delete(key)
    assert load_snapshot(archive, found.snapshot) == found
    put_part(archive, "b")
    merge_index(archive, chip_size=SIZE)
    assert load_snapshot(archive, found.snapshot) == found
    assert archive.size(key) is not None


def test_a_difference_names_scenes(archive: Store, put_part: PutPart) -> None:
    """Added, removed, changed; the same content in other files is no difference."""
    for item in "abc":
        put_part(archive, item)
    old = merge_index(archive, chip_size=SIZE)
    put_part(archive, "d", shape=(5, 5))
    put_part(archive, "b", version=1)
    archive.delete(layout.part_key(SIZE, C, "c"))
    new = merge_index(archive, chip_size=SIZE)
    found = diff_snapshots(archive, old, new)
    assert (found.added, found.removed, found.changed) == ((f"{C}/d",), (f"{C}/c",), (f"{C}/b",))
    assert (found.chips_added, found.chips_removed) == (25 + 6, 6 + 6)
    back = diff_snapshots(archive, new, old)
    assert (back.added, back.removed) == (found.removed, found.added)
    put_part(archive, "e")
    more = merge_index(archive, chip_size=SIZE)
    compacted = compact_index(archive, chip_size=SIZE)
    assert not set(compacted.files) & set(more.files)
    same = diff_snapshots(archive, more, compacted)
    assert (same.added, same.removed, same.changed, same.chips_added) == ((), (), (), 0)


def test_what_is_young_stays(archive: Store, put_part: PutPart) -> None:
    """A merge that is under way has written files that no document names yet."""
    put_part(archive, "a")
    snapshot = merge_index(archive, chip_size=SIZE)
    orphan = layout.snapshot_file_key(snapshot.snapshot, "chips", "orphan")
    foreign = f"{layout.SNAPSHOTS}{snapshot.snapshot}/statistics/a.parquet"
    for key in (orphan, foreign, f"{layout.SNAPSHOTS}.keep"):
        archive.put(key, b"data")
    assert collect_garbage(archive).keys == ()
    assert collect_garbage(archive, age=timedelta(0)).keys == (orphan,)
    assert archive.size(orphan) == 4
    collect_garbage(archive, age=timedelta(0), remove=True)
    assert archive.size(orphan) is None
    assert archive.size(foreign) == 4


def test_what_killed_writers_left_goes_when_it_is_old(archive: Store, put_part: PutPart) -> None:
    """No listing shows it, so nothing else would ever remove it; a young one has its writer yet."""
    put_part(archive, "a")
    merge_index(archive, chip_size=SIZE)
    folder = archive.local_path("assets/s/scene")
    assert folder
    folder.mkdir(parents=True)
    for name in ("red.tif#123", "blue.tif#4", "a#b.tif"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / "red.tif#123", (0, 0))
    found = collect_garbage(archive, remove=True)
    assert (found.keys, found.size) == (("assets/s/scene/red.tif#123",), 4)
    assert {path.name for path in folder.iterdir()} == {"blue.tif#4", "a#b.tif"}


def test_a_plan_that_cannot_be_read_keeps_everything(archive: Store, put_part: PutPart) -> None:
    """What it names is not known, so nothing may go."""
    put_part(archive, "a")
    snapshot = merge_index(archive, chip_size=SIZE)
    archive.put(layout.snapshot_file_key(snapshot.snapshot, "chips", "orphan"), b"data")
    archive.put(layout.plan_key("p"), b"{}")
    with pytest.raises(StoreError, match="names no snapshot"):
        collect_garbage(archive, age=timedelta(0), remove=True)
    with pytest.raises(RequestError, match="keep 1 or more"):
        collect_garbage(archive, keep=0)
    assert archive.size(layout.snapshot_file_key(snapshot.snapshot, "chips", "orphan")) == 4


def test_the_commands(tmp_path: Path, put_part: PutPart, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person types: merge, list, show, diff, compact, collect."""
    monkeypatch.setenv("CHIPMILL_ARCHIVE", str(tmp_path / "archive"))
    archive = Store.open((tmp_path / "archive").as_uri())

    def say(*words: str) -> str:
        result = CliRunner().invoke(app, ["snapshots", *words])
        assert result.exit_code == 0, result.output
        return result.output

    names: list[str] = []
    for item in "abc":
        put_part(archive, item)
        names.append(say("merge", "--chip-size", "16").split()[1])
    lines = say("list", "--chip-size", "16").splitlines()
    assert [line.split()[:2] for line in lines] == [
        [str(number), name] for number, name in enumerate(names, start=1)
    ]
    shown = say("show", names[1][:8])
    assert "2 scenes" in shown
    assert sum(line.endswith(".parquet") for line in shown.splitlines()) == 6
    difference = say("diff", names[0], "--chip-size", "16").splitlines()
    assert difference[:2] == [f"+ {C}/b", f"+ {C}/c"]
    assert "2 scenes added, 0 removed, 0 changed; 12 chips came, 0 went" in difference[2]
    assert "1 chip files" in say("compact", "--chip-size", "16")
    assert "0 objects" in say("collect")
    assert "give --remove" in say("collect", "--hours", "0", "--keep", "1")
    assert len(list(archive.keys(layout.HEADS))) == 4
    say("collect", "--hours", "0", "--keep", "1", "--remove")
    assert len(list(archive.keys(layout.HEADS))) == 1
    assert len(list(archive.keys(layout.SNAPSHOTS))) == 4
    refused = CliRunner().invoke(app, ["snapshots", "show", names[0]])
    assert refused.exit_code == 1
    assert "there is no snapshot" in refused.stderr
