"""Policies: laws that hold for all candidates in all orders."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from chipmill.model.acquisition import Candidate, acquisition, newest
from chipmill.model.policy import Policy, choose_scenes, first_scenes, season

FIRST = datetime(2017, 1, 1, tzinfo=UTC)
TIMES = st.integers(0, 7 * 365 * 24).map(lambda hours: FIRST + timedelta(hours=hours))
PERCENT = st.none() | st.sampled_from([0.0, 5.0, 5.0, 40.0, 100.0])
BOX = (10.0, 40.0, 11.0, 41.0)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Draw scenes of a few tiles, some of them versions of one acquisition."""
    drawn: list[Candidate] = []
    for number in range(draw(st.integers(0, 12))):
        tile, time = draw(st.sampled_from("AB")), draw(TIMES)
        drawn += [
            Candidate(
                id=f"{tile}-{number}-{version}",
                tile=tile,
                time=time,
                bbox=BOX,
                cloud=draw(PERCENT),
                nodata=draw(PERCENT),
                grid=f"MGRS-{tile}",
                datatake=f"take {number}",
                version=((version,), "", "", ""),
            )
            for version in range(draw(st.integers(1, 3)))
        ]
    return drawn


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw a policy."""
    keep = draw(st.sampled_from(["everything", "least_cloudy", "latest"]))
    seasons = (
        {}
        if keep == "everything"
        else {
            "count": draw(st.integers(1, 3)),
            "every": draw(st.sampled_from(["period", "year", "quarter", "month"])),
        }
    )
    years = draw(st.none() | st.integers(1, 3))
    return Policy.model_validate(
        {"keep": keep, "years": years, "seed": draw(st.integers(0, 3)), **seasons}
    )


LIMIT = st.none() | st.sampled_from([1.0, 20.0, 60.0])


@given(candidates(), policies(), LIMIT, LIMIT, st.randoms())
def test_the_order_of_arrival_does_not_matter(
    found: list[Candidate],
    policy: Policy,
    cloud: float | None,
    nodata: float | None,
    chance: Random,
) -> None:
    """Tiles are searched side by side, and servers sort ties as they like."""
    mixed = found.copy()
    chance.shuffle(mixed)
    one, other = (
        choose_scenes(each, policy, max_cloud=cloud, max_nodata=nodata) for each in (found, mixed)
    )
    assert one == other


@given(candidates(), policies(), LIMIT, LIMIT)
def test_a_choice_keeps_its_limits(
    found: list[Candidate], policy: Policy, cloud: float | None, nodata: float | None
) -> None:
    """Never more than asked of a tile and season, never a scene that does not match."""
    chosen = choose_scenes(found, policy, max_cloud=cloud, max_nodata=nodata)
    assert set(chosen.kept) <= set(found)
    assert all((each.cloud or 0) <= (100 if cloud is None else cloud) for each in chosen.kept)
    assert all((each.nodata or 0) <= (100 if nodata is None else nodata) for each in chosen.kept)
    groups = Counter((each.tile, season(each.time, policy.every)) for each in chosen.kept)
    assert policy.keep == "everything" or all(n <= policy.count for n in groups.values())
    years = Counter(tile for tile, _ in {(each.tile, each.time.year) for each in chosen.kept})
    assert policy.years is None or all(n <= policy.years for n in years.values())
    assert len(chosen.kept) + len(chosen.duplicates) + sum(chosen.left_out.values()) == len(found)


@given(candidates(), st.sampled_from(["period", "year", "quarter", "month"]), st.integers(1, 3))
def test_the_least_cloudy_are_kept(found: list[Candidate], every: str, count: int) -> None:
    """By brute force: nothing that was left out of a season is clearer than what was kept."""
    policy = Policy.model_validate({"keep": "least_cloudy", "every": every, "count": count})
    kept = choose_scenes(found, policy).kept
    fresh, _ = newest(found)

    def rank(each: Candidate) -> tuple[float, float, datetime, str]:
        cloud, nodata = (101 if n is None else n for n in (each.cloud, each.nodata))
        return cloud, nodata, each.time, each.id

    def group(each: Candidate) -> tuple[object, ...]:
        return each.tile, season(each.time, policy.every)

    for key in {group(each) for each in fresh}:
        ranked = sorted((each for each in fresh if group(each) == key), key=rank)
        assert {each for each in kept if group(each) == key} == set(ranked[:count])


@given(candidates(), policies(), st.integers(1, 8))
def test_a_limit_goes_round_the_tiles(found: list[Candidate], policy: Policy, limit: int) -> None:
    """A thousand scenes of three thousand tiles are of a thousand tiles."""
    kept = choose_scenes(found, policy).kept
    first = first_scenes(kept, policy, limit=limit)
    assert len(first) == min(limit, len(kept))
    counts = Counter(each.tile for each in first)
    have = Counter(each.tile for each in kept)
    for tile, count in counts.items():
        others = [name for name in have if name != tile and have[name] > counts[name]]
        assert all(count <= counts[name] + 1 for name in others)


@given(candidates())
def test_of_each_acquisition_the_newest_version_stays(found: list[Candidate]) -> None:
    """Also when it is cloudier: the older version is known to be worse processed."""
    kept, dropped = newest(found)
    assert {each.id for each in kept} | dropped.keys() == {each.id for each in found}
    by_name = {each.id: each for each in found}
    assert len({acquisition(each) for each in kept}) == len(kept)
    for older, newer in dropped.items():
        assert acquisition(by_name[older]) == acquisition(by_name[newer])
        assert by_name[older].version < by_name[newer].version


def test_random_years_differ_by_seed_and_tile() -> None:
    """Two seeds that drew the same years of every tile would be no draw."""
    found = [
        Candidate(id=f"{t}{y}", tile=str(t), time=datetime(y, 5, 6, tzinfo=UTC), bbox=BOX)
        for t in range(20)
        for y in range(2015, 2024)
    ]

    def drawn(seed: int) -> Sequence[str]:
        return [each.id for each in choose_scenes(found, Policy(years=2, seed=seed)).kept]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(drawn(1)) == 40
    assert len({name[-4:] for name in drawn(1)}) > 4
