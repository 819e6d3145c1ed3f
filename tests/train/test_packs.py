"""Packs and manifests that are damaged say so, and which file it is."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import ipc

from chipmill.errors import PackError, TransientError
from chipmill.formats.manifest import Manifest, decode_manifest
from chipmill.formats.pack import DType, PackBand, join_bytes, lay_out, split_bytes
from chipmill.train.folder import MegabatchFolder

Build = Callable[..., Path]
Value = Callable[[int, int, int, int, int], int]
FOLDER = Path("fast/0123456789abcdef/00000")


@pytest.fixture
def folder(build: Build, tmp_path: Path) -> Path:
    """Stage one megabatch of two scenes."""
    return build(tmp_path, [[(0, 7), (0, 4)]], minibatch=2) / FOLDER


def rewritten(folder: Path, **change: object) -> Manifest:
    """Change the first pack's entry in the manifest."""
    path = folder / "manifest.json"
    manifest = decode_manifest(path.read_bytes(), where="")
    first = manifest.packs[0].model_copy(update=change)
    manifest = manifest.model_copy(update={"packs": (first, *manifest.packs[1:])})
    path.write_bytes(manifest.encode())
    return manifest


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_a_chip_is_its_row_over_all_record_batches(
    build: Build, value: Value, tmp_path: Path, compression: str | None, rows: int
) -> None:
    """How a pack is cut into record batches, and whether it is compressed, is nobody's business."""
    root = build(tmp_path, [[(0, 7)]], minibatch=1, compression=compression, rows=rows)
    opened = MegabatchFolder.open(root / FOLDER)
    opened.verify()
    chips = np.array([6, 0, 3, 2])
    pixels = opened.pixels(0, chips).view(np.uint16).reshape(4, 3, 16, 16)
    for chip, found in zip(chips.tolist(), pixels, strict=True):
        expected = [
            [[value(0, chip, b, y, x) for x in range(16)] for y in range(16)] for b in range(3)
        ]
        np.testing.assert_array_equal(found, expected)


@given(st.data())
def test_parting_bytes_is_undone_band_by_band(data: st.DataObject) -> None:
    """Whatever bands are asked for, and of whatever sample size: the samples come back."""
    kinds = data.draw(st.lists(st.sampled_from(["uint8", "int16", "float32"]), min_size=1))
    drawn = [
        PackBand(name=f"b{i}", gsd=1, dtype=cast("DType", kind), shape=(i + 1, 2), start=0)
        for i, kind in enumerate(kinds)
    ]
    bands = lay_out(drawn)
    width = sum(band.size for band in bands)
    seed = data.draw(st.integers(0, 99))
    records = np.random.default_rng(seed).integers(0, 256, (3, width), dtype=np.uint8)
    parted = split_bytes(records, bands)
    first = data.draw(st.integers(0, len(bands) - 1))
    last = data.draw(st.integers(first, len(bands) - 1))
    start, stop = bands[first].start, bands[last].start + bands[last].size
    out = np.empty(stop - start, np.uint8)
    for record, whole in zip(parted, records, strict=True):
        join_bytes(record, bands, out, start=start)
        np.testing.assert_array_equal(out, whole[start:stop])


def test_few_open_files_are_enough(staged: Path) -> None:
    """A megabatch has thousands of packs, a process may open about a thousand files."""
    manifest = MegabatchFolder.open(staged / FOLDER).manifest
    thrifty = MegabatchFolder(staged / FOLDER, manifest, keep_open=1)
    for index in (0, 1, 0, 5, 0):
        assert thrifty.pack(index).header.scene == manifest.packs[index].scene
        assert thrifty.pack(index) is thrifty.pack(index)
    first = thrifty.pack(0)
    thrifty.close()
    assert thrifty.pack(0) is not first


def test_the_pack_used_longest_ago_is_closed_first(staged: Path) -> None:
    """Packs that are used again stay open; opening one costs as much as reading a chip."""
    folder = MegabatchFolder(staged / FOLDER, MegabatchFolder.open(staged / FOLDER).manifest, 2)
    first, second = folder.pack(0), folder.pack(1)
    assert folder.pack(0) is first
    folder.pack(2)
    assert folder.pack(0) is first
    assert folder.pack(1) is not second


def test_a_folder_without_manifest_is_not_ready(folder: Path) -> None:
    """The manifest is written last: without it, packs mean nothing."""
    (folder / "manifest.json").unlink()
    with pytest.raises(PackError, match=r"no manifest\.json"):
        MegabatchFolder.open(folder)


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 2}', b"\xff\x00"])
def test_a_damaged_manifest_is_named(folder: Path, content: bytes) -> None:
    """Half a manifest is not a small megabatch."""
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(PackError, match=r"00000/manifest.json is not a megabatch manifest"):
        MegabatchFolder.open(folder)


def test_a_manifest_that_cannot_be_read_may_be_readable_later(folder: Path) -> None:
    """A file system that fails is not a damaged megabatch."""
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    with pytest.raises(TransientError, match="look at fast storage"):
        MegabatchFolder.open(folder)


@pytest.mark.parametrize("change", [{"group": 2}, {"file": "../other.arrow"}, {"file": "/x.arrow"}])
def test_a_manifest_that_contradicts_itself_is_refused(
    folder: Path, change: dict[str, object]
) -> None:
    """No entry leads out of the folder or to a group that is not there."""
    rewritten(folder, **change)
    with pytest.raises(PackError, match="which cannot be"):
        MegabatchFolder.open(folder)


def test_a_pack_of_another_size_is_not_opened(folder: Path) -> None:
    """A short copy is noticed when it is opened, not when its last chip is due."""
    manifest = MegabatchFolder.open(folder).manifest
    path = folder / manifest.packs[0].file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackError, match=rf"{path.name} has \d+ bytes where the manifest says"):
        MegabatchFolder.open(folder).pack(0)


def test_a_missing_pack_is_named(folder: Path) -> None:
    """Somebody deleted a file by hand: the error says which."""
    opened = MegabatchFolder.open(folder)
    (folder / opened.manifest.packs[1].file).unlink()
    with pytest.raises(PackError, match=opened.manifest.packs[1].file):
        opened.pixels(1, np.array([0]))


def test_a_file_that_is_no_pack_is_refused(folder: Path) -> None:
    """Bytes of the right length, and even a right Arrow file, are not yet a pack."""
    manifest = MegabatchFolder.open(folder).manifest
    path, size = folder / manifest.packs[0].file, manifest.packs[0].size
    path.write_bytes(b"\xab" * size)
    with pytest.raises(PackError, match="cannot be read as a chip pack"):
        MegabatchFolder.open(folder).pack(0)
    with ipc.new_file(str(path), pa.schema([("x", pa.int8())])) as writer:
        writer.write_batch(pa.record_batch({"x": pa.array([1], pa.int8())}))
    rewritten(folder, size=path.stat().st_size)
    with pytest.raises(PackError, match="not a chip pack"):
        MegabatchFolder.open(folder).pack(0)


def test_a_pack_whose_columns_do_not_fit_its_header_is_refused(folder: Path) -> None:
    """The header alone is not believed: pixels of another width would be read askew."""
    manifest = MegabatchFolder.open(folder).manifest
    path = folder / manifest.packs[0].file
    table = ipc.open_file(path.read_bytes()).read_all().drop_columns(["nodata_fraction"])
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    rewritten(folder, size=path.stat().st_size)
    with pytest.raises(PackError, match="columns that do not fit"):
        MegabatchFolder.open(folder).pack(0)


def test_a_pack_in_anothers_place_is_refused(folder: Path) -> None:
    """Chips must come from the scene that the order counts."""
    rewritten(folder, scene="s099")
    with pytest.raises(PackError, match=r"holds .*'s000'.* where the manifest says .*'s099'"):
        MegabatchFolder.open(folder).pack(0)
    rewritten(folder, scene="s000", group=1)
    with pytest.raises(PackError, match="other bands than its group"):
        MegabatchFolder.open(folder).pack(0)


def test_a_file_cut_short_while_it_is_read_names_the_chip(folder: Path) -> None:
    """A memory map would end the process here; a read tells which chip is gone."""
    opened = MegabatchFolder.open(folder)
    with Path(opened.pack(0).path).open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(PackError, match=r"chip alike/s000/6-0 cannot be read.*too early"):
        opened.pixels(0, np.array([6]))
    with pytest.raises(PackError, match="7 chips, there is none at index 7"):
        opened.pixels(0, np.array([7]))


def test_verifying_finds_one_flipped_bit(folder: Path) -> None:
    """Disks and caches lie silently; a hash does not."""
    opened = MegabatchFolder.open(folder)
    opened.verify()
    path = folder / opened.manifest.packs[1].file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackError, match=rf"{path.name} has the sha256"):
        opened.verify()
