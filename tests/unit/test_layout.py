"""Keys: safe for any text that other people write, and never shared."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath

from hypothesis import example, given
from hypothesis import strategies as st

from chipmill.formats import layout

# Ids near the borders of what is safe: long ones, dots, slashes, the mark of encoded ones.
names = st.one_of(
    st.text(max_size=200),
    st.text("aA.-_~/\\:%\0 é", max_size=12),
    st.text("ab", min_size=118, max_size=122),
)
_FUNCTIONS: tuple[Callable[[str, str], str], ...] = (
    layout.source_item_key,
    partial(layout.provenance_key, asset="red"),
    layout.item_key,
    layout.finding_key,
    partial(layout.asset_key, asset="red"),
    partial(layout.part_key, 64),
)


@given(text=names)
@example(text="..")
@example(text="")
@example(text="a.")
@example(text="../../etc/passwd")
@example(text="a~0123456789abcdef")
def test_a_segment_is_safe(text: str) -> None:
    """One segment, of plain signs, that every file system and store takes and none reads else."""
    segment = layout.segment(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.~-]{0,119}", segment)
    assert not segment.endswith(".")
    assert PurePosixPath(segment).name == segment


@given(one=names, other=names)
@example(one="a/b", other="a-b")
@example(one="a", other="a.")
def test_two_names_never_share_a_segment(one: str, other: str) -> None:
    """Two scenes at one key would be one scene, and nobody would see it."""
    assert (layout.segment(one) == layout.segment(other)) == (one == other)


@given(text=names)
def test_a_segment_does_not_pass_for_another_name(text: str) -> None:
    """An id that looks like an encoded one is encoded itself."""
    segment = layout.segment(text)
    assert segment == text or layout.segment(segment) != segment


@given(text=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", fullmatch=True))
def test_plain_names_stay(text: str) -> None:
    """People find a scene in the bucket by its id."""
    assert layout.segment(text) == text


@given(collection=names, item=names, other=names)
def test_keys_stay_below_their_prefix(collection: str, item: str, other: str) -> None:
    """No id leads a write out of its folder, and no two scenes into one file."""
    for key in _FUNCTIONS:
        path = PurePosixPath(key(collection, item))
        assert ".." not in path.parts
        assert not path.is_absolute()
        assert len(path.parts) in (3, 4, 5)
        assert (key(collection, item) == key(collection, other)) == (item == other)
    assert len({key(collection, item) for key in _FUNCTIONS}) == len(_FUNCTIONS)


@given(item=names, other=names)
def test_packs_of_two_scenes_are_two_files(item: str, other: str) -> None:
    """Names on fast storage are hashes: short, and safe on Lustre and NVMe alike."""
    name = layout.pack_file("naip", item)
    assert re.fullmatch(r"[0-9a-f]{32}\.arrow", name)
    assert (name == layout.pack_file("naip", other)) == (item == other)
