"""Plans: sizes that make sense, counts that add up, a name for everything that decides."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import load_snapshot, merge_index
from chipmill.steps.plan import load_plan, load_scenes, make_plan, plan_name

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
group = pytest.mark.xdist_group("ingested")
FEW = PlanRequest(minibatch=2, megabatch=2, chip_size=64, few_scenes=True, leftover="spread")


@group
def test_every_chip_is_used_or_left_out_for_one_reason(ingested: Store) -> None:
    """The report of a plan is what users judge their data by: no chip may be unexplained."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    chips = parquet.read_table(BytesIO(ingested.get(snapshot.chip_files[0]))).to_pylist()
    for changes in (
        {},
        {"max_cloud": 1.0, "max_nodata": 1.0},
        {"max_cloud": 0.0},
        {"collections": ("naip", "landsat-c2l2-sr"), "max_nodata": 0.5},
    ):
        request = FEW.model_copy(update=changes)
        plan = make_plan(request, ingested)
        wanted = request.collections or {chip["collection"] for chip in chips}
        usable = [
            chip["chip_id"]
            for chip in chips
            if chip["collection"] in wanted
            and chip["cloud_fraction"] <= np.float32(request.max_cloud)
            and chip["nodata_fraction"] <= np.float32(request.max_nodata)
        ]
        assert plan.usable == len(usable)
        assert plan.usable + sum(plan.left_out.values()) == snapshot.chips == len(chips)
        found = [
            f"{scene.collection}/{scene.scene}/{row}-{col}"
            for number in range(len(plan.megabatches))
            for scene in load_scenes(ingested, plan.plan, number)
            for row, col in zip(scene.row, scene.col, strict=True)
        ]
        assert sorted(found) == sorted(usable)
        assert sum(part.chips for part in plan.megabatches) == plan.usable


@group
def test_a_plan_is_found_again(ingested: Store) -> None:
    """Planning twice costs nothing and changes nothing; `latest` and its name are one plan."""
    plan = make_plan(FEW, ingested)
    assert make_plan(FEW, ingested) == plan == load_plan(ingested, plan.plan)
    named = FEW.model_copy(update={"snapshot": plan.snapshot})
    assert make_plan(named, ingested).plan == plan.plan
    with pytest.raises(RequestError, match=r"there is no .* '0123456789abcdef'"):
        load_plan(ingested, "0123456789abcdef")


@group
def test_a_plan_without_a_minibatch_is_refused(ingested: Store) -> None:
    """An epoch of nothing would look like a training run that ends at once."""
    alone = FEW.model_copy(update={"megabatch": 1, "leftover": "drop"})
    with pytest.raises(RequestError, match="no minibatch of 2 chips of different scenes"):
        make_plan(alone, ingested)


def test_the_name_feels_every_input() -> None:
    """Two plans of one name would be one folder on fast storage: a mix of both."""
    changes = [
        {"minibatch": 3},
        {"megabatch": 4},
        {"seed": 1},
        {"epoch": 1},
        {"chip_size": 128},
        {"max_cloud": 0.2},
        {"max_nodata": 0.1},
        {"collections": ("naip",)},
        {"leftover": "drop"},
    ]
    requests = [FEW, *(FEW.model_copy(update=change) for change in changes)]
    names = [plan_name(request, "snap") for request in requests] + [plan_name(FEW, "other")]
    assert len(set(names)) == len(names)
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)
    assert plan_name(FEW, "snap") == plan_name(FEW.model_copy(), "snap")
    stated = PlanRequest(minibatch=2, megabatch=20)
    assert plan_name(stated, "snap") == plan_name(PlanRequest(minibatch=2), "snap")


def test_the_name_of_a_plan_is_pinned() -> None:
    """A release that names the same plan otherwise stages everything anew; then say so."""
    assert plan_name(PlanRequest(minibatch=4), "0123456789abcdef") == "831bc361e6a1d7a7"


@group
def test_too_few_scenes_need_a_word(ingested: Store) -> None:
    """The origin asks for five to ten scenes a chip of a minibatch; less is said, not done."""
    for request in (PlanRequest(minibatch=4, megabatch=19), PlanRequest(minibatch=1, megabatch=4)):
        with pytest.raises(RequestError, match=r"at least \d+ scenes"):
            make_plan(request, ingested)
    request = PlanRequest(minibatch=1, megabatch=5, chip_size=64)
    assert make_plan(request, ingested).megabatch_scenes == 5
    assert make_plan(PlanRequest(minibatch=1, chip_size=64), ingested).megabatch_scenes == 10


@group
def test_a_plan_without_chips_says_why(ingested: Store) -> None:
    """The counts by reason are in the message: what to allow is then plain."""
    request = FEW.model_copy(update={"collections": ("modis",)})
    with pytest.raises(RequestError, match="left out for other collection"):
        make_plan(request, ingested)


def test_megabatches_are_as_even_as_can_be(tmp_path: Path, draw: Draw, ingest: Ingest) -> None:
    """Each megabatch has its share of the scenes of every group; the sizes bound the bytes."""
    archive = Store.open((tmp_path / "archive").as_uri())
    ones = np.ones((32, 32), np.uint16)
    layers = {"red": (ones, 10.0, 0.0), "blue": (ones, 10.0, 0.0), "scl": (ones * 4, 10.0, None)}
    for number in range(12):
        path = draw(tmp_path / "source", layers, item=f"s{number:02d}")
        bands = ("red",) if number % 3 else ("red", "blue")
        request = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=bands)
        ingest(request.model_copy(update={"chip_size": 16}), archive)
    merge_index(archive, chip_size=16)
    plan = make_plan(PlanRequest(minibatch=1, megabatch=5, chip_size=16), archive)
    assert [part.scenes for part in plan.megabatches] == [4, 4, 4]
    for number, part in enumerate(plan.megabatches):
        groups = [scene.group for scene in load_scenes(archive, plan.plan, number)]
        assert sorted(groups.count(group) for group in set(groups)) in ([1, 3], [2, 2])
        assert part.size > part.chips * 16 * 16 * 2
        assert part.minibatches == part.chips == 16
    document = json.loads(archive.get(layout.plan_key(plan.plan)))
    assert document["plan"] == plan.plan
