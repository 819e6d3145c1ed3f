"""Training on a static export: the same batches as from fast storage, without anything else."""

import multiprocessing
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from chipmill.errors import MissingError, PackError, RequestError
from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.model.export_request import ExportRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.export import begin_export, export_scenes, export_shards
from chipmill.steps.plan import make_plan
from chipmill.steps.seal import seal_export
from chipmill.train import Batch, ChipDataset

CHIP = 16


class Site(Protocol):
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan

    def stage(self, root: Path) -> Path:
        """Stage all megabatches; gives fast storage."""
        ...


def exported(request: ExportRequest, archive: Store) -> str:
    """Export from begin to end; gives the URL."""
    begun = begin_export(request, archive)
    for shard in export_shards(begun, archive):
        export_scenes(shard, begun, archive)
    whole = seal_export(begun, archive)
    return archive.href(layout.export_prefix(whole.name)).rstrip("/")


def batches(dataset: ChipDataset) -> list[Batch]:
    """Iterate to the end."""
    return [batch for batch in dataset if isinstance(batch, Batch)]


def assert_same(found: Sequence[Batch], expected: Sequence[Batch]) -> None:
    """Compare everything that a training step sees."""
    assert len(found) == len(expected) > 3
    for one, other in zip(found, expected, strict=True):
        assert one.chip_ids == other.chip_ids
        assert (one.position, one.after, one.plan) == (other.position, other.after, other.plan)
        assert one.manifest == other.manifest
        for name in ("pixels", "wavelength", "gsd", "mean", "std", "latlon", "time", "scale"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def export(site: Site) -> str:
    """Export the plan; gives the URL."""
    return exported(ExportRequest(plan=site.plan.plan, name="trained-on"), site.archive)


def opened(url: str, **more: object) -> ChipDataset:
    """Open an export for arrays."""
    return ChipDataset(url, as_torch=False, **more)  # pyright: ignore[reportArgumentType]


def test_an_export_gives_the_batches_of_fast_storage(
    site: Site, export: str, tmp_path: Path
) -> None:
    """One plan is one sequence of batches, wherever its packs lie: also copied to another disk."""
    fast = site.stage(tmp_path)
    staged = batches(ChipDataset(site.archive.url, plan=site.plan.plan, fast=fast, as_torch=False))
    assert_same(batches(opened(export)), staged)
    local = site.archive.local_path(layout.export_prefix("trained-on"))
    assert local is not None
    shutil.copytree(local, tmp_path / "nvme")
    assert_same(batches(opened(str(tmp_path / "nvme"))), staged)


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_an_export_on_s3_is_read_by_ranges(
    site: Site, export: str, s3_archive: Store, codec: str
) -> None:
    """Bytes of single chips come over the wire; batches are those of a local export."""
    del export
    request = ExportRequest.model_validate(
        {"plan": site.plan.plan, "name": f"remote-{codec}", "codec": codec}
    )
    local = exported(request, site.archive)
    for key in site.archive.keys(f"exports/remote-{codec}/"):
        s3_archive.put(key, site.archive.get(key))
    remote = s3_archive.href(f"exports/remote-{codec}")
    assert_same(batches(opened(remote)), batches(opened(local)))
    chosen = {"bands": ("red",), "float32": True}
    red = batches(opened(remote, **chosen))
    assert red[0].pixels.shape[1] == 1
    assert_same(red, batches(opened(local, **chosen)))


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_an_export_is_written_to_s3(site: Site, s3_archive: Store) -> None:
    """The archive of a team is a bucket: exporting there gives the same bytes as in a directory."""
    for key in site.archive.keys(""):
        if not key.startswith(layout.EXPORTS):
            data = site.archive.get(key)
            data = data.replace(site.archive.url.encode(), s3_archive.url.encode())
            s3_archive.put(key, data)
    request = ExportRequest(plan=site.plan.plan, name=f"to-s3-{secrets.token_hex(4)}")
    exported(request, s3_archive)
    exported(request, site.archive)
    prefix = layout.export_prefix(request.name)
    here = {key: site.archive.get(key) for key in site.archive.keys(prefix)}
    assert {key: s3_archive.get(key) for key in s3_archive.keys(prefix)} == here


def test_training_goes_on_where_it_stopped(export: str) -> None:
    """A state holds in a new process, for another number of ranks, in every epoch."""
    for epoch in (None, 4):
        whole = batches(opened(export, epoch=epoch))
        stop = len(whole) // 2
        first = opened(export, epoch=epoch)
        state = first.state_after(whole[stop - 1])
        ranks = [opened(export, epoch=epoch, rank=rank, world_size=2) for rank in (0, 1)]
        shares: list[list[Batch]] = []
        for rank in ranks:
            rank.load_state_dict(state)
            shares.append(batches(rank))
        joined = [a.chip_ids + b.chip_ids for a, b in zip(*shares, strict=True)]
        assert joined == [batch.chip_ids for batch in whole[stop:]]


def test_each_epoch_is_another_order_of_the_same_chips(site: Site, export: str) -> None:
    """An export serves many epochs: each chip once, minibatches of other chips, laws as ever."""
    epochs = [batches(opened(export, epoch=epoch)) for epoch in (None, 1, 2)]
    assert_same(batches(opened(export, epoch=site.plan.epoch)), epochs[0])
    for epoch in epochs:
        seen = Counter(chip for batch in epoch for chip in batch.chip_ids)
        assert max(seen.values()) == 1
        for batch in epoch:
            scenes = {chip.rsplit("/", 1)[0] for chip in batch.chip_ids}
            assert len(scenes) == len(batch.chip_ids) == site.plan.minibatch
    orders = [[batch.chip_ids for batch in epoch] for epoch in epochs]
    assert len(orders[0]) == len(orders[1]) == len(orders[2])
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert sum(a == b for a, b in zip(orders[one], orders[other], strict=True)) <= 2
    assert batches(opened(export, epoch=1))[0].position.epoch == 1


def test_every_epoch_counts_its_minibatches(site: Site) -> None:
    """Where left-over chips are spread, how many short minibatches there are is drawn too."""
    request = PlanRequest(
        minibatch=4, megabatch=7, chip_size=CHIP, few_scenes=True, leftover="spread"
    )
    url = exported(ExportRequest(chips=request, name="spread"), site.archive)
    plan = make_plan(request, site.archive)
    for epoch in range(4):
        dataset = opened(url, epoch=epoch)
        found = Counter(batch.position.megabatch for batch in batches(dataset))
        numbers = range(len(plan.megabatches))
        assert [dataset.minibatches_of(number) for number in numbers] == [
            found[number] for number in numbers
        ]


def test_what_is_wrong_is_said(site: Site, export: str, tmp_path: Path) -> None:
    """No export, another plan, a manifest of another copy: one sentence, and no new folder."""
    with pytest.raises(MissingError, match=r"no whole export at file://.*nowhere"):
        opened(str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(RequestError, match="not of 0123456789abcdef"):
        opened(export, plan="0123456789abcdef")
    with pytest.raises(RequestError, match="no epoch -1"):
        opened(export, epoch=-1)
    with pytest.raises(RequestError, match="each epoch is a plan of its own"):
        opened(site.archive.url, plan=site.plan.plan, fast=tmp_path, epoch=1)
    local = site.archive.local_path(layout.export_prefix("trained-on"))
    assert local is not None
    shutil.copytree(local, tmp_path / "mixed")
    manifest = tmp_path / "mixed" / "00001" / layout.MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b'"seed": 3', b'"seed": 4'))
    with pytest.raises(PackError, match=r"is not the manifest that export\.json"):
        batches(opened(str(tmp_path / "mixed")))


def test_an_archive_with_an_export_of_the_plans_name_is_enough(site: Site) -> None:
    """Without a name an export has its plan's, so archive and plan find it."""
    url = exported(ExportRequest(plan=site.plan.plan), site.archive)
    assert_same(batches(opened(site.archive.url, plan=site.plan.plan)), batches(opened(url)))


def _child(url: str, found: "multiprocessing.Queue[str]") -> None:
    try:
        dataset = ChipDataset(url, as_torch=False) if url.startswith("s3") else _INHERITED[url]
        found.put(str(len(list(dataset))))
    except RequestError as err:
        found.put(str(err))


_INHERITED: dict[str, ChipDataset] = {}


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_a_forked_worker_reads_a_local_export_and_refuses_a_store(
    site: Site, export: str, s3_archive: Store
) -> None:
    """A fork has not the threads that a store needs: it would hang for ever, so it says so."""
    for key in site.archive.keys("exports/trained-on/"):
        s3_archive.put(key, site.archive.get(key))
    remote = s3_archive.href("exports/trained-on")
    fork = multiprocessing.get_context("fork")
    expected = {
        remote: "multiprocessing_context='spawn'",
        export: str(len(batches(opened(export)))),
    }
    opened(remote)
    _INHERITED[export] = opened(export)
    for url, words in expected.items():
        found = fork.Queue()
        child = fork.Process(target=_child, args=(url, found))
        child.start()
        assert words in found.get(timeout=100)
        child.join(60)
        assert child.exitcode == 0
