"""Whatever happens to parts and snapshots: the newest snapshot is that of the parts that count."""

import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.chip_index import CHIPS, SCENES, IndexedScene, read_part
from chipmill.formats.finding import Finding
from chipmill.formats.snapshot import Snapshot, snapshot_name
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.steps.collect import collect_garbage
from chipmill.steps.compact import compact_index
from chipmill.steps.history import history, load_snapshot
from chipmill.steps.merge import merge_index

PutPart = Callable[..., IndexedScene]
C = "sentinel-2-l2a"
SIZE = 16
ITEMS = st.sampled_from("abcde")


class Index(RuleBasedStateMachine):
    """An archive, and what it should hold."""

    def __init__(self, put_part: PutPart) -> None:
        super().__init__()
        self.put_part = put_part
        self.folder = Path(tempfile.mkdtemp())
        self.archive = Store.open(self.folder.as_uri())
        self.parts: dict[str, IndexedScene] = {}
        self.quarantined: set[str] = set()
        self.newest: Snapshot | None = None
        self.planned: dict[str, int] = {}
        """Snapshots that plans name, with their number of chips."""

    def teardown(self) -> None:
        """Remove the archive."""
        shutil.rmtree(self.folder)

    @rule(item=ITEMS, version=st.integers(0, 2), rows=st.integers(1, 3))
    def index(self, item: str, version: int, rows: int) -> None:
        """Index a scene, for the first time or anew."""
        where = (40.0 * (ord(item) - ord("a")) - 80, 10.0)
        self.parts[item] = self.put_part(
            self.archive, item, version=version, shape=(rows, 2), corner=where
        )
        self.archive.delete(layout.finding_key(C, item))
        self.quarantined.discard(item)

    @rule(item=ITEMS)
    def remove(self, item: str) -> None:
        """Remove a part by hand."""
        self.archive.delete(layout.part_key(SIZE, C, item))
        self.parts.pop(item, None)

    @rule(
        item=ITEMS,
        kind=st.sampled_from(["quarantined", "failed"]),
        size=st.sampled_from([None, SIZE, 2 * SIZE]),
    )
    def find(self, item: str, kind: str, size: int | None) -> None:
        """Have a later ingest find the scene unusable, for good or not, for these chips or not."""
        said = {"collection": C, "item": item, "step": "index", "kind": kind, "reason": "drawn"}
        finding = Finding.model_validate({**said, "chip_size": size, "at": datetime.now(UTC)})
        self.archive.put(layout.finding_key(C, item), finding.encode())
        self.quarantined.discard(item)
        if kind == "quarantined" and size in {None, SIZE}:
            self.quarantined.add(item)

    @rule()
    def merge(self) -> None:
        """Merge, and compare with what is there."""
        present = {item: part for item, part in self.parts.items() if item not in self.quarantined}
        if not present:
            with pytest.raises(RequestError, match="no scene is indexed"):
                merge_index(self.archive, chip_size=SIZE)
            return
        before = self.newest
        self.newest = merge_index(self.archive, chip_size=SIZE)
        digests = [part.digest for part in present.values()]
        assert self.newest.snapshot == snapshot_name(SIZE, digests)
        assert merge_index(self.archive, chip_size=SIZE) == self.newest
        assert before is None or self.newest.number >= before.number
        self._holds(self.newest, present)

    @precondition(lambda self: self.newest)
    @rule(whole=st.booleans())
    def compact(self, whole: bool) -> None:  # noqa: FBT001  hypothesis passes it by name
        """Bind anew: the content and the name stay."""
        old = self.newest
        assert old is not None
        self.newest = compact_index(self.archive, chip_size=SIZE, whole=whole)
        assert self.newest.snapshot == old.snapshot
        assert len(self.newest.chip_files) == 1
        assert _rows(self.archive, self.newest) == _rows(self.archive, old)

    @precondition(lambda self: self.newest)
    @rule()
    def plan(self) -> None:
        """Have a plan name the newest snapshot."""
        assert self.newest is not None
        name = self.newest.snapshot
        self.planned[name] = self.newest.chips
        self.archive.put(layout.plan_key(name), json.dumps({"snapshot": name}).encode())

    @rule(keep=st.integers(1, 3))
    def collect(self, keep: int) -> None:
        """Collect garbage of any age: what is kept can be read, and nothing else is there."""
        there = history(self.archive, SIZE)
        found = collect_garbage(self.archive, keep=keep, age=timedelta(0), remove=True)
        assert history(self.archive, SIZE) == there[-keep:]
        kept = there[-keep:] + [load_snapshot(self.archive, name) for name in self.planned]
        for snapshot in kept:
            assert len(_rows(self.archive, snapshot)) == snapshot.chips
        for name, chips in self.planned.items():
            assert load_snapshot(self.archive, name).chips == chips
        named = {file for snapshot in kept for file in snapshot.files}
        assert {key for key in self.archive.keys("index/") if key.endswith("parquet")} - named == {
            layout.part_key(SIZE, C, item) for item in self.parts
        }
        assert not collect_garbage(self.archive, keep=keep, age=timedelta(0)).keys, found

    def _holds(self, snapshot: Snapshot, present: dict[str, IndexedScene]) -> None:
        """Compare a snapshot with its parts, row by row."""
        expected: list[dict[str, object]] = []
        for item in present:
            key = layout.part_key(SIZE, C, item)
            expected += read_part(self.archive.get(key), where=key)[1].to_pylist()
        assert _rows(self.archive, snapshot) == sorted(expected, key=lambda row: row["chip_id"])
        scenes = read_columns(self.archive, snapshot.scene_files, SCENES.names).to_pylist()
        assert sorted(row["item"] for row in scenes) == sorted(present)
        assets = read_columns(self.archive, snapshot.provenance_files, ["scene", "sha256"])
        sums = {row["scene"]: f"1220{row['sha256']}" for row in assets.to_pylist()}
        assert sums == {part.scene: part.checksums[0] for part in present.values()}
        assert len(assets) == snapshot.scenes == len(present)
        # The scenes are listed in the order of their chips.
        for chips, listed in zip(snapshot.chip_files, snapshot.scene_files, strict=True):
            order = read_columns(self.archive, [chips], ["scene", "row", "col"]).to_pylist()
            rows = read_columns(self.archive, [listed], ["scene", "rows", "cols"]).to_pylist()
            assert order == [
                {"scene": scene["scene"], "row": row, "col": col}
                for scene in rows
                for row in range(scene["rows"])
                for col in range(scene["cols"])
            ]


def _rows(archive: Store, snapshot: Snapshot) -> list[dict[str, object]]:
    """Read all rows of a snapshot, sorted by chip."""
    table = read_columns(archive, snapshot.chip_files, CHIPS.names)
    return table.sort_by("chip_id").to_pylist()


def test_a_snapshot_is_that_of_the_parts_that_count(put_part: PutPart) -> None:
    """Any sequence of parts, findings, merges, compactions and collections, against a model."""
    run_state_machine_as_test(
        lambda: Index(put_part),
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
