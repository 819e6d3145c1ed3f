"""Train and validation apart on earth: by brute force over pairs of chips."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from chipmill.model.split import KM_PER_DEGREE, SpatialSplit

Box = tuple[float, float, float, float]


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Draw boxes of up to 12 degrees near one place, which may be a pole or the antimeridian."""
    west = draw(st.floats(150, 210)) - 360 * draw(st.booleans())
    south = draw(st.sampled_from((-89.9, -60.0, -5.0, 40.0, 70.0, 80.0))) + draw(st.floats(0, 6))
    wide, high = draw(st.floats(0.01, 12)), draw(st.floats(0.01, 5))
    west = (west + 180) % 360 - 180
    east = (west + wide + 180) % 360 - 180
    return west, south, east, min(90.0, south + high)


How = dict[str, Any]
splits: st.SearchStrategy[How] = st.fixed_dictionaries(
    {
        "share": st.sampled_from((0.1, 0.5, 0.8)),
        "cell_km": st.sampled_from((60.0, 200.0, 1000.0)),
        "gap_km": st.sampled_from((0.0, 1.0, 60.0)),
        "salt": st.integers(0, 50),
    }
)


def kilometres(one: Box, other: Box) -> float:
    """Give the distance of two boxes on a sphere: the least of points along their edges."""
    return min(_far(a, b) for a in _edge(one, around=other) for b in _edge(other, around=one))


def _edge(box: Box, *, around: Box) -> list[tuple[float, float]]:
    """Give points of a box: a mesh that has the corners, and the latitudes of the other box."""
    west, south, east, north = box
    wide = (east - west) % 360
    lats = {south, north, (south + north) / 2}
    lats |= {lat for lat in (around[1], around[3]) if south <= lat <= north}
    return [(west + wide * step / 12, lat) for step in range(13) for lat in lats]


def _far(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Give the distance of two points by the haversine formula."""
    lon, lat = math.radians(other[0] - one[0]), math.radians(other[1] - one[1])
    a = math.sin(lat / 2) ** 2
    a += math.cos(math.radians(one[1])) * math.cos(math.radians(other[1])) * math.sin(lon / 2) ** 2
    return 2 * math.degrees(math.asin(min(1.0, math.sqrt(a)))) * KM_PER_DEGREE


def overlap(one: Box, other: Box) -> bool:
    """Tell whether two boxes share a point."""
    beside = (other[0] - one[0]) % 360 <= (one[2] - one[0]) % 360
    beside |= (one[0] - other[0]) % 360 <= (other[2] - other[0]) % 360
    return beside and one[1] <= other[3] and other[1] <= one[3]


@given(drawn=st.lists(boxes(), min_size=2, max_size=12), how=splits)
def test_no_chip_of_one_side_is_near_a_chip_of_the_other(drawn: list[Box], how: How) -> None:
    """What a model has seen must not be what it is judged by, across no pole and no line."""
    chips = np.array(drawn)
    train = SpatialSplit.model_validate({"side": "train", **how}).inside(chips)
    validation = SpatialSplit.model_validate({"side": "validation", **how}).inside(chips)
    assert not (train & validation).any()
    for one in chips[train]:
        for other in chips[validation]:
            assert not overlap(tuple(one), tuple(other))
            assert kilometres(tuple(one), tuple(other)) >= how["gap_km"] * (1 - 1e-9)


@given(
    lon=st.sampled_from((0.0, 123.4, 179.5)),
    lat=st.sampled_from((-89.6, -45.0, 0.0, 60.0, 82.0, 88.5, 89.6)),
    gap=st.sampled_from((10.0, 40.0)),
    salt=st.integers(0, 1000),
)
def test_the_gap_is_kept_by_all_points_around_a_place(
    lon: float, lat: float, gap: float, salt: int
) -> None:
    """Many points on both sides of the same borders: the nearest pair is what counts."""
    step = 60 / KM_PER_DEGREE / 6
    north, east = np.meshgrid(np.arange(-15, 16) * step, np.arange(-15, 16) * step)
    lats = np.clip(lat + north.ravel(), -90, 90)
    aside = np.minimum(east.ravel() / np.maximum(np.cos(np.radians(lats)), 1e-3), 179)
    lons = (lon + aside + 180) % 360 - 180
    world = np.stack([lons, lats, lons, lats], axis=1)
    how = {"share": 0.5, "cell_km": 60.0, "gap_km": gap, "salt": salt}
    train = SpatialSplit.model_validate({"side": "train", **how}).inside(world)
    validation = SpatialSplit.model_validate({"side": "validation", **how}).inside(world)
    if train.any() and validation.any():
        place = np.radians(world[:, :2])
        flat = np.cos(place[:, 1])
        vectors = np.stack(
            [flat * np.cos(place[:, 0]), flat * np.sin(place[:, 0]), np.sin(place[:, 1])], axis=1
        )
        chords = np.linalg.norm(vectors[train][:, None] - vectors[validation], axis=2)
        nearest = 2 * math.degrees(math.asin(float(chords.min()) / 2)) * KM_PER_DEGREE
        assert nearest >= gap * (1 - 1e-9)


@given(drawn=st.lists(boxes(), min_size=1, max_size=30), how=splits)
def test_every_scene_is_on_one_side(drawn: list[Box], how: How) -> None:
    """A scene on both sides would leak its weather and its light."""
    middles = [
        SpatialSplit.model_validate({"side": side, **how}).middles(np.array(drawn))
        for side in ("train", "validation")
    ]
    assert np.array_equal(middles[0], ~middles[1])


@given(drawn=st.lists(boxes(), min_size=1, max_size=30), how=splits)
def test_what_is_whole_has_only_chips_inside(drawn: list[Box], how: How) -> None:
    """Chips of a scene that is inside as a whole are not asked one by one."""
    split = SpatialSplit.model_validate({"side": "train", **how})
    scenes = np.array(drawn)
    west, south, east, north = scenes.T
    middle = west + (east - west) % 360 / 2
    quarter = np.stack([west, south, (middle + 180) % 360 - 180, (south + north) / 2], axis=1)
    assert (split.inside(quarter) | ~split.inside(scenes)).all()


def points(count: int) -> NDArray[np.floating]:
    """Spread points evenly over the sphere (a Fibonacci lattice), as boxes without extent."""
    index = np.arange(count) + 0.5
    lat = np.degrees(np.arcsin(1 - 2 * index / count))
    lon = (index * 180 * (3 - math.sqrt(5))) % 360 - 180
    return np.stack([lon, lat, lon, lat], axis=1)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_share_is_that_of_the_area(share: float) -> None:
    """Cells are of about equal area: neither side gets the poles."""
    split = SpatialSplit(side="validation", share=share, cell_km=100)
    world = points(200_000)
    chosen = split.middles(world)
    assert abs(chosen.mean() - share) < 0.01
    north = np.abs(world[:, 1]) > 60
    assert abs(chosen[north].mean() - share) < 0.03


def test_little_is_lost_at_borders() -> None:
    """A gap of 10 km between cells of 200 km: a tenth of the border cells' share is left out."""
    world = points(100_000)
    here = SpatialSplit(side="train").middles(world)
    kept = SpatialSplit(side="train").inside(world)
    assert not (kept & ~here).any()
    assert (here & ~kept).sum() < 0.02 * here.sum()


def test_a_division_never_changes() -> None:
    """A model trained on one release is judged with the next: these cells are what they were."""
    chosen = SpatialSplit(side="validation").middles(points(60))
    assert np.flatnonzero(chosen).tolist() == [7, 10, 33, 50]
    other = SpatialSplit(side="validation", salt=1).middles(points(60))
    assert not np.array_equal(chosen, other)


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1}, {"cell_km": 1}, {"side": "test"}])
def test_a_split_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    """All on one side is no split, and cells smaller than chips are none either."""
    with pytest.raises(ValidationError):
        SpatialSplit.model_validate({"side": "train", **wrong})
