"""`chipmill ledger` shows what is, and repairs it with a record of who and why."""

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chipmill.cli import app
from chipmill.io.ledger import LEASE
from chipmill.model.megabatch import State, megabatch_id
from tests.storage.site import Site


class Shell:
    """Runs commands at a site."""

    def __init__(self, site: Site) -> None:
        """Begin with the site's settings."""
        self._env = {
            "CHIPMILL_ARCHIVE": site.archive.url,
            "CHIPMILL_FAST": str(site.fast),
            "CHIPMILL_LEDGER": site.url,
            "CHIPMILL_BUDGET": "1000000",
        }

    def run(self, *words: str) -> Result:
        """Run one command."""
        return CliRunner().invoke(app, [*words], env=self._env)

    def said(self, *words: str) -> str:
        """Run a command that succeeds; gives what it printed."""
        done = self.run(*words)
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def shell(site: Site) -> Shell:
    """Give a shell at the site."""
    return Shell(site)


def test_show_has_all_that_a_person_asks_for(site: Site, shell: Shell) -> None:
    """States, leases, bytes against the budget, missing ranks, the outbox and reasons."""
    plan = site.plan()
    site.ledger.begin_run("run-7", attempt=2, world=3, plan=plan.plan)
    first, second, third = (megabatch_id(plan.plan, number) for number in range(3))
    site.stage(ahead=0)
    site.ledger.claim_staging(second, budget=10**9, worker="worker-5")
    fence = site.ledger.claim_staging(third, budget=10**9, worker="worker-6")
    site.ledger.give_up(third, fence, reason="the disk is full")
    lines = shell.said("ledger", "show").splitlines()
    reserved = f"{site.ledger.reserved():,} of 1,000,000 bytes are reserved"
    assert lines[0].startswith(reserved)
    (line,) = [line for line in lines if line.startswith(second)]
    assert re.search(r"staging +1 +[\d,]+ +1[012]\d s more +worker-5", line)
    (line,) = [line for line in lines if line.startswith(third)]
    assert line.endswith("the disk is full")
    (line,) = [line for line in lines if line.startswith("run-7") and first in line]
    assert line.endswith("3: 0, 1, 2")
    assert any(re.match(rf" *\d+  stage +{plan.plan} ", line) for line in lines)
    said: dict[str, Any] = json.loads(shell.said("ledger", "show", "--json"))
    assert said["budget"] == 10**6
    assert said["reserved"] == site.ledger.reserved()
    assert {row["id"]: row["state"] for row in said["current"]}[second] == "staging"
    assert said["waiting"] == [{"megabatch": first, "run": "run-7", "missing": [0, 1, 2]}]


def test_a_repair_is_one_row_of_history(site: Site, shell: Shell) -> None:
    """A worker is dead: its lease is freed, its staging given up, and both say who and why."""
    plan = site.plan()
    name = megabatch_id(plan.plan, 0)
    fence = site.ledger.claim_staging(name, budget=10**9, worker="dead")
    site.folder(plan).mkdir(parents=True)
    (site.folder(plan) / ".tmp-1-x.arrow").write_bytes(b"half")
    refused = shell.run("ledger", "give-up", name, "--why", "hurry")
    assert refused.exit_code == 1
    assert "whose lease lasts" in refused.output
    shell.said("ledger", "free-lease", name, "--why", "host 5 burnt down")
    shell.said("ledger", "give-up", name, "--why", "not needed")
    assert site.state(plan) is State.PLANNED
    assert not site.folder(plan).exists()
    freed, taken, given_up = site.ledger.history(name)[1:]
    assert (freed.was, freed.now, freed.why) == (State.STAGING, State.STAGING, "host 5 burnt down")
    assert (given_up.now, given_up.why) == (State.PLANNED, "not needed")
    assert freed.actor == taken.actor == given_up.actor
    assert " at " in freed.actor
    said = shell.said("ledger", "history", name)
    assert "staging -> planned" in said
    assert "host 5 burnt down" in said
    assert json.loads(shell.said("ledger", "history", name, "--json"))["history"][1]["why"]
    assert fence == 1


def test_ready_ones_are_abandoned_and_planned_again(site: Site, shell: Shell) -> None:
    """Space that nobody uses is freed on purpose; a rollback gets it back on purpose."""
    plan = site.plan()
    site.stage(plan.plan, ahead=0)
    name = megabatch_id(plan.plan, 0)
    assert "is removed" in shell.said("ledger", "abandon", name, "--why", "space")
    assert site.ledger.history(name)[-2].why == "space"
    assert site.on_disk() == 0
    assert "generation 2" in shell.said("ledger", "plan-again", name, "--why", "rollback")
    assert site.ledger.history(name)[-1].why == "rollback"
    for words in (["free-lease", name], ["give-up", name], ["plan-again", name]):
        done = shell.run("ledger", *words, "--why", "wrong")
        assert done.exit_code == 1
        assert f"megabatch {name} is planned" in done.output


def test_what_a_run_reads_is_not_abandoned(site: Site, shell: Shell) -> None:
    """No repair takes data from under a trainer."""
    plan = site.plan()
    site.begin(plan)
    (name,) = site.stage(ahead=0)
    done = shell.run("ledger", "abandon", name, "--why", "hurry", "--lost")
    assert done.exit_code == 1
    assert "in_use" in done.output
    assert site.folder(plan).exists()


def test_the_outbox_is_retried(site: Site, shell: Shell) -> None:
    """The server is up again, and the next try would be in a minute."""
    site.begin(site.plan())
    (row,) = site.ledger.pending()
    site.ledger.postpone(row.id, "down", delay=LEASE)
    assert site.ledger.pending() == []
    shell.said("ledger", "retry", str(row.id))
    assert [due.id for due in site.ledger.pending()] == [row.id]


def test_the_flows_work_is_done_in_one_process(site: Site, shell: Shell) -> None:
    """Without Prefect: stage, report, clean up, reconcile."""
    plan = site.plan()
    site.begin(plan)
    assert shell.said("stage").count("is staged") == 2
    site.report(megabatch_id(plan.plan, 0))
    assert "bytes are freed" in shell.said("cleanup", megabatch_id(plan.plan, 0))
    site.report(megabatch_id(plan.plan, 1))
    assert "removed" in shell.said("reconcile")
    assert site.state(plan, 1) is State.REMOVED
