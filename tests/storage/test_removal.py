"""Removal: only what can be fetched again, bounded in time, and gone on with where it stopped."""

import shutil
from pathlib import Path

import pytest

from chipmill.errors import MissingError, StaleFenceError, StoreError
from chipmill.formats import layout
from chipmill.io.fast import Folder
from chipmill.model.megabatch import State, megabatch_id
from tests.storage.site import Site

PACKS = 3000


def test_what_the_archive_has_no_more_is_kept(site: Site) -> None:
    """The copy on fast storage is then the last one; a person may still say that it goes."""
    plan = site.plan(epoch=91)
    site.begin(plan)
    (name,) = site.stage(ahead=0)
    site.report(name)
    files = sorted(Path(str(site.archive.local_path("assets"))).rglob("*.tif"))
    before, aside = site.on_disk(), files[0].with_name("aside")
    for victim in (file for file in files if file.name == "red.tif"):
        victim.rename(aside)
        try:
            site.remove(name)
        except MissingError as err:
            said = str(err)
            break
        finally:
            aside.rename(victim)
    else:
        pytest.fail("a megabatch was removed whose scenes are not all in the archive")
    assert "1 of its 2 scenes" in said
    assert "red.tif" in said
    assert f"chipmill ledger abandon {name} --lost" in said
    assert site.state(plan) is State.COMPLETE
    assert site.on_disk() == before
    assert site.remove(name).freed > 0


def test_a_plan_that_is_gone_cannot_be_staged_again(site: Site) -> None:
    """Without the plan nobody knows which chips the megabatch has."""
    plan = site.plan(epoch=92)
    site.begin(plan)
    (name,) = site.stage(ahead=0)
    site.report(name)
    shutil.rmtree(str(site.archive.local_path(f"{layout.PLANS}{plan.plan}")))
    with pytest.raises(MissingError, match="could not be staged again"):
        site.remove(name)
    assert site.state(plan) is State.COMPLETE


def test_thousands_of_packs_go_and_a_stop_costs_nothing(tmp_path: Path) -> None:
    """The lease is looked at between files; who takes over finds only what is left."""
    folder = Folder(tmp_path / ("0" * 16) / "00000")
    folder.path.mkdir(parents=True)
    for number in range(PACKS):
        (folder.path / f"{number:032x}.arrow").write_bytes(b"12345678")
    (folder.path / layout.MANIFEST).write_bytes(b"{}")
    looks = 0

    def check() -> None:
        nonlocal looks
        looks += 1
        if looks == PACKS // 3:
            message = "lost"
            raise StaleFenceError(message)

    with pytest.raises(StaleFenceError):
        folder.remove(check=check)
    left = len(list(folder.path.iterdir()))
    assert left == PACKS + 1 - (PACKS // 3 - 1)
    assert not (folder.path / layout.MANIFEST).exists()
    assert folder.remove() == 8 * left
    assert not folder.path.exists()
    assert folder.remove() == 0


def test_links_are_never_followed(tmp_path: Path) -> None:
    """Somebody put a link where a megabatch should be, or a plan, or a pack."""
    precious = tmp_path / "precious"
    (precious / "00000").mkdir(parents=True)
    (precious / "00000" / "x.arrow").write_bytes(b"mine")
    plan = tmp_path / "fast" / ("0" * 16)
    plan.mkdir(parents=True)
    (plan / "00000").symlink_to(precious / "00000")
    with pytest.raises(StoreError):
        Folder(plan / "00000").remove()
    (tmp_path / "fast" / ("1" * 16)).symlink_to(precious)
    with pytest.raises(StoreError):
        Folder(tmp_path / "fast" / ("1" * 16) / "00000").remove()
    (plan / "00001").mkdir()
    (plan / "00001" / "x.arrow").symlink_to(precious / "00000" / "x.arrow")
    Folder(plan / "00001").remove()
    assert (precious / "00000" / "x.arrow").read_bytes() == b"mine"


def test_a_removal_that_was_dropped_is_taken_over(site: Site) -> None:
    """A worker died between two files: the next one ends what it began."""
    plan = site.plan()
    site.begin(plan)
    (name,) = site.stage(ahead=0)
    site.report(name)
    assert site.ledger.claim_removal(name, worker="dies") is not None
    (site.folder(plan) / layout.MANIFEST).unlink()
    with site.later() as ledger:
        later = Site(site.archive, site.fast, site.url, ledger)
        assert later.remove(name).freed > 0
    assert site.state(plan) is State.REMOVED
    assert megabatch_id(plan.plan, 0) == name
    assert not site.folder(plan).exists()
