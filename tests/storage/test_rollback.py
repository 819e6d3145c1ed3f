"""A training that goes back to a checkpoint of which the megabatches are removed already."""

import signal
from pathlib import Path

import pytest

from chipmill.formats.plan import Plan
from chipmill.model.megabatch import State, megabatch_id
from tests.storage.site import Site
from tests.train.toy_training import PLACES, Training, goes_on


@pytest.mark.parametrize("world", [1, 2, 3])
def test_what_a_checkpoint_needs_is_staged_again(site: Site, tmp_path: Path, world: int) -> None:
    """F13: every megabatch was freed when the run comes back; it trains on what it would have.

    At twelve points in all: four places, at different steps in each world, in the first megabatch
    and behind its end.
    """
    plan = site.plan(minibatch=4, megabatch=4)  # two of nine minibatches
    take(site, plan, run="quiet")
    quiet = Training(tmp_path / "quiet", site.archive.url, site.fast, plan.plan, world)
    assert not quiet.run()
    whole = quiet.trained()
    free(site, plan, run="quiet")
    for number, place in enumerate(PLACES):
        turn = (1, 3, 5, 9)[(number + world) % 4]
        take(site, plan, run=f"killed-{number}")
        killed = Training(tmp_path / str(number), site.archive.url, site.fast, plan.plan, world)
        victim = 0 if "checkpoint" in place else world - 1
        assert killed.run(place=place, turn=turn, victim=victim) == -signal.SIGKILL
        head = killed.trained()
        free(site, plan, run=f"killed-{number}")
        assert not site.on_disk()
        take(site, plan, run=f"back-{number}")
        assert not killed.run()
        goes_on(whole, head, killed.trained())
        free(site, plan, run=f"back-{number}")


def take(site: Site, plan: Plan, *, run: str) -> None:
    """Begin a run, and stage all that it needs."""
    site.begin(plan, run=run)
    staged = site.stage(ahead=len(plan.megabatches))
    assert sorted(staged) == names(plan)


def free(site: Site, plan: Plan, *, run: str) -> None:
    """Report all megabatches of a run, and remove them."""
    for name in names(plan):
        site.report(name, run=run)
        site.remove(name)
        assert site.ledger.megabatch(name).state is State.REMOVED


def names(plan: Plan) -> list[str]:
    """Name all megabatches."""
    return [megabatch_id(plan.plan, number) for number in range(len(plan.megabatches))]
