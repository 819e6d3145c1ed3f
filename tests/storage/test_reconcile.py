"""Reconciling mends what a crash or a lost message left, and leaves alone what it does not know."""

from pathlib import Path

from chipmill.formats import layout
from chipmill.model.megabatch import State, megabatch_id
from chipmill.steps.reconcile import LATE, Mended
from tests.storage.site import Site


def said(found: list[Mended]) -> set[tuple[str, str]]:
    """Give what was found, without the notes."""
    return {(each.what, each.subject) for each in found}


def test_nothing_is_found_where_all_is_well(site: Site) -> None:
    """A megabatch in use, one ready and one being staged are left as they are."""
    plan = site.plan()
    site.begin(plan)
    site.stage()
    site.ledger.claim_staging(megabatch_id(plan.plan, 2), budget=10**9, worker="alive")
    (site.folder(plan, 2)).mkdir()
    (site.folder(plan, 2) / ".tmp-1-x.arrow").write_bytes(b"at work")
    before = site.on_disk()
    assert site.reconcile() == []
    assert site.on_disk() == before


def test_a_lost_cleanup_is_made_good(site: Site) -> None:
    """The webhook's flow run never came, or its worker was killed in the midst."""
    plan = site.plan()
    site.begin(plan)
    first, second = site.stage()
    site.report(first)
    site.report(second)
    site.ledger.claim_removal(second, worker="dies")
    assert said(site.reconcile()) == {("removed", first)}
    with site.later() as ledger:
        assert said(site.reconcile(ledger)) >= {("removed", second)}
        assert site.reconcile(ledger) == [
            each for each in site.reconcile(ledger) if each.what == "unsent"
        ]
    assert site.state(plan, 0) is site.state(plan, 1) is State.REMOVED
    assert site.ledger.reserved() == site.on_disk() == 0


def test_a_dead_staging_that_nobody_wants_is_given_up(site: Site) -> None:
    """Its bytes would be reserved for ever; one that a run waits for is gone on with instead."""
    idle, read = site.plan(), site.plan(epoch=1)
    site.begin(read)
    for plan in (idle, read):
        site.ledger.claim_staging(megabatch_id(plan.plan, 0), budget=10**9, worker="dies")
        site.folder(plan).mkdir(parents=True)
        (site.folder(plan) / ".tmp-1-x.arrow").write_bytes(b"half")
        (site.folder(plan) / "x.arrow").write_bytes(b"whole")
    assert site.reconcile() == []
    with site.later() as ledger:
        assert ("given up", megabatch_id(idle.plan, 0)) in said(site.reconcile(ledger))
        assert not site.folder(idle).exists()
        change = ledger.history(megabatch_id(idle.plan, 0))[-1]
        assert (change.actor, change.now) == ("reconciler", State.PLANNED)
        assert "dies is gone" in change.why
        assert site.state(read) is State.STAGING
        assert megabatch_id(read.plan, 0) in site.stage(ledger=ledger)
    assert not list(site.fast.rglob(".tmp*"))


def test_files_that_no_megabatch_owns_are_swept(site: Site) -> None:
    """After a power failure names may come back; a zombie may write after its lease."""
    plan = site.plan()
    site.stage(plan.plan, ahead=1)
    site.folder(plan, 2).mkdir()
    (site.folder(plan, 2) / "left.arrow").write_bytes(b"came back")
    old, new = (site.folder(plan) / f".tmp-{fence}-late.arrow" for fence in (1, 99))
    old.write_bytes(b"of a zombie")
    new.write_bytes(b"of a lease to come")
    swept = {("swept", megabatch_id(plan.plan, number)) for number in (0, 2)}
    assert swept <= said(site.reconcile())
    assert not site.folder(plan, 2).exists()
    assert not old.exists()
    assert new.exists()
    assert site.state(plan, 2) is State.PLANNED
    assert not swept & said(site.reconcile())
    assert site.stage(plan.plan, ahead=2) == [megabatch_id(plan.plan, 2)]


def test_what_it_does_not_know_it_leaves_alone(site: Site, tmp_path: Path) -> None:
    """Another ledger's megabatches, other people's files, and what a link points to."""
    plan = site.plan()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.arrow").write_bytes(b"mine")
    strange = {
        "notes.txt": "notes.txt",
        f"{'f' * 16}/00000/pack.arrow": f"{'f' * 16}/00000",
        f"{plan.plan}/99/pack.arrow": f"{plan.plan}/99",
        f"{plan.plan}/readme": f"{plan.plan}/readme",
    }
    for path in strange:
        (site.fast / path).parent.mkdir(parents=True, exist_ok=True)
        (site.fast / path).write_bytes(b"mine")
    site.folder(plan, 3).symlink_to(elsewhere)
    site.folder(plan, 1).mkdir()
    (site.folder(plan, 1) / "notes.txt").write_bytes(b"mine")
    found = site.reconcile()
    known = {("unknown", shown) for shown in strange.values()}
    assert known <= said(found)
    assert ("unknown", layout.megabatch_folder(plan.plan, 3)) in said(found)
    assert ("refused", megabatch_id(plan.plan, 1)) in said(found)
    assert all((site.fast / path).exists() for path in strange)
    assert (elsewhere / "precious.arrow").exists()
    assert (site.folder(plan, 1) / "notes.txt").exists()


def test_what_a_person_must_see_is_said(site: Site) -> None:
    """A disk that was wiped, space that nobody uses, a server that takes no flow runs."""
    read, idle = site.plan(), site.plan(epoch=1)
    site.begin(read)
    site.stage(idle.plan, ahead=0)
    (site.folder(read) / layout.MANIFEST).unlink()
    (row,) = site.ledger.pending()
    site.ledger.postpone(row.id, "no answer", delay=LATE)
    found = said(site.reconcile())
    assert {("lost", megabatch_id(read.plan, 0)), ("idle", megabatch_id(idle.plan, 0))} <= found
    assert not [each for each in found if each[0] == "unsent"]
    with site.later() as ledger:
        ledger._clock = lambda: row.id + 10**10  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        late = [each for each in site.reconcile(ledger) if each.what == "unsent"]
    assert [each.note for each in late] == [
        f"stage of {read.plan} was tried 1 times: no answer",
    ]


def test_what_is_ready_for_runs_that_were_released_is_abandoned(site: Site) -> None:
    """A person said that nobody reads the plan; what was staged meanwhile would stay for ever."""
    plan = site.plan()
    site.begin(plan)
    site.ledger.release_run("run")
    site.stage(plan.plan, ahead=0)
    assert site.state(plan) is State.READY
    assert said(site.reconcile()) == {("abandoned", megabatch_id(plan.plan, 0))}
    assert site.on_disk() == site.ledger.reserved() == 0
    assert not list(site.fast.iterdir()) or site.state(plan, 1) is State.PLANNED
