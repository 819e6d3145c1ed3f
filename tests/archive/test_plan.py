"""Plans: sizes that make sense, counts that add up, a name for everything that decides."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from chipmill.cli import app
from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.io.tables import read_columns
from chipmill.model.chip_filter import ChipFilter
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.model.split import SpatialSplit
from chipmill.steps.deal import deal_usable
from chipmill.steps.merge import load_snapshot, merge_index
from chipmill.steps.outline import outline, spreads
from chipmill.steps.plan import list_plans, load_plan, load_scenes, make_plan, plan_name
from chipmill.steps.usable import read_usable

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
        {"mixed": True},
        {"filter": ChipFilter("gsd < 5")},
        {"strata": "platform"},
        {"mix": {"naip": 1.0}},
        {"split": SpatialSplit(side="train")},
        {"split": SpatialSplit(side="validation")},
        {"split": SpatialSplit(side="train", salt=1)},
    ]
    requests = [FEW, *(FEW.model_copy(update=change) for change in changes)]
    names = [plan_name(request, "snap") for request in requests] + [plan_name(FEW, "other")]
    assert len(set(names)) == len(names)
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in names)
    assert plan_name(FEW, "snap") == plan_name(FEW.model_copy(), "snap")
    stated = PlanRequest(minibatch=2, megabatch=20)
    loud, quiet = ChipFilter("CLOUD  <= 0.10"), ChipFilter("CLOUD<=0.1")
    one, other = (FEW.model_copy(update={"filter": each}) for each in (loud, quiet))
    assert plan_name(one, "snap") == plan_name(other, "snap")
    assert plan_name(stated, "snap") == plan_name(PlanRequest(minibatch=2), "snap")


def test_the_name_of_a_plan_is_pinned() -> None:
    """A release that names the same plan otherwise stages everything anew; then say so."""
    assert plan_name(PlanRequest(minibatch=4), "0123456789abcdef") == "a894c6b24d700775"


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


@group
def test_a_mixed_plan_has_sensors_together(ingested: Store) -> None:
    """Several sensors fill a minibatch together, so that more minibatches are full."""
    changes = {"megabatch": 20, "leftover": "drop", "minibatch": 3, "max_nodata": 1.0}
    apart, mixed = (
        make_plan(FEW.model_copy(update={**changes, "mixed": each}), ingested)
        for each in (False, True)
    )
    assert apart.usable == mixed.usable
    assert mixed.mixed
    assert "of several sensors each" in outline(mixed)["minibatches"]
    full = [sum(part.minibatches for part in plan.megabatches) for plan in (apart, mixed)]
    assert full[0] < full[1] <= mixed.usable // 3


def test_plans_that_do_not_mix_are_as_they_were() -> None:
    """A run that began before minibatches could be mixed finds its plan and its manifest again."""
    assert plan_name(PlanRequest(minibatch=2), "snap") == "e425f791ec2b1609"
    plan = Plan.model_validate(
        {
            "plan": "p",
            "snapshot": "s",
            "seed": 0,
            "epoch": 0,
            "minibatch": 1,
            "megabatch_scenes": 5,
            "leftover": "drop",
            "order_version": 2,
            "chip_size": 256,
            "usable": 0,
            "left_out": {},
            "megabatches": (),
        }
    )
    assert b"mixed" not in plan.encode()
    assert b'"mixed": true' in plan.model_copy(update={"mixed": True}).encode()


def chips_of(archive: Store, **changes: object) -> tuple[Plan, list[Any]]:
    """Plan with some changes; gives the plan and the rows of the index that it uses."""
    plan = make_plan(PlanRequest.model_validate({**FEW.model_dump(), **changes}), archive)
    used = {
        f"{scene.collection}/{scene.scene}/{row}-{col}"
        for number in range(len(plan.megabatches))
        for scene in load_scenes(archive, plan.plan, number)
        for row, col in zip(scene.row, scene.col, strict=True)
    }
    found = load_snapshot(archive, plan.snapshot)
    rows = read_columns(archive, found.chip_files, None).to_pylist()
    assert plan.usable == len(used)
    assert plan.usable + sum(plan.left_out.values()) == found.chips == len(rows)
    return plan, [row for row in rows if row["chip_id"] in used]


@group
def test_a_filter_leaves_out_what_it_says(ingested: Store) -> None:
    """Words, numbers and areas; what it leaves out is counted before all other reasons."""
    text = "gsd < 200 AND collection <> 'naip'"
    plan, used = chips_of(ingested, filter=text, max_cloud=1, max_nodata=1)
    assert used
    assert all(row["gsd"] < 200 and row["collection"] != "naip" for row in used)
    assert list(plan.left_out) == ["filter", "other collection", "nodata", "cloud"]
    assert [count > 0 for count in plan.left_out.values()] == [True, False, False, False]
    box = used[len(used) // 2]["bbox"]
    sides = ", ".join(str(round(box[side], 4)) for side in ("xmin", "ymin", "xmax", "ymax"))
    area = f"{text} AND S_INTERSECTS(geometry, BBOX({sides}))"
    _, inside = chips_of(ingested, filter=area, max_cloud=1, max_nodata=1)
    assert 0 < len(inside) < len(used)
    with pytest.raises(RequestError, match="the column 'clouds', which chips do not have"):
        chips_of(ingested, filter="clouds < 1")


@group
def test_train_and_validation_share_no_scene(ingested: Store) -> None:
    """With cells of 10 km most scenes lie at a border: what is left is apart, all is accounted."""
    how = {"share": 0.5, "cell_km": 10, "gap_km": 0.2, "salt": 3}
    sides = [
        chips_of(ingested, split={"side": side, **how}, max_cloud=1, max_nodata=1)
        for side in ("train", "validation")
    ]
    (train, one), (validation, other) = sides
    assert not {row["scene"] for row in one} & {row["scene"] for row in other}
    border = "border of the split"
    assert train.left_out[border] + validation.left_out[border] > 0
    assert train.left_out["other side of the split"] == (
        validation.usable + validation.left_out[border]
    )


@group
def test_a_mix_is_that_of_the_chips(ingested: Store) -> None:
    """What is too much of a stratum is left out, and said; platforms are strata as well."""
    mix = {"naip": 1.0, "landsat-c2l2-sr": 1.0}
    plan, used = chips_of(ingested, mix=mix, max_cloud=1, max_nodata=1)
    assert {row["collection"] for row in used} == set(mix)
    assert plan.left_out["mix"] > 0
    shares = [part.collections for part in plan.megabatches]
    chips = {name: sum(each[name].chips for each in shares if name in each) for name in mix}
    assert sum(chips.values()) == plan.usable
    _, used = chips_of(ingested, strata="platform", mix={"landsat-8": 1.0}, max_nodata=1)
    assert {row["platform"] for row in used} == {"landsat-8"}
    with pytest.raises(RequestError, match="strata cannot be made of 'weather'"):
        chips_of(ingested, strata="weather")


@group
def test_a_plan_does_not_feel_in_which_files_chips_are(ingested: Store) -> None:
    """Compaction rewrites the files of a snapshot and keeps its name: a plan is of the name."""
    snapshot = load_snapshot(ingested, "latest", chip_size=64)
    rows = read_columns(ingested, snapshot.chip_files, None)
    scenes = read_columns(ingested, snapshot.scene_files, None)
    names = sorted({str(name) for name in scenes["scene"].to_pylist()}, reverse=True)
    files: dict[str, list[str]] = {"chips": [], "scenes": []}
    for number in range(0, len(names), 3):
        some = pa.array(names[number : number + 3])
        for table, whole in (("chips", rows), ("scenes", scenes)):
            place = pc.index_in(whole["scene"].cast(pa.string()), some)
            part = whole.append_column("place", place).filter(pc.is_valid(place))
            sink = BytesIO()
            parquet.write_table(part.sort_by([("place", "descending")]), sink)
            files[table].append(f"elsewhere/{table}-{number}.parquet")
            ingested.put(files[table][-1], sink.getvalue())
    changes = {"chip_files": tuple(files["chips"]), "scene_files": tuple(files["scenes"])}
    moved = snapshot.model_copy(update=changes)
    request = FEW.model_copy(update={"max_nodata": 1.0})
    deals = [
        deal_usable(request, read_usable(request, ingested, each), megabatch=2)
        for each in (snapshot, moved)
    ]
    for name in ("megabatch", "group", "counts"):
        assert np.array_equal(getattr(deals[0], name), getattr(deals[1], name))
    assert deals[0].scenes["scene"].to_pylist() == deals[1].scenes["scene"].to_pylist()
    chips = [
        [
            (deal.usable.row[a : a + n].tolist(), deal.usable.col[a : a + n].tolist())
            for a, n in zip(deal.starts, deal.counts, strict=True)
        ]
        for deal in deals
    ]
    assert chips[0] == chips[1]


@group
def test_an_outline_says_what_a_plan_will_do(ingested: Store) -> None:
    """Its sums are those of the plan, and each scene is one on the map."""
    plan, used = chips_of(ingested)
    said = outline(plan)
    naip = [row for row in used if row["collection"] == "naip"]
    count = len({row["scene"] for row in naip})
    assert said["naip"] == f"{count:,} scenes, {len(naip):,} chips"
    assert said["megabatches"].startswith(f"{len(plan.megabatches)} of at most 2")
    assert plan in list_plans(ingested)
    found = load_snapshot(ingested, plan.snapshot)
    table = read_columns(ingested, found.scene_files, ["scene", "bbox"]).to_pylist()
    boxes = {row["scene"]: row["bbox"] for row in table}
    for number, spread in enumerate(spreads(ingested, plan, first=99)):
        scenes = load_scenes(ingested, plan.plan, number)
        wanted: set[tuple[int, int]] = set()
        for scene in scenes:
            box = boxes[f"{scene.collection}/{scene.scene}"]
            lon, lat = (box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2
            wanted.add((17 - int((lat + 90) // 10), int((lon + 180) // 10)))
        signs = {
            (line, place)
            for line, text in enumerate(spread.picture)
            for place, sign in enumerate(text)
            if sign != " "
        }
        assert signs == wanted
        assert spread.cells == len(wanted)
        assert sum(spread.shares.values()) == pytest.approx(1)


@group
def test_the_command_line_plans_lists_and_shows(
    ingested: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request as from Python is the same plan; mistakes are one sentence."""
    monkeypatch.setenv("CHIPMILL_ARCHIVE", ingested.url)
    fields = ["minibatch=2", "megabatch=2", "chip_size=64", "few_scenes=true", "leftover=spread"]
    file = tmp_path / "request.yaml"
    file.write_text("minibatch: 9\nsplit: {side: train}\nmax_nodata: 1\n")
    text = "gsd <= 120 AND platform IS NOT NULL"

    def run(*words: str) -> Any:  # noqa: ANN401
        return CliRunner().invoke(app, ["plan", *words])

    made = run("make", *fields, "split.cell_km=500", "--filter", text, "--request", str(file))
    split = {"side": "train", "cell_km": 500}
    plan, _ = chips_of(ingested, filter=text, max_nodata=1, split=split)
    assert made.stdout.strip() == plan.plan, made.stderr
    assert plan.plan in run("list").stdout
    shown = run("show", plan.plan, "--first", "1").stdout
    assert "left out for border of the split" in shown
    assert "megabatch 0 is in" in shown
    said = json.loads(run("show", plan.plan, "--json").stdout)
    assert said["usable"] == plan.usable
    assert said["request"]["split"]["cell_km"] == 500
    assert len(said["spread"]) == min(3, len(plan.megabatches))
    for words, sentence in (
        (["make", "minibatch"], "'minibatch' is no field of a request"),
        (["make", "minibatch=0"], "minibatch: Input should be greater than"),
        (["make", "minibatch=2", "--filter", "cloud <"], "not CQL2 at character 8"),
        (["make", "--request", "none.yaml"], "none.yaml cannot be read"),
        (["show", "0123456789abcdef"], "there is no plan"),
    ):
        wrong = run(*words)
        assert wrong.exit_code == 1
        assert sentence in wrong.stderr
        assert wrong.stderr.count("\n") == 1
