"""What of a chip a loop asks for: bands, grid, data type, a change of its own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from chipmill.errors import RequestError
from chipmill.train import Batch, ChipDataset
from chipmill.train.batch import BatchFacts
from chipmill.train.resize import to_finest

PLAN = "0123456789abcdef"
Build = Callable[..., Path]
FACTS = ("wavelength", "fwhm", "gsd", "mean", "std", "scale", "offset")


def batches(root: Path, **view: Any) -> list[Batch]:  # noqa: ANN401 - whatever the dataset takes
    """Read a plan to its end."""
    dataset = ChipDataset(
        root / "archive", plan=PLAN, fast=root / "fast", wait_seconds=0, as_torch=False, **view
    )
    return [batch for batch in dataset if isinstance(batch, Batch)]


@pytest.fixture(scope="module", params=[None, "lz4"])
def one_kind(build: Build, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Path:  # noqa: ANN401 - pytest's own
    """Stage a plan of scenes with bands of one size, packed or plain."""
    folder = tmp_path_factory.mktemp("alike")
    return build(folder, [[(0, 5), (0, 4), (0, 3)]], minibatch=2, compression=request.param)


@pytest.fixture(scope="module")
def other_kind(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage a plan of scenes whose bands have three sizes and three data types."""
    return build(tmp_path_factory.mktemp("mixed"), [[(1, 5), (1, 4), (1, 3)]], minibatch=2)


@settings(max_examples=20)
@given(bands=st.permutations(["red", "nir", "angle"]), count=st.integers(1, 3))
def test_chosen_bands_are_those_of_all(one_kind: Path, bands: list[str], count: int) -> None:
    """Any choice in any order gives the same pixels and facts as taking them out afterwards."""
    chosen = bands[:count]
    for whole, part in zip(batches(one_kind), batches(one_kind, bands=chosen), strict=True):
        places = [whole.bands.index(name) for name in chosen]
        assert part.bands == tuple(chosen)
        np.testing.assert_array_equal(part.pixels, whole.pixels[:, places])
        for fact in FACTS:
            expected = getattr(whole, fact)[:, places]
            np.testing.assert_array_equal(getattr(part, fact), expected)
        assert part.chip_ids == whole.chip_ids


def test_one_band_has_its_own_data_type(other_kind: Path) -> None:
    """Bands that are left out do not widen those that are taken."""
    for name, dtype in (("mask", "uint8"), ("red", "uint16"), ("cold", "int16")):
        assert {str(batch.pixels.dtype) for batch in batches(other_kind, bands=[name])} == {dtype}
    assert batches(other_kind, bands=["red", "cold"])[0].pixels.dtype == np.int32


def test_floats_hold_the_same_numbers(other_kind: Path) -> None:
    """For models that cast anyway: one copy fewer, and no other value."""
    for whole, floats in zip(batches(other_kind), batches(other_kind, float32=True), strict=True):
        assert floats.pixels.dtype == np.float32
        np.testing.assert_array_equal(floats.pixels, whole.pixels)


def test_coarse_bands_can_be_blended(other_kind: Path) -> None:
    """Bilinear changes the coarser bands by the documented rule, and the finest not at all."""
    nearest, blended = batches(other_kind), batches(other_kind, resize="bilinear")
    for one, other in zip(nearest, blended, strict=True):
        at = one.bands.index("red")
        np.testing.assert_array_equal(one.pixels[:, at], other.pixels[:, at])
        mask = one.bands.index("mask")  # 8 x 8 on 16 x 16
        for chip, smooth in zip(one.pixels[:, mask], other.pixels[:, mask], strict=True):
            own = chip[::2, ::2].astype(np.uint8)
            np.testing.assert_array_equal(smooth, to_finest(own, size=16, resize="bilinear"))


def test_a_loop_may_change_each_batch(one_kind: Path) -> None:
    """An augmentation runs where the batch is read, and the loop gets what it gave."""

    def flipped(batch: Batch) -> Batch:
        return replace(batch, pixels=batch.pixels[..., ::-1])

    for plain, changed in zip(batches(one_kind), batches(one_kind, transform=flipped), strict=True):
        np.testing.assert_array_equal(changed.pixels, plain.pixels[..., ::-1])
        assert isinstance(changed, BatchFacts)
        assert changed.position == plain.position


def test_a_band_that_is_not_there_is_named(one_kind: Path) -> None:
    """The sentence has what there is instead, and where."""
    said = "alike has no band 'green' in this plan; its bands are red, nir, angle"
    with pytest.raises(RequestError, match=said):
        batches(one_kind, bands=["red", "green"])
