"""The order, the content and the position of a rank's batches."""

import itertools
import logging
import pickle
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from chipmill.errors import MissingError, PackError, RequestError, TransientError
from chipmill.formats.manifest import decode_manifest
from chipmill.train import Batch, ChipDataset
from chipmill.train.iteration import Iteration
from chipmill.train.memory import ReusedMemory
from chipmill.train.ready import Patience, wait_for_megabatch
from chipmill.train.source import FastStorage
from chipmill.train.state import read_state
from chipmill.train.stream import Reader, stretches
from chipmill.train.tensors import torch_is_here
from chipmill.train.view import View

PLAN = "0123456789abcdef"
Build = Callable[..., Path]
Value = Callable[[int, int, int, int, int], int]
Chips = list[tuple[str, ...]]


def opened(root: Path, *, rank: int = 0, world: int = 1, wait: float = 0.0) -> ChipDataset:
    """Open the staged plan for arrays."""
    return ChipDataset(
        root / "archive",
        plan=PLAN,
        fast=root / "fast",
        rank=rank,
        world_size=world,
        wait_seconds=wait,
        as_torch=False,
    )


def batches(dataset: ChipDataset) -> list[Batch]:
    """Iterate to the end."""
    found = list(dataset)
    assert all(isinstance(batch, Batch) for batch in found)
    return [batch for batch in found if isinstance(batch, Batch)]


def chips(dataset: ChipDataset) -> Chips:
    """Name the chips of each batch, to the end."""
    return [batch.chip_ids for batch in batches(dataset)]


def whole(root: Path, *, world: int) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Put the shares of all ranks together, minibatch by minibatch, as (position, chips)."""
    shares = [batches(opened(root, rank=rank, world=world)) for rank in range(world)]
    found: dict[tuple[int, ...], tuple[str, ...]] = {}
    for batch in itertools.chain(*shares):
        found[batch.position] = found.get(batch.position, ()) + batch.chip_ids
    return sorted(found.items())


def all_chips(root: Path) -> Counter[str]:
    """Name every chip that is staged."""
    found: Counter[str] = Counter()
    for path in root.glob("fast/*/*/manifest.json"):
        for pack in decode_manifest(path.read_bytes(), where="").packs:
            found.update(f"{pack.collection}/{pack.scene}/{i}-0" for i in range(pack.chips))
    return found


def test_every_chip_comes_once_where_left_overs_are_spread(build: Build, tmp_path: Path) -> None:
    """G1: an epoch is each chip once; nothing is padded, nothing is lost."""
    root = build(tmp_path, [[(0, 5), (0, 9), (1, 3), (1, 2)], [(0, 2), (1, 7)]], leftover="spread")
    for world in (1, 2, 4):
        seen = Counter(chip for _, share in whole(root, world=world) for chip in share)
        assert seen == all_chips(root)


def test_only_the_reported_chips_are_dropped(staged: Path) -> None:
    """G1: what does not come is exactly what the plan said would be left over."""
    dataset = opened(staged)
    seen = Counter(chip for share in chips(dataset) for chip in share)
    assert max(seen.values()) == 1
    assert not seen - all_chips(staged)
    left = sum(megabatch.left_over for megabatch in dataset.plan.megabatches)
    assert (all_chips(staged) - seen).total() == left


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_each_pixel_is_that_of_its_chip_and_band(
    build: Build, value: Value, tmp_path: Path, compression: str | None
) -> None:
    """A batch row is its chip: pixels, place, time and band facts come from the same scene."""
    root = build(tmp_path, [[(0, 5), (0, 4), (1, 4), (1, 5)]], minibatch=2, compression=compression)
    shapes = {"alike": [(16, 16)] * 3, "mixed": [(8, 8), (16, 16), (5, 6)]}
    for batch in batches(opened(root)):
        assert batch.pixels.dtype == (np.uint16 if batch.collection == "alike" else np.int32)
        for row, chip_id in enumerate(batch.chip_ids):
            collection, scene_id, place = chip_id.split("/")
            scene, chip = int(scene_id[1:]), int(place.split("-")[0])
            assert collection == batch.collection
            expected = [
                [
                    [value(scene, chip, b, y * h // 16, x * w // 16) for x in range(16)]
                    for y in range(16)
                ]
                for b, (h, w) in enumerate(shapes[collection])
            ]
            np.testing.assert_array_equal(batch.pixels[row], expected)
            np.testing.assert_allclose(batch.latlon[row], [scene + chip / 100, -scene - chip / 100])
            assert batch.time[row] == np.datetime64("2024-01-01") + np.timedelta64(scene, "h")
            assert batch.cloud_fraction[row] == chip / 128
            red = batch.bands.index("red")
            assert batch.wavelength[row, red] == np.float32(0.665 + 0.001 * (scene % 2))


def test_unknown_band_facts_are_nan(staged: Path) -> None:
    """A model must be able to tell "not known" from a value; known ones keep their place."""
    mixed = next(batch for batch in batches(opened(staged)) if batch.collection == "mixed")
    assert mixed.bands == ("mask", "red", "cold")
    assert np.isnan(mixed.wavelength[:, [0, 2]]).all()
    np.testing.assert_array_equal(mixed.mean[0], [1.5, np.nan, np.nan])
    np.testing.assert_array_equal(mixed.scale[0], [1.0, 1.0, 0.5])
    np.testing.assert_array_equal(mixed.gsd[0], [10, 10, 30])
    assert mixed.wavelength.shape == (len(mixed), 3)


def test_no_parent_scene_twice_in_a_minibatch(staged: Path) -> None:
    """G5: chips of one scene are alike; a minibatch of them is a worse gradient."""
    for batch in batches(opened(staged)):
        parents = [chip.rsplit("/", 1)[0] for chip in batch.chip_ids]
        assert len(set(parents)) == len(parents) == 4


def test_the_order_does_not_depend_on_the_world(staged: Path) -> None:
    """G2, G3: ranks slice one global sequence, and a rerun gives it again."""
    alone = whole(staged, world=1)
    assert whole(staged, world=1) == alone
    for world in (2, 3, 4):
        assert whole(staged, world=world) == alone


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_resuming_anywhere_gives_the_tail(staged: Path, data: st.DataObject) -> None:
    """G4: a stop after any batch and a start in any other world changes nothing."""
    alone = whole(staged, world=1)
    stop = data.draw(st.integers(0, len(alone)))
    before, after = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.sampled_from([1, 2, 4]))
    states: list[dict[str, object]] = []
    for rank in range(before):
        dataset = opened(staged, rank=rank, world=before)
        stream = iter(dataset)
        for batch in itertools.islice(stream, stop):
            dataset.done(batch)
        states.append(dataset.state_dict())
    assert all(state == states[0] for state in states)
    shares: list[Chips] = []
    for rank in range(after):
        dataset = opened(staged, rank=rank, world=after)
        dataset.load_state_dict(states[0])
        shares.append(chips(dataset))
    tail = [sum(share, start=()) for share in zip(*shares, strict=True)]
    assert tail == [share for _, share in alone[stop:]]


@settings(max_examples=25, deadline=None)
@given(workers=st.integers(1, 5), start=st.integers(0, 12), world=st.sampled_from([1, 2]))
def test_asking_workers_in_turn_gives_the_order(
    staged: Path, workers: int, start: int, world: int
) -> None:
    """G2: whole minibatches are striped over workers, counted on over all megabatches."""
    dataset = opened(staged, world=world)
    for batch in itertools.islice(dataset, start):
        dataset.done(batch)
    reader = Reader(
        source=FastStorage(staged / "fast", dataset.plan),
        rank=0,
        world_size=world,
        patience=Patience(seconds=0),
        view=View(),
        memory=ReusedMemory(),
    )
    state = read_state(dataset.state_dict(), plan=dataset.plan)
    shares: list[Chips] = []
    for number in range(workers):
        share = (number, workers)
        stream = stretches(reader, state.position, manifest=state.manifest, worker=share)
        shares.append([batch.chip_ids for stretch in stream for batch in stretch.batches])
    rounds = itertools.zip_longest(*shares)
    in_turn = [found for one_round in rounds for found in one_round if found is not None]
    assert in_turn == chips(opened(staged, world=world))[start:]


@pytest.mark.skipif(torch_is_here(), reason="torch is installed")
def test_tensors_without_torch_are_refused_at_once(staged: Path) -> None:
    """A missing package shows at the start, with the name of the extra that brings it."""
    with pytest.raises(RequestError, match=r"install chipmill\[train\]"):
        ChipDataset(staged / "archive", plan=PLAN, fast=staged / "fast", as_torch=True)
    with pytest.raises(RequestError, match="torch is not installed"):
        batches(opened(staged))[0].to_torch()


def test_a_batch_is_consumed_when_the_next_is_asked_for(staged: Path) -> None:
    """A loop that breaks has not trained on the batch it holds; that batch comes again."""
    dataset = opened(staged)
    seen: Chips = []
    for batch in dataset:
        seen.append(batch.chip_ids)
        if len(seen) == 3:
            break
    assert dataset.state_dict()["minibatch"] == 2
    assert chips(dataset)[0] == seen[-1]


def test_a_state_for_a_checkpoint_can_be_told_ahead(staged: Path) -> None:
    """A checkpoint after a step counts this step, before the loop asks for the next batch."""
    dataset = opened(staged)
    for batch in dataset:
        ahead = dataset.state_after(batch)
        dataset.done(batch)
        assert dataset.state_dict() == ahead


def test_at_the_end_nothing_comes_and_the_state_says_so(staged: Path) -> None:
    """An epoch ends; a state of its end resumes to nothing, not to a second epoch."""
    dataset = opened(staged)
    assert chips(dataset)
    assert chips(dataset) == []
    end = dataset.state_dict()
    assert (end["megabatch"], end["minibatch"], end["manifest"]) == (3, 0, None)
    again = opened(staged)
    again.load_state_dict(end)
    assert chips(again) == []


def test_the_last_batch_of_a_megabatch_leaves_it_behind(staged: Path) -> None:
    """With loader workers nobody asks for the next batch here: `done` alone must say it."""
    dataset = opened(staged)
    last = dataset.minibatches_of(0) - 1
    for batch in dataset:
        dataset.done(batch)
        expected = (1, 0) if batch.position.minibatch == last else (0, batch.position.minibatch + 1)
        state = dataset.state_dict()
        assert (state["megabatch"], state["minibatch"]) == expected
        if batch.position.minibatch == last:
            break


def test_stats_count_what_is_consumed_once(staged: Path) -> None:
    """The figures of a training log are those of the plan, however often `done` is said."""
    dataset = opened(staged)
    assert dataset.stats()["chips"] == 0
    for batch in dataset:
        dataset.done(batch)
        dataset.done(batch)
    planned = [dataset.minibatches_of(number) for number in range(3)]
    stats = dataset.stats()
    seconds = stats.pop("seconds")
    assert 0 <= stats.pop("wait_seconds") <= seconds
    assert 0 <= stats.pop("wait_fraction") <= 1
    assert seconds > 0
    chips_read = 4 * sum(planned)
    assert 0 < stats.pop("chips_per_second") <= 1.001 * chips_read / seconds
    assert stats.pop("megabytes_per_second") > 0
    assert stats == {
        "minibatches": sum(planned),
        "chips": chips_read,
        "megabytes": sum(batch.nbytes for batch in batches(opened(staged))) / 1e6,
        "megabatches": 3,
        "reports_waiting": 0,
        "reports_refused": 0,
        "stall_seconds": 0,
        "stall_fraction": 0,
        "megabatch": 3,
        "minibatch": 0,
    }
    with pytest.raises(RequestError, match="no megabatch 3"):
        dataset.minibatches_of(3)


def test_peeking_changes_nothing(staged: Path) -> None:
    """G6: the next megabatch may be looked at, as often as one likes."""
    dataset, seen = opened(staged), Chips()
    for batch in dataset:
        manifest = dataset.peek()
        following = batch.position.megabatch + 1
        assert (manifest and manifest.megabatch) == (following if following < 3 else None)
        seen.append(batch.chip_ids)
    assert seen == chips(opened(staged))


def test_a_rank_without_a_chip_of_a_minibatch_skips_it(build: Build, tmp_path: Path) -> None:
    """Short minibatches may not reach all ranks; the others still get each chip once."""
    root = build(tmp_path, [[(0, 7), (0, 2), (0, 1)], [(0, 1)], [(0, 3)]], leftover="spread")
    datasets = [opened(root, rank=rank, world=4) for rank in range(4)]
    shares = [batches(dataset) for dataset in datasets]
    assert all(len(batch) for share in shares for batch in share)
    assert len({len(share) for share in shares}) > 1
    seen = Counter(chip for share in shares for batch in share for chip in batch.chip_ids)
    assert seen == all_chips(root)
    assert {str(dataset.state_dict()) for dataset in datasets} == {str(datasets[0].state_dict())}


def test_ranks_without_a_share_hold_up_nobody(build: Build, tmp_path: Path) -> None:
    """A megabatch may be staged only when all ranks are done with the one before.

    A rank that had nothing of its last minibatches, and stood before these, would hold up all.
    """
    root = build(tmp_path, [[(0, 7), (0, 2), (0, 1)], [(0, 1)], [(0, 3)]], leftover="spread")
    expected = [chips(opened(root, rank=rank, world=4)) for rank in range(4)]
    late = [root / "fast" / PLAN / f"{number:05}" for number in (1, 2)]
    hidden = [folder.rename(tmp_path / f"hidden-{folder.name}") for folder in late]
    ranks = [opened(root, rank=rank, world=4, wait=60) for rank in range(4)]
    seen: list[Chips] = [[] for _ in ranks]

    def train(rank: int) -> None:
        # As a loader's workers do, another dataset of the same rank reads.
        reader = iter(opened(root, rank=rank, world=4, wait=60))
        seen[rank].extend(batch.chip_ids for batch in ranks[rank].steps(reader))

    threads = [threading.Thread(target=train, args=(rank,), daemon=True) for rank in range(4)]
    for thread in threads:
        thread.start()
    for number, (folder, aside) in enumerate(zip(late, hidden, strict=True), 1):
        deadline = time.monotonic() + 30
        while min(int(str(rank.state_dict()["megabatch"])) for rank in ranks) < number:
            assert time.monotonic() < deadline, f"a rank never got beyond megabatch {number - 1}"
            time.sleep(0.01)
        aside.rename(folder)
    for thread in threads:
        thread.join(60)
    assert seen == expected


def test_a_late_megabatch_is_waited_for(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """G8: training goes on by itself when staging catches up, and says what it waited for."""
    root = build(tmp_path, [[(0, 2), (0, 2)], [(0, 2), (0, 2)]], minibatch=2)
    expected = chips(opened(root))
    late = root / "fast" / PLAN / "00001"
    hidden = late.rename(tmp_path / "hidden")
    dataset = opened(root, wait=30)
    assert dataset.peek() is None
    timer = threading.Timer(0.5, lambda: hidden.rename(late))
    timer.start()
    with caplog.at_level(logging.WARNING, logger="chipmill"):
        assert chips(dataset) == expected
    timer.join()
    assert 0.3 < dataset.stats()["stall_seconds"] < 5
    assert [str(late) in line for line in caplog.messages] == [True]


def test_waiting_has_an_end(build: Build, tmp_path: Path) -> None:
    """G8: no silent starvation: after the deadline the error says where to look."""
    root = build(tmp_path, [[(0, 2), (0, 2)]], minibatch=2)
    shutil.rmtree(root / "fast")
    start = time.monotonic()
    with pytest.raises(TransientError, match=r"not ready after 0 s.*00000.*stage flow"):
        chips(opened(root, wait=0.3))
    assert 0.3 <= time.monotonic() - start < 3


def test_a_worker_that_is_not_the_first_waits_quietly(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line a minute is enough for all workers of a rank."""
    root = build(tmp_path, [[(0, 2), (0, 2)]], minibatch=2)
    shutil.rmtree(root / "fast")
    plan = opened(root).plan
    with pytest.raises(TransientError):
        wait_for_megabatch(
            FastStorage(root / "fast", plan), 0, patience=Patience(seconds=0, quiet=True)
        )
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("rank", "world", "said"),
    [(2, 2, "rank 2 is not"), (-1, 2, "rank -1"), (0, 0, "world of 0"), (0, 5, "none for some")],
)
def test_ranks_must_fit(staged: Path, rank: int, world: int, said: str) -> None:
    """A wrong rank would read another's share, or nothing for ever."""
    with pytest.raises(RequestError, match=said):
        opened(staged, rank=rank, world=world)


def test_an_unknown_plan_is_named(staged: Path) -> None:
    """A typing error says which plan is missing in which archive."""
    with pytest.raises(MissingError, match=r"no plan ffffffffffffffff in the archive file:"):
        ChipDataset(staged / "archive", plan="f" * 16, fast=staged / "fast")
    with pytest.raises(RequestError, match="16 hex digits"):
        ChipDataset(staged / "archive", plan="../secrets", fast=staged / "fast")


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("order_version", 99), ("plan", "f" * 16), ("seed", 8), ("megabatch", 1), ("minibatch", 2)],
)
def test_a_manifest_of_something_else_is_refused(
    build: Build, tmp_path: Path, field: str, wrong: object
) -> None:
    """Another manifest means another order: nobody may train on it unawares."""
    root = build(tmp_path, [[(0, 2), (0, 2)]], minibatch=4)
    path = root / "fast" / PLAN / "00000" / "manifest.json"
    manifest = decode_manifest(path.read_bytes(), where="")
    path.write_bytes(manifest.model_copy(update={field: wrong}).encode())
    with pytest.raises(PackError, match="where the plan says"):
        chips(opened(root))


def test_a_plan_of_another_order_is_refused(build: Build, tmp_path: Path) -> None:
    """A newer chipmill does not silently train in another order than was planned."""
    root = build(tmp_path, [[(0, 2), (0, 2)]], minibatch=2)
    path = root / "archive" / "plans" / PLAN / "plan.json"
    path.write_text(path.read_text().replace('"order_version": 2', '"order_version": 3'))
    with pytest.raises(RequestError, match="order 3"):
        opened(root)


def test_a_megabatch_that_was_staged_anew_is_not_resumed_in(build: Build, tmp_path: Path) -> None:
    """G4: other content is another order; a state within it would skip and repeat chips."""
    root = build(tmp_path, [[(0, 3), (0, 3), (0, 2)]], minibatch=2)
    dataset = opened(root)
    stream = iter(dataset)
    dataset.done(next(stream))
    state = dataset.state_dict()
    path = root / "fast" / PLAN / "00000" / "manifest.json"
    manifest = decode_manifest(path.read_bytes(), where="")
    path.write_bytes(manifest.model_copy(update={"packs": manifest.packs[:2]}).encode())
    resumed = opened(root)
    resumed.load_state_dict(state)
    with pytest.raises(PackError, match="since minibatch 1"):
        chips(resumed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": "f" * 16}, "state is of plan f"),
        ({"epoch": 3}, "epoch 3"),
        ({"order_version": 1}, "order 1"),
        ({"megabatch": 4}, "megabatch 4 of a plan of 3"),
        ({"minibatch": -1}, "minibatch"),
        ({"minibatch": True}, "minibatch"),
        ({"more": 1}, "more"),
    ],
)
def test_a_foreign_state_is_refused(staged: Path, change: dict[str, object], said: str) -> None:
    """A checkpoint of another run must not put this one somewhere."""
    dataset = opened(staged)
    with pytest.raises(RequestError, match=said):
        dataset.load_state_dict({**dataset.state_dict(), **change})


def test_a_batch_of_another_plan_is_refused(staged: Path) -> None:
    """A validation batch given to the training set would report chips that nobody has seen."""
    batch = batches(opened(staged))[0]
    other = opened(staged)
    foreign = replace(batch, plan="f" * 16)
    with pytest.raises(RequestError, match="dataset that it came from"):
        other.done(foreign)


def test_a_dataset_travels_to_a_worker_process(staged: Path) -> None:
    """Loaders that spawn workers pickle the dataset; it stands where it stood."""
    dataset = opened(staged)
    stream = iter(dataset)
    for batch in itertools.islice(stream, 5):
        dataset.done(batch)
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    assert copy.state_dict() == dataset.state_dict()
    assert chips(copy) == chips(dataset)


@pytest.mark.parametrize("half", [{"rank": 0}, {"world_size": 2}])
def test_a_rank_goes_with_the_size_of_its_world(staged: Path, half: dict[str, int]) -> None:
    """Eight ranks that give only `world_size` would all be rank 0."""
    with pytest.raises(RequestError, match="both or neither"):
        ChipDataset(
            staged / "archive",
            plan=PLAN,
            fast=staged / "fast",
            **half,  # pyright: ignore[reportArgumentType]
        )


def test_an_iteration_says_what_its_loop_has_got(staged: Path) -> None:
    """Who asks the iteration has trained on its last batch; the dataset waits for the next call."""
    dataset = opened(staged)
    iteration = iter(dataset)
    batch = next(iteration)
    assert isinstance(iteration, Iteration)
    assert iteration.state_dict() == dataset.state_after(batch)
    assert dataset.state_dict() == opened(staged).state_dict()
    list(iteration)
    assert iteration.state_dict() == dataset.state_dict()
