"""A static export: the packs of a plan, kept for good, and gone on with after a kill."""

import hashlib
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from chipmill.errors import RequestError, SceneError, StoreError
from chipmill.formats import layout
from chipmill.formats.export import Export
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.model.chip_filter import ChipFilter
from chipmill.model.export_request import ExportRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.collect import collect_garbage
from chipmill.steps.export import begin_export, export_scenes, export_shards
from chipmill.steps.plan import make_plan
from chipmill.steps.seal import list_exports, load_export, seal_export

CHIP = 16


class Site(Protocol):
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan

    def stage(self, root: Path) -> Path:
        """Stage all megabatches; gives fast storage."""
        ...


def exported(request: ExportRequest, archive: Store) -> Export:
    """Export from begin to end."""
    begun = begin_export(request, archive)
    for shard in export_shards(begun, archive):
        export_scenes(shard, begun, archive)
    return seal_export(begun, archive)


def files(archive: Store, name: str) -> dict[str, str]:
    """Hash everything that lies below an export, by its path in the export."""
    prefix = layout.export_prefix(name)
    return {
        key.removeprefix(prefix): hashlib.sha256(archive.get(key)).hexdigest()
        for key in archive.keys(prefix)
    }


@pytest.fixture
def archive(scenery: Store, tmp_path: Path) -> Store:
    """Copy the archive, so that a test may write into it; items name the files of the first."""
    shutil.copytree(str(scenery.local_path("")), tmp_path / "copy")
    copy = Store.open((tmp_path / "copy").as_uri())
    for path in (tmp_path / "copy" / "items").rglob("*.json"):
        path.write_text(path.read_text().replace(scenery.url, copy.url))
    return copy


def test_an_export_is_byte_for_byte_what_staging_writes(
    site: Site, archive: Store, tmp_path: Path
) -> None:
    """One form of packs: what is proven of staged ones holds of exported ones too."""
    whole = exported(ExportRequest(plan=site.plan.plan, name="europe"), archive)
    staged = site.stage(tmp_path) / site.plan.plan
    written = files(archive, "europe")
    expected = {
        str(path.relative_to(staged)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in staged.rglob("*")
        if path.is_file()
    }
    about = {"claim.json", "export.json"}
    tables = {f"{number:05d}/chips.parquet" for number in range(len(site.plan.megabatches))}
    assert written.keys() - about - tables == expected.keys()
    assert {name: written[name] for name in expected} == expected
    assert [part.manifest for part in whole.megabatches] == [
        written[f"{number:05d}/manifest.json"] for number in range(len(site.plan.megabatches))
    ]
    assert whole.plan == site.plan
    assert whole in list_exports(archive)


def test_a_whole_export_is_not_written_again(site: Site, archive: Store) -> None:
    """Asked again it reads one document and changes nothing."""
    request = ExportRequest(plan=site.plan.plan)
    whole = exported(request, archive)
    root = archive.local_path(layout.export_prefix(whole.name))
    assert root is not None
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    begun = begin_export(request, archive)
    assert export_shards(begun, archive) == []
    assert seal_export(begun, archive) == whole
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_filter_is_exported_as_the_plan_of_it(archive: Store) -> None:
    """Only what the filter takes, every chip of it once."""
    chips = PlanRequest(
        minibatch=4,
        chip_size=CHIP,
        few_scenes=True,
        leftover="spread",
        filter=ChipFilter("gsd < 5"),
    )
    whole = exported(ExportRequest(chips=chips, name="fine"), archive)
    assert whole.plan == make_plan(chips, archive)
    assert {name for part in whole.plan.megabatches for name in part.collections} == {"naip"}
    assert whole.plan.usable == 6 * 9


def test_a_name_is_of_one_plan(site: Site, archive: Store) -> None:
    """Two plans under one name would mix their files; the message names the first."""
    begin_export(ExportRequest(plan=site.plan.plan, name="mine"), archive)
    begin_export(ExportRequest(plan=site.plan.plan, name="mine"), archive)
    other = PlanRequest(minibatch=2, chip_size=CHIP, few_scenes=True)
    with pytest.raises(RequestError, match=f"taken by an export of plan {site.plan.plan}"):
        begin_export(ExportRequest(chips=other, name="mine"), archive)


def test_an_unfinished_export_is_not_read(site: Site, archive: Store) -> None:
    """Half of the packs are no export: sealing says which scene is missing."""
    begun = begin_export(ExportRequest(plan=site.plan.plan, name="half"), archive)
    export_scenes(export_shards(begun, archive)[0], begun, archive)
    with pytest.raises(StoreError, match="is not in the export half yet"):
        seal_export(begun, archive)
    with pytest.raises(RequestError, match="no whole export 'half'"):
        load_export(archive, "half")


def test_a_damaged_scene_stops_the_export_and_a_mended_one_ends_it(
    site: Site, archive: Store
) -> None:
    """A file that cannot be read is an error that names it; the other packs stay as they are."""
    broken = archive.local_path(layout.asset_key("naip", "m_3", "image"))
    assert broken is not None
    good = broken.read_bytes()
    broken.write_bytes(good[:900])
    request = ExportRequest(plan=site.plan.plan, name="mended")
    with pytest.raises(SceneError, match="m_3"):
        exported(request, archive)
    broken.write_bytes(good)
    exported(request, archive)
    exported(ExportRequest(plan=site.plan.plan, name="quiet"), archive)
    about = {"claim.json", "export.json"}
    mended, quiet = files(archive, "mended"), files(archive, "quiet")
    assert {name: mended[name] for name in mended.keys() - about} == {
        name: quiet[name] for name in quiet.keys() - about
    }


def test_nothing_that_tidies_up_touches_an_export(site: Site, archive: Store) -> None:
    """Garbage of the index goes; an export stays though its plan and snapshot are long gone."""
    exported(ExportRequest(plan=site.plan.plan, name="kept"), archive)
    before = files(archive, "kept")
    for key in list(archive.keys(layout.PLANS)):
        archive.delete(key)
    collect_garbage(archive, keep=1, age=timedelta(0), remove=True)
    assert files(archive, "kept") == before
