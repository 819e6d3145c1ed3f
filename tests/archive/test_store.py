"""One contract of all object stores, kept by a directory and by a real S3 server."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipmill.errors import AlreadyThereError, MissingError, StoreError, TransientError
from chipmill.io.source import open_source
from chipmill.io.store import PART_BYTES, Store

KINDS = (
    "archive",
    pytest.param("s3_archive", marks=[pytest.mark.s3, pytest.mark.xdist_group("s3")]),
)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Store:
    """Give an empty store of each kind."""
    return request.getfixturevalue(request.param)


def test_what_is_put_is_got(store: Store) -> None:
    """Bytes come back as they went, a second put replaces them."""
    store.put("a/b.json", b"first")
    assert store.get("a/b.json") == b"first"
    store.put("a/b.json", b"")
    assert store.get("a/b.json") == b""
    assert store.size("a/b.json") == 0
    assert store.key_of(store.href("a/b.json")) == "a/b.json"


def test_create_never_replaces(store: Store) -> None:
    """Two merges at once: one document wins and stays."""
    store.create("snapshot.json", b"winner")
    with pytest.raises(AlreadyThereError, match=r"snapshot\.json"):
        store.create("snapshot.json", b"loser")
    assert store.get("snapshot.json") == b"winner"


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12345])
def test_a_stream_goes_in_and_out_whole(store: Store, size: int, *, cached: bool) -> None:
    """Sizes around a part of a multipart upload are where such code breaks."""
    data = bytes(range(256)) * (size // 256 + 1)
    pieces = (data[i : min(i + 1_000_003, size)] for i in range(0, size, 1_000_003))
    store.write("big.bin", pieces, cached=cached)
    told, stream = store.stream("big.bin")
    assert told == store.size("big.bin") == size
    assert b"".join(stream) == data[:size]


def test_a_store_streams_into_a_store(store: Store) -> None:
    """What one waits for in the middle of a write is read from the other, and may be the same."""
    data = bytes(range(256)) * (3 * PART_BYTES // 256 + 1)
    store.put("from.bin", data)
    for reads in (lambda: store.stream("from.bin")[1], lambda: _source_of(store)):
        store.write("to.bin", reads())
        assert store.get("to.bin") == data


def _source_of(store: Store) -> Iterator[bytes]:
    with open_source(store.href("from.bin")) as source:
        yield from source.pieces


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_stream_that_breaks_leaves_nothing(store: Store, before: int, *, cached: bool) -> None:
    """Half an asset under its final key would be trained on; the error stays what it was."""

    def broken() -> Iterator[bytes]:
        for _ in range(before):
            yield bytes(PART_BYTES)
        raise TransientError("the provider hung up")

    with pytest.raises(TransientError, match="the provider hung up"):
        store.write("assets/red.tif", broken(), cached=cached)
    assert store.size("assets/red.tif") is None
    assert list(store.keys("")) == []
    if path := store.local_path(""):
        assert [entry for entry in path.rglob("*") if entry.is_file()] == []


def test_keys_are_listed_below_a_prefix(store: Store) -> None:
    """More than a page of S3, and nothing of a neighbour whose name begins alike."""
    wanted = {
        f"index/parts/{number:04d}~x" for number in range(1100 if store.local_path("") else 30)
    }
    for key in (*wanted, "index/parts2/no", "items/no"):
        store.put(key, b"x")
    assert set(store.keys("index/parts/")) == wanted
    assert list(store.keys("nothing/here/")) == []


def test_a_reader_reads_ranges(store: Store) -> None:
    """The file objects for rasterio and pyarrow seek and read as files of the disk do."""
    data = bytes(range(256)) * 10_000
    store.put("file.bin", data)
    with store.reader("file.bin") as found, io.BytesIO(data) as wanted:
        for offset, whence, size in ((0, 0, 4), (1_000_000, 0, 70_000), (-10, 2, -1), (5, 0, 3)):
            assert found.seek(offset, whence) == wanted.seek(offset, whence)
            assert found.read(size) == wanted.read(size)
            assert found.tell() == wanted.tell()


def test_what_is_missing_is_named(store: Store) -> None:
    """The message must tell which key, since people see hundreds of them."""
    assert store.size("items/gone.json") is None
    for read in (store.get, store.stream, store.reader):
        with pytest.raises(MissingError, match=r"items/gone\.json"):
            read("items/gone.json")


def test_a_source_reads_what_a_store_holds(store: Store) -> None:
    """Providers keep files in stores, too: the same bytes through the reader of sources."""
    store.put("scenes/a b.tif", b"pixels")
    with open_source(store.href("scenes/a b.tif")) as source:
        assert (source.size, b"".join(source.pieces)) == (6, b"pixels")
    with pytest.raises(MissingError), open_source(store.href("scenes/none.tif")):
        pass


def test_an_address_that_names_no_store_is_refused(tmp_path: Path, archive: Store) -> None:
    """A wrong scheme and a root that is a file are said at once, not at the first scene."""
    with pytest.raises(StoreError, match="names no object store"):
        Store.open("ftp://example.org/archive")
    with pytest.raises(StoreError, match="does not lie in the archive"):
        archive.key_of("s3://elsewhere/key")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file"):
        Store.open((tmp_path / "file" / "below").as_uri())


def test_a_directory_may_have_any_name(tmp_path: Path) -> None:
    """Spaces and signs that URLs escape are common in names of disks."""
    folder = tmp_path / "my disk #1 (ä) 100%"
    store = Store.open(folder.as_uri())
    store.put("a/b.txt", b"x")
    assert (folder / "a" / "b.txt").read_bytes() == b"x"
    assert store.local_path("a/b.txt") == folder / "a" / "b.txt"


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_wrong_credentials_are_an_error_for_good(
    s3_archive: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting does not mend a wrong key, so no retry may hide it."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    with pytest.raises(StoreError, match="access denied"):
        Store.open(s3_archive.url).get("key")


def test_a_forked_process_is_told_that_it_cannot_use_a_store(tmp_path: Path) -> None:
    """It has not the threads of obstore: without a word it would wait for ever."""
    url = (tmp_path / "there").as_uri()
    code = f"""
import os
from chipmill.errors import StoreError
from chipmill.io.store import Store
store = Store.open({url!r})
store.put("a", b"1")
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
try:
    store.get("a")
except StoreError as err:
    os._exit(7 if "forked" in str(err) and "spawn" in str(err) else 8)
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == 7


def test_a_process_may_fork_before_it_uses_a_store(tmp_path: Path) -> None:
    """A pool that is forked first works as ever, each process with threads of its own."""
    url = (tmp_path / "there").as_uri()
    code = f"""
import os
from chipmill.io.store import Store
store = Store.open({url!r})
if child := os.fork():
    store.put("parent", b"1")
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
store.put("child", b"2")
os._exit(0 if store.get("child") == b"2" else 9)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == 0
