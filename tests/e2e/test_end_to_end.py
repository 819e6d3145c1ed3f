"""The whole way with real processes, all killed in the middle; the end is that of a quiet run.

The quiet run is the library's own: the same requests, without Prefect, receiver, worker or S3.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.megabatch import State
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.ingest import ingest_scenes
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import stage_ahead
from chipmill.steps.search import search_scenes
from chipmill.train import Batch, ChipDataset

pytestmark = [
    pytest.mark.flows,
    pytest.mark.s3,
    pytest.mark.xdist_group("e2e"),
]

Json = dict[str, Any]
Seen = dict[tuple[int, int], list[str]]
BUDGET = 10**9
DOWN = 60.0
"""Seconds without the Prefect server, in the variant that takes its time."""
TWICE = ("m_4709963_se_14_1_20180716", "m_3008501_ne_16_1_20110815")
TRAINING: Json = {"minibatch": 2, "megabatch": 2, "few_scenes": True, "chip_size": 64}


class Site(Protocol):
    """The site of conftest.py."""

    folder: Path
    ledger: str
    environment: dict[str, str]
    s3: dict[str, str]

    def start(self, *names: str) -> None: ...  # noqa: D102
    def start_trainers(self, plan: str, *, attempt: int) -> None: ...  # noqa: D102
    def run(self, *command: str) -> None: ...  # noqa: D102
    def kill_all(self) -> None: ...  # noqa: D102
    def ask(self, method: str, path: str, **body: object) -> Any: ...  # noqa: ANN401, D102
    def start_run(self, name: str, parameters: Json) -> str: ...  # noqa: D102
    def follow(self, flow_run: str) -> Json: ...  # noqa: D102


Wait = Callable[[str, Callable[[], Any]], Any]


@dataclass(frozen=True)
class Quiet:
    """What a run that nothing disturbs comes to."""

    plan: str
    snapshot: str
    keys: frozenset[str]
    """Of assets, items, index parts and plans in the archive."""
    seen: Seen
    """Chips of each minibatch, by megabatch and minibatch."""


@pytest.fixture
def requests(items: list[Json], tmp_path: Path) -> list[Json]:
    """Ask for six NAIP scenes, as people fill in the form twice; two files are there twice."""
    naip = [item for item in items if item["collection"] == "naip"]
    again = [item | {"id": f"{item['id']}_again"} for item in naip if item["id"] in TWICE]
    catalog = tmp_path / "items.json"
    features = [*naip, *again]
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    ids = [item["id"] for item in features]
    both: Json = {"sensor": "naip", "catalog": str(catalog), "chip_size": 64}
    return [both | {"ids": ids[:3]}, both | {"ids": ids[3:]}]


@pytest.fixture
def quiet(requests: list[Json], tmp_path: Path) -> Quiet:
    """Do the same by the library alone."""
    archive = Store.open((tmp_path / "quiet").as_uri())
    snapshot = ""
    for asked in requests:
        request = IngestRequest(**asked)
        _, merged = ingest_scenes(request, search_scenes(request, archive), archive)
        snapshot = merged.snapshot
    plan = make_plan(PlanRequest(**TRAINING), archive)
    with Ledger.open(f"sqlite:///{tmp_path / 'quiet.db'}") as ledger:
        fast = tmp_path / "quiet-fast"
        stage_ahead(
            plan.plan,
            archive=archive,
            fast=fast,
            ledger=ledger,
            budget=BUDGET,
            worker="quiet",
            ahead=9,
        )
    seen: Seen = {}
    for batch in ChipDataset(archive.url, plan=plan.plan, fast=fast, as_torch=False):
        assert isinstance(batch, Batch)
        seen[batch.position.megabatch, batch.position.minibatch] = list(batch.chip_ids)
    assert len(plan.megabatches) == 3
    return Quiet(plan.plan, snapshot, _keys(archive), seen)


def test_killed_in_the_middle_it_ends_as_a_quiet_run(
    site: Site,
    requests: list[Json],
    quiet: Quiet,
    wait_for: Wait,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deploy, ingest, plan; three megabatches are staged, trained on and freed by two ranks.

    In the middle of the second every process gets SIGKILL. Then the Prefect server stays away while
    the ranks report it, and the cleanup follows when it is back. Nothing is lost, nothing is done
    twice.
    """
    train = site.folder / "train"
    train.mkdir()
    for gate in ((1, 3), (2, 2)):
        _gate(train, *gate).touch()
    site.start("s3", "prefect", "receiver")
    site.run("deploy")
    site.start("worker")
    for asked in requests:
        site.follow(site.start_run("ingest", {"request": asked}))
    site.follow(site.start_run("plan", {"request": TRAINING}))
    site.start_trainers(quiet.plan, attempt=1)
    with Ledger.open(site.ledger) as ledger:

        def states() -> list[State]:
            return [row.state for row in ledger.megabatches(quiet.plan)]

        wait_for("the first cleanup", lambda: states()[0] is State.REMOVED)
        wait_for("the third megabatch", lambda: states()[2] is State.IN_USE)
        wait_for("both ranks in the second", lambda: _at(train, (1, 2)))
        wait_for("the end of the flows", lambda: _unfinished(site) == 0)
        assert states() == [State.REMOVED, State.IN_USE, State.IN_USE]

    site.kill_all()
    _gate(train, 1, 3).unlink()
    site.start("s3", "receiver")
    site.start_trainers(quiet.plan, attempt=2)
    with Ledger.open(site.ledger) as ledger:
        wait_for("the second's reports", lambda: states()[1] is State.COMPLETE)
        wait_for("a try without Prefect", lambda: any(row.attempts for row in ledger.pending()))
        if request.config.getoption("--postgres"):
            _pause(DOWN, wait_for)
        assert states()[1] is State.COMPLETE
        site.start("prefect", "worker")
        wait_for("the second cleanup", lambda: states()[1] is State.REMOVED)
        _gate(train, 2, 2).unlink()
        wait_for("the third cleanup", lambda: states()[2] is State.REMOVED)
        wait_for("the end of the flows", lambda: _unfinished(site) == 0)
        assert ledger.reserved() == 0
        assert [run.attempt for run in ledger.runs(quiet.plan)] == [2]

    for name, value in site.s3.items():
        monkeypatch.setenv(name, value)
    _assert_same(site, quiet, train)


def _assert_same(site: Site, quiet: Quiet, train: Path) -> None:
    archive = Store.open(site.environment["CHIPMILL_ARCHIVE"])
    assert _keys(archive) == quiet.keys
    assert not [path for path in (site.folder / "fast").rglob("*") if path.is_file()]
    ranks = [_seen(train / f"rank-{rank}.seen") for rank in (0, 1)]
    assert {place: ranks[0][place] + ranks[1][place] for place in ranks[0]} == quiet.seen
    names = [f"clean up {quiet.plan}-{number:05d}" for number in range(3)]
    runs = site.ask("POST", "/flow_runs/filter", limit=200)
    cleanups = [run for run in runs if str(run["name"]).startswith("clean up")]
    assert sorted(run["name"] for run in cleanups) == names
    asked = [run for run in runs if not run["auto_scheduled"]]
    assert {run["state_type"] for run in asked} == {"COMPLETED"}


def _gate(train: Path, megabatch: int, minibatch: int) -> Path:
    return train / f"gate-{megabatch}-{minibatch}"


def _at(train: Path, place: tuple[int, int]) -> bool:
    """Tell whether both ranks have read this minibatch."""
    return all(place in _seen(train / f"rank-{rank}.seen") for rank in (0, 1))


def _seen(path: Path) -> Seen:
    """Read what a rank has noted; what it read again after the kill has to be the same."""
    seen: Seen = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        megabatch, minibatch, chips = json.loads(line)
        assert seen.setdefault((megabatch, minibatch), chips) == chips
    return seen


def _unfinished(site: Site) -> int:
    """Count the flow runs that are on their way, but for those of schedules."""
    states = {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING"]}}
    runs = site.ask("POST", "/flow_runs/filter", flow_runs={"state": states}, limit=200)
    return sum(not run["auto_scheduled"] for run in runs)


def _keys(archive: Store) -> frozenset[str]:
    """List what names nothing of the time or the place where it was made."""
    return frozenset(
        key
        for prefix in ("assets/", "items/", "index/parts/", "plans/")
        for key in archive.keys(prefix)
    )


def _pause(seconds: float, wait_for: Wait) -> None:
    end = time.monotonic() + seconds
    wait_for("a minute", lambda: time.monotonic() > end)
