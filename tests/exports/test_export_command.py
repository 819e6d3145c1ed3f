"""`chipmill export` and `chipmill exports`, and plans whose minibatches are of several sensors."""

from collections import Counter
from typing import Protocol

import pytest
from typer.testing import CliRunner

from chipmill.cli import app
from chipmill.formats import layout
from chipmill.formats.plan import Plan
from chipmill.io.store import Store
from chipmill.model.plan_request import PlanRequest
from chipmill.steps.plan import make_plan
from chipmill.train import ChipDataset

CHIP = 16


class Site(Protocol):
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan


@pytest.fixture
def chipmill(site: Site, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Give the command line, with the archive in its settings."""
    monkeypatch.setenv("CHIPMILL_ARCHIVE", site.archive.url)
    return CliRunner()


def test_the_command_exports_a_filter_and_lists_it(site: Site, chipmill: CliRunner) -> None:
    """What it prints is what ChipDataset takes; every chip of the filter comes once an epoch."""
    words = ["export", "--filter", "collection = 'naip'", "--minibatch", "2", "--chip-size", "16"]
    done = chipmill.invoke(app, [*words, "--name", "aerial"])
    assert done.exit_code == 0, done.output
    url = done.stdout.splitlines()[-1].split()[0]
    assert url == site.archive.href("exports/aerial")
    assert url in chipmill.invoke(app, ["exports"]).stdout
    seen = Counter(chip for batch in ChipDataset(url, as_torch=False) for chip in batch.chip_ids)
    assert len(seen) == seen.total() == 6 * 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "an export is of a plan or of chips; give one of both"),
        (["0" * 16, "--filter", ""], "an export is of a plan or of chips; give one of both"),
        (["0" * 16], "there is no plan '0000000000000000'"),
        (["0" * 16, "--name", "../up"], "name: String should match pattern"),
        (["0" * 16, "--form", "zarr"], "forms.0: Input should be 'npz' or 'webdataset'"),
    ],
)
def test_a_wrong_request_is_one_sentence(chipmill: CliRunner, words: list[str], said: str) -> None:
    """On standard error, with exit code 1 and without a traceback."""
    done = chipmill.invoke(app, ["export", *words])
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_mixed_minibatches_are_exported_too(site: Site, chipmill: CliRunner) -> None:
    """A plan for a model of several sensors at once: all chips, in tar files by sensor."""
    request = PlanRequest(minibatch=4, chip_size=CHIP, few_scenes=True, mixed=True)
    plan = make_plan(request, site.archive)
    done = chipmill.invoke(app, ["export", plan.plan, "--form", "webdataset", "--tar", "50"])
    assert done.exit_code == 0, done.output
    url = site.archive.href(layout.export_prefix(plan.plan)).rstrip("/")
    batches = list(ChipDataset(url, as_torch=False))
    assert sum(map(len, batches)) == plan.usable - sum(part.left_over for part in plan.megabatches)
    assert any(len({chip.split("/")[0] for chip in batch.chip_ids}) > 1 for batch in batches)
    folder = site.archive.local_path(layout.rendering_prefix(plan.plan, "webdataset", 50))
    assert folder is not None
    assert {path.parent.name for path in folder.rglob("*.tar")} == {"naip", "sentinel-2-l2a"}
