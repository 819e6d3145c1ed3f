"""Reports reach the real receiver and its ledger, through everything that can come between."""

import os
import pickle
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

pytest.importorskip("sqlalchemy")  # the training side alone is installed without the receiver
pytest.importorskip("fastapi")
from chipmill.errors import NotifyError, RequestError, TransientError
from chipmill.formats import webhook
from chipmill.model.megabatch import State, megabatch_id
from chipmill.service.keys import run_key
from chipmill.train import ChipDataset, Notifier
from chipmill.train.notify import Completion
from chipmill.train.post import Backoff
from tests.train.desk import MASTER, PLAN, Desk, set_up, wait_until

QUICK = Backoff(first=0.02, longest=0.2)
FIRST = Completion(megabatch=megabatch_id(PLAN, 0), epoch=2, minibatches=9)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Give a receiver that may come up."""
    with set_up(tmp_path) as found:
        yield found


def notifier(
    desk: Desk,
    spool: Path,
    *,
    key: bytes = b"",
    attempt: int = 1,
    rank: int = 0,
    world: int = 1,
    held: bool = False,
) -> Notifier:
    """Make a notifier that tries often."""
    return Notifier(
        desk.url,
        run="run",
        attempt=attempt,
        key=key or run_key(MASTER, "run"),
        rank=rank,
        world_size=world,
        spool=spool,
        wait_for_checkpoint=held,
        backoff=QUICK,
    )


def opened(root: Path, notify: Notifier) -> ChipDataset:
    """Open the staged plan as the notifier's rank."""
    return ChipDataset(
        root / "archive",
        plan=PLAN,
        fast=root / "fast",
        rank=notify.rank,
        world_size=notify.world_size,
        notify=notify,
        wait_seconds=0,
        as_torch=False,
    )


def spooled(spool: Path) -> list[Path]:
    """List the messages that have not arrived."""
    return sorted(spool.glob("run/rank-*/*.json"))


def test_an_epoch_of_two_ranks_completes_all_megabatches(
    staged: Path, desk: Desk, tmp_path: Path
) -> None:
    """The whole way: the loops iterate, and the ledger asks for the cleanup of each megabatch."""
    with desk.up():
        ranks = [notifier(desk, tmp_path / "spool", rank=rank, world=2) for rank in (0, 1)]
        for notify in ranks:
            notify.begin(PLAN)
        for notify in ranks:
            assert desk.states() == [State.IN_USE] * 3
            with notify:
                assert len(list(opened(staged, notify))) > 3
        assert desk.states() == [State.COMPLETE] * 3
    assert [row.kind for row in desk.ledger.pending()] == ["stage", "cleanup", "cleanup", "cleanup"]
    assert spooled(tmp_path / "spool") == []


def test_a_broken_loop_reports_nothing_of_its_megabatch(
    staged: Path, desk: Desk, tmp_path: Path
) -> None:
    """G7: neither a break nor an exception completes what was being trained on."""
    with desk.up(), notifier(desk, tmp_path / "spool") as notify:
        notify.begin(PLAN)
        dataset = opened(staged, notify)
        last = dataset.minibatches_of(0) - 1
        for batch in dataset:
            if batch.position.minibatch == last:
                break
        with suppress(ZeroDivisionError):
            for batch in dataset:
                assert batch.position == (2, 0, last)
                raise ZeroDivisionError
        notify.close()
        assert desk.states() == [State.IN_USE] * 3


def test_a_checkpoint_comes_first_unless_said_otherwise(tmp_path: Path) -> None:
    """What is reported gets deleted: who says nothing must not lose what a run goes back to."""
    facts = {"run": "run", "key": bytes(32), "rank": 0, "world_size": 1, "spool": tmp_path}
    with Notifier("http://127.0.0.1:9", **facts) as notify:  # pyright: ignore[reportArgumentType]
        assert notify.wait_for_checkpoint


def test_a_megabatch_is_held_back_until_a_checkpoint_lies_beyond(
    staged: Path, desk: Desk, tmp_path: Path
) -> None:
    """G7: data that the last checkpoint still needs must not be deleted."""
    spool = tmp_path / "spool"
    with desk.up(), notifier(desk, spool, held=True) as notify:
        notify.begin(PLAN)
        dataset = opened(staged, notify)
        within: dict[str, object] = {}
        for batch in dataset:
            if batch.position.megabatch == 0:
                within = dataset.state_after(batch) if not batch.position.minibatch else within
            elif batch.position.minibatch == 1:
                assert spooled(spool) == []
                assert desk.states() == [State.IN_USE] * 3
                dataset.checkpoint_saved(within)
                assert spooled(spool) == []
                dataset.checkpoint_saved(dataset.state_dict(), name="s3://bucket/step-9")
                break
        notify.close()
        assert desk.states() == [State.COMPLETE, State.IN_USE, State.IN_USE]


def test_each_checkpoint_releases_what_lies_before_it(
    staged: Path, desk: Desk, tmp_path: Path
) -> None:
    """G7: rare checkpoints hold several megabatches; one that is older than another frees none."""
    with desk.up(), notifier(desk, tmp_path / "spool", held=True) as notify:
        notify.begin(PLAN)
        dataset = opened(staged, notify)
        start = dataset.state_dict()
        assert list(dataset)
        for behind, then in ((1, 1), (0, 1), (2, 2)):
            dataset.checkpoint_saved({**start, "megabatch": behind})
            assert notify.counts()[1] == 0
            wait_until(lambda: not notify.counts()[0])
            complete = [state is State.COMPLETE for state in desk.states()]
            assert complete == [number < then for number in range(3)]


def test_only_the_parent_process_reports(staged: Path, desk: Desk, tmp_path: Path) -> None:
    """A worker process gets the dataset without the notifier: it cannot know what is consumed."""
    with notifier(desk, tmp_path / "spool") as notify:
        copy = pickle.loads(pickle.dumps(opened(staged, notify)))  # noqa: S301 - our own bytes
        assert list(copy)
        assert spooled(tmp_path / "spool") == []


def test_a_report_waits_for_a_receiver_that_is_down(
    staged: Path, desk: Desk, tmp_path: Path
) -> None:
    """Training does not notice that the receiver is away; the report comes when it is back."""
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    notify = notifier(desk, tmp_path / "spool")
    dataset = opened(staged, notify)
    assert list(dataset)
    notify.flush()
    assert len(spooled(tmp_path / "spool")) == 3
    assert dataset.stats()["reports_waiting"] == 3
    with pytest.raises(TransientError, match=r"3 reports .* within 0 s; they stay in"):
        notify.close(0.1)
    with desk.up(), notifier(desk, tmp_path / "spool"):
        pass
    assert desk.states() == [State.COMPLETE] * 3


def test_a_receiver_that_comes_up_in_time_gets_the_report(desk: Desk, tmp_path: Path) -> None:
    """Within one process too: the thread tries on, and close waits for it."""
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    with notifier(desk, tmp_path / "spool") as notify:
        notify.completed(FIRST)
        notify.completed(FIRST)
        time.sleep(0.1)
        with desk.up():
            notify.close()
    assert desk.states()[0] is State.COMPLETE


KILLED = """
import os, signal, sys
from pathlib import Path
from chipmill.train.notify import Completion, Notifier
url, spool, megabatch = sys.argv[1:]
notify = Notifier(url, run="run", key=bytes(32), rank=0, world_size=1, spool=Path(spool))
notify.completed(Completion(megabatch=megabatch, epoch=2, minibatches=9))
notify.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_report_for_the_next(desk: Desk, tmp_path: Path) -> None:
    """What `flush` has waited for is durable: kill -9 does not lose it."""
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    command = [sys.executable, "-c", KILLED, desk.url, str(tmp_path / "spool"), FIRST.megabatch]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    assert len(spooled(tmp_path / "spool")) == 1
    with desk.up(), notifier(desk, tmp_path / "spool"):
        pass
    assert desk.states()[0] is State.COMPLETE
    assert spooled(tmp_path / "spool") == []


def test_a_new_attempt_reports_by_its_checkpoint(staged: Path, desk: Desk, tmp_path: Path) -> None:
    """The last attempt's words count no more; the state says again what lies behind it."""
    spool = tmp_path / "spool"
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    dead = notifier(desk, spool, held=True)
    dataset = opened(staged, dead)
    assert list(dataset)
    state = {**dataset.state_dict(), "megabatch": 2}
    dataset.checkpoint_saved({**state, "megabatch": 1})
    with pytest.raises(TransientError):
        dead.close(0)
    assert [path.name[0] for path in spooled(spool)] == ["1"]
    with desk.up(), notifier(desk, spool, attempt=2) as notify:
        notify.begin(PLAN)
        wait_until(lambda: not spooled(spool))
        resumed = opened(staged, notify)
        resumed.load_state_dict(state)
        wait_until(lambda: desk.states()[:2] == [State.COMPLETE] * 2)
        assert desk.states()[2] is State.IN_USE
        assert list(resumed)
    assert desk.states() == [State.COMPLETE] * 3


def test_a_repeat_waits_until_the_megabatch_is_in_use(desk: Desk, tmp_path: Path) -> None:
    """A ledger that stages from the start frees what the run has behind it, once it may."""
    with desk.up(), notifier(desk, tmp_path / "spool") as notify:
        notify.repeat([FIRST])
        time.sleep(0.1)
        assert desk.states()[0] is State.READY
        notify.begin(PLAN)
        wait_until(lambda: desk.states()[0] is State.COMPLETE)


def test_newer_repeats_replace_older_ones(desk: Desk, tmp_path: Path) -> None:
    """A run that goes back further needs again what it had behind it a moment ago."""
    with desk.up(), notifier(desk, tmp_path / "spool") as notify:
        notify.repeat([FIRST])
        time.sleep(0.05)
        notify.repeat([])
        time.sleep(0.05)
        notify.begin(PLAN)
        time.sleep(0.3)
        assert desk.states()[0] is State.IN_USE
        notify.repeat([FIRST])
        wait_until(lambda: desk.states()[0] is State.COMPLETE)


ENDED = """
import sys
from pathlib import Path
from chipmill.train.notify import Completion, Notifier
url, spool, megabatch = sys.argv[1:]
notify = Notifier(url, run="run", key=bytes(32), rank=0, world_size=1, spool=Path(spool))
notify.completed(Completion(megabatch=megabatch, epoch=2, minibatches=9))
"""


def test_a_process_that_ends_leaves_its_report_for_the_next(desk: Desk, tmp_path: Path) -> None:
    """A loop that forgets to close, or fails, has its last report in the spool all the same."""
    command = [sys.executable, "-c", ENDED, desk.url, str(tmp_path / "spool"), FIRST.megabatch]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    assert len(spooled(tmp_path / "spool")) == 1


def test_a_wrong_key_is_an_error_of_begin_and_close(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A misconfigured run learns of it, but not by its loop; the report stays for the right key."""
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    with desk.up():
        notify = notifier(desk, tmp_path / "spool", key=bytes(32))
        with pytest.raises(NotifyError, match=r"answer 401 .*check that the key"):
            notify.begin(PLAN)
        notify.completed(FIRST)
        wait_until(lambda: notify.counts() == (0, 1))
        assert "answer 401" in notify.problems[0]
        notify.completed(FIRST)
        with pytest.raises(NotifyError, match="answer 401"):
            notify.close()
        assert "nothing more of this run is deleted" in caplog.text
        assert len(spooled(tmp_path / "spool")) == 1
        with notifier(desk, tmp_path / "spool"):
            pass
    assert desk.states()[0] is State.COMPLETE


def test_a_zombie_is_stopped(desk: Desk, tmp_path: Path) -> None:
    """An older attempt that lives on is told so, and frees nothing."""
    desk.ledger.begin_run("run", attempt=2, world=1, plan=PLAN)
    with desk.up():
        notify = notifier(desk, tmp_path / "spool", attempt=1)
        notify.completed(FIRST)
        with pytest.raises(NotifyError, match=r"zombie.*its own attempt number"):
            notify.close()
    assert desk.states()[0] is State.IN_USE


def test_beginning_needs_a_receiver(desk: Desk, tmp_path: Path) -> None:
    """Rank 0 finds out at the start that nobody listens; the other ranks say nothing."""
    with pytest.raises(TransientError, match=r"no answer .*is the receiver up"):
        notifier(desk, tmp_path / "spool").begin(PLAN, patience=0.1)
    notifier(desk, tmp_path / "spool", rank=1, world=2).begin(PLAN)
    with desk.up(), pytest.raises(NotifyError, match="answer 404"):
        notifier(desk, tmp_path / "spool").begin("f" * 16)


def test_a_locked_ledger_is_tried_again(desk: Desk, tmp_path: Path) -> None:
    """503 is not a refusal; the pause that the receiver asks for is kept within our longest."""
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    lock = sqlite3.connect(desk.database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    with desk.up(), notifier(desk, tmp_path / "spool") as notify:
        notify.completed(FIRST)
        with pytest.raises(TransientError):
            notify.begin(PLAN, patience=0.1)
        lock.execute("ROLLBACK")
        lock.close()
        notify.close()
    assert desk.states()[0] is State.COMPLETE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"receiver_url": "127.0.0.1:8787"}, "not the URL"),
        ({"receiver_url": "http://[::1"}, "not the URL"),
        ({"receiver_url": "http://receiver:99999"}, "not the URL"),
        ({"run": "a run"}, "run name 'a run'"),
        ({"attempt": 0}, "attempt 0"),
        ({"rank": 2}, "rank 2 of 2"),
    ],
)
def test_facts_that_no_receiver_accepts_are_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    """A mistake of the start shows at the start, not after the first megabatch."""
    facts: dict[str, object] = {"receiver_url": "http://127.0.0.1:1", "run": "run", "attempt": 1}
    facts |= {"key": bytes(32), "rank": 0, "world_size": 2, "spool": tmp_path}
    with pytest.raises(RequestError, match=said):
        Notifier(**facts | change)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("url", ["http://a..b:1", "http://a\x01b"])
def test_a_host_that_cannot_be_does_not_end_the_thread(url: str, tmp_path: Path) -> None:
    """It is found when a post is tried, and is told as a refusal is."""
    facts = {"run": "run", "key": bytes(32), "world_size": 2, "spool": tmp_path}
    zero = Notifier(url, rank=0, **facts)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotifyError, match="is no address"):
        zero.begin(PLAN)
    zero.close()
    one = Notifier(url, rank=1, **facts)  # pyright: ignore[reportArgumentType]
    one.completed(Completion(megabatch=f"{PLAN}-00000", epoch=0, minibatches=1))
    wait_until(lambda: one.counts() == (0, 1))
    with pytest.raises(NotifyError, match="is no address"):
        one.close()


def test_who_holds_reports_of_several_megabatches_is_warned(
    staged: Path, desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is staged behind them, so a loop that never saves would wait for ever."""
    with desk.up(), notifier(desk, tmp_path / "spool", held=True) as notify:
        notify.begin(PLAN)
        assert list(opened(staged, notify))
    said = [one.message for one in caplog.records if one.levelname == "WARNING"]
    assert any("checkpoint_saved(state)" in one for one in said)


def test_dataset_and_notifier_are_of_one_rank(staged: Path, desk: Desk, tmp_path: Path) -> None:
    """Reports in another rank's name would free data that this rank still reads."""
    notify = notifier(desk, tmp_path / "spool", rank=1, world=2)
    with pytest.raises(RequestError, match="give both the same"):
        ChipDataset(staged / "archive", plan=PLAN, fast=staged / "fast", notify=notify)
    notify.close()


def test_a_spool_that_cannot_be_written_does_not_stop_the_loop(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop goes on; who asks is told that a report is not durable, until it can be made so."""
    (tmp_path / "spool").write_text("a file is in the way")
    notify = notifier(desk, tmp_path / "spool")
    notify.completed(FIRST)
    with pytest.raises(
        TransientError, match=r"1 reports .* not durable: .*spool .* cannot be used"
    ):
        notify.flush(0.2)
    assert caplog.text.count("cannot be used") == 1
    (tmp_path / "spool").unlink()
    notify.flush(30)
    assert notify.problems == ()
    assert len(spooled(tmp_path / "spool")) == 1
    with pytest.raises(TransientError, match="they stay in"):
        notify.close(0)


def test_a_disk_that_hangs_does_not_stop_the_loop(staged: Path, desk: Desk, tmp_path: Path) -> None:
    """A mount that is gone answers nobody; a pipe without a reader does so to who opens it."""
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    folder = tmp_path / "spool" / "run" / "rank-0"
    folder.mkdir(parents=True)
    with notifier(desk, tmp_path / "spool") as notify:
        dataset = opened(staged, notify)
        first = next(iter(dataset))
        name = webhook.completion_id("run", 1, epoch=2, megabatch=megabatch_id(PLAN, 0), rank=0)
        pipe = folder / f"1-{name}.tmp"
        os.mkfifo(pipe)
        assert first.position.megabatch == 0
        assert len(list(dataset)) > 1
        with pytest.raises(TransientError, match=r"reports .* not durable: .* is slow"):
            notify.flush(0.1)
        with desk.up():
            wait_until(lambda: desk.states() == [State.COMPLETE] * 3, seconds=60)
        with pipe.open("rb"):  # the disk is back
            pipe.unlink()
            notify.flush(60)
        assert spooled(tmp_path / "spool") == []


def test_a_key_is_not_shown(desk: Desk, tmp_path: Path) -> None:
    """Logs print objects; a key must not be in them."""
    with notifier(desk, tmp_path / "spool", key=b"k" * 32) as notify:
        assert "kkkk" not in repr(notify)


@given(tries=st.integers(0, 10**6), asked=st.floats(0, 10**9))
def test_pauses_grow_to_a_limit(tries: int, asked: float) -> None:
    """Full jitter: between 0 and the exponential, at least what the receiver asks, never more."""
    backoff = Backoff(first=1.0, longest=300.0)
    assert min(asked, 300.0) <= backoff.pause(tries, at_least=asked) <= 300.0
    assert 0 <= backoff.pause(tries) <= min(300.0, 2.0 ** min(tries, 9))


@pytest.mark.parametrize("rank", [0, 1])
def test_the_last_word_on_an_earlier_plan_arrives(desk: Desk, tmp_path: Path, rank: int) -> None:
    """A run that died in its second epoch reports the end of the first by its next attempt."""
    spool, second = tmp_path / "spool", "f" * 16
    desk.ledger.register_plan(second, "{}", needs=[10])
    desk.ledger.begin_run("run", attempt=1, world=2, plan=PLAN)
    desk.ledger.begin_run("run", attempt=1, world=2, plan=second)
    with desk.up(), notifier(desk, spool, rank=1 - rank, world=2) as other:
        other.completed(FIRST)
    dead = notifier(desk, spool, rank=rank, world=2)
    dead.completed(FIRST)
    dead.completed(Completion(megabatch=megabatch_id(second, 0), epoch=1, minibatches=1))
    with pytest.raises(TransientError):
        dead.close(0)
    assert len(spooled(spool)) == 2
    with desk.up():
        desk.ledger.begin_run("run", attempt=2, world=2, plan=second)
        with notifier(desk, spool, attempt=2, rank=rank, world=2) as notify:
            assert len(spooled(spool)) == 2
            notify.begin(second)
        assert spooled(spool) == []
    assert desk.states()[0] is State.COMPLETE
    assert desk.ledger.megabatch(megabatch_id(second, 0)).state is State.PLANNED


def test_an_earlier_word_that_counts_no_more_is_no_error(desk: Desk, tmp_path: Path) -> None:
    """The next attempt has begun on that plan too, and reports it itself."""
    spool, second = tmp_path / "spool", "f" * 16
    desk.ledger.register_plan(second, "{}", needs=[10])
    desk.ledger.begin_run("run", attempt=1, world=1, plan=PLAN)
    dead = notifier(desk, spool)
    dead.completed(FIRST)
    with pytest.raises(TransientError):
        dead.close(0)
    desk.ledger.begin_run("run", attempt=2, world=1, plan=PLAN)
    with desk.up(), notifier(desk, spool, attempt=2) as notify:
        notify.begin(second)
        notify.close()
        assert notify.problems == ()
    assert spooled(spool) == []
    assert desk.states()[0] is State.IN_USE
