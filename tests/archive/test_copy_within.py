"""Between buckets of one S3 server the server copies: no bytes come here, and all is proven."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import obstore
import pytest
import stamina
from obstore.store import from_url

from chipmill.errors import SceneError, StoreError
from chipmill.formats import layout
from chipmill.io import s3_copy
from chipmill.io.records import read_records
from chipmill.io.source import open_source
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.settings import BucketSettings
from chipmill.steps.copy import copy_assets
from tests.archive.fault_proxy import FaultProxy, faults_before

Draw = Callable[..., Path]
S2 = "sentinel-2-l2a"
pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("s3")]


@pytest.fixture(autouse=True)
def _hurry() -> Iterator[None]:
    """Let retries happen, two tries, without the seconds between them."""
    with stamina.set_testing(testing=True, attempts=2):
        yield


@pytest.fixture
def line(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Count what passes between this machine and the server."""
    port = urlsplit(s3_server).port
    assert port
    with faults_before(port, seed=0, share=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def store(s3_archive: Store, line: FaultProxy) -> Store:
    """Give an archive whose bytes are counted."""
    return Store.open(s3_archive.url)


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    """Draw a scene of one band of 7 MB."""
    pixels = np.random.default_rng(3).integers(1, 9000, (1900, 1900)).astype(np.uint16)
    layers = {"red": (pixels, 10.0, 0.0), "scl": (np.full((950, 950), 4, np.uint8), 20.0, None)}
    return draw(tmp_path / "provider", layers).parent


def scene_in_bucket(folder: Path, archive: Store, **fields: object) -> SceneRef:
    """Put the scene's files into a bucket as providers do, and keep its document."""
    bucket = f"s3://chipmill-source/{secrets.token_hex(4)}"
    plain = from_url(bucket, client_options={"allow_http": True})
    item = json.loads((folder / "drawn.json").read_text())
    for key, asset in item["assets"].items():
        data = (folder / f"drawn-{key}.tif").read_bytes()
        obstore.put(plain, f"{key}.tif", data, use_multipart=False)
        asset["href"] = f"{bucket}/{key}.tif"
    item["assets"]["red"] |= {name.replace("__", ":"): value for name, value in fields.items()}
    archive.put(layout.source_item_key(S2, "drawn"), json.dumps(item).encode())
    return SceneRef(collection=S2, item="drawn")


def access() -> Access:
    """Give rules with the endpoint of the environment."""
    return Access(endpoint=os.environ["AWS_ENDPOINT_URL"], region="us-east-1")  # noqa: TID251


def test_the_server_copies_and_no_bytes_come_here(
    store: Store, line: FaultProxy, folder: Path
) -> None:
    """A terabyte beside the archive must not pass through the machine that asks for it."""
    scene = scene_in_bucket(folder, store)
    before = line.bodies
    assert copy_assets(scene, store, bands=("red",), access=access()).copied == 2
    assert line.bodies - before < 20_000
    record = read_records(scene, store)["red"]
    data = (folder / "drawn-red.tif").read_bytes()
    assert store.get(record.key) == data
    assert record.md5 == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert (record.size, record.verified) == (len(data), "etag")
    assert record.checksum.digest == record.md5


def test_who_pays_says_so_in_each_request(store: Store, line: FaultProxy, folder: Path) -> None:
    """Without the header such a bucket answers 403."""
    scene = scene_in_bucket(folder, store, storage__requester_pays="true")
    paying = Access(endpoint=line.url, region="us-east-1", requester_pays=True)
    copy_assets(scene, store, bands=("red",), access=paying)
    assert line.sent[b"x-amz-request-payer"] == 3  # head, first bytes, copy


def test_a_file_of_another_server_comes_by_one_request(
    store: Store, line: FaultProxy, folder: Path, tmp_path: Path
) -> None:
    """Its checksums are in the same answer as its bytes."""
    scene = scene_in_bucket(folder, store)
    archive = Store.open((tmp_path / "archive").as_uri())
    document = layout.source_item_key(S2, "drawn")
    archive.put(document, store.get(document))
    elsewhere = (("chipmill-source", BucketSettings(endpoint=line.url, region="us-east-1")),)
    line.sent.clear()
    done = copy_assets(scene, archive, bands=("red",), access=Access(stores=elsewhere))
    assert line.sent[b"host"] == line.sent[b"x-amz-checksum-mode"] == done.copied > 0
    record = read_records(scene, archive)["red"]
    assert record.verified == "etag"
    assert record.md5 == hashlib.md5(archive.get(record.key), usedforsecurity=False).hexdigest()


def test_a_public_bucket_is_asked_without_a_signature(store: Store, line: FaultProxy) -> None:
    """People without credentials read public data; this server has none and refuses."""
    public = (("public", BucketSettings(endpoint=line.url, region="x", anonymous=True)),)
    before = line.sent[b"authorization"]
    with (
        pytest.raises(StoreError, match="403"),
        open_source("s3://public/a.tif", Access(stores=public)),
    ):
        pass
    assert line.sent[b"authorization"] == before


@pytest.mark.parametrize("known", ["md5", "sha256"])
def test_a_copy_is_what_its_item_promises(
    store: Store, line: FaultProxy, folder: Path, known: str
) -> None:
    """The item's checksum is compared with the store's; what the store lacks is read once."""
    data = (folder / "drawn-red.tif").read_bytes()
    digest = hashlib.new(known, data, usedforsecurity=False).hexdigest()
    code = {"md5": "d50110", "sha256": "1220"}[known]
    scene = scene_in_bucket(folder, store, file__checksum=code + digest)
    before = line.bodies
    copy_assets(scene, store, bands=("red",), access=access())
    assert (line.bodies - before > len(data)) == (known == "sha256")
    record = read_records(scene, store)["red"]
    assert (record.verified, getattr(record, known)) == ("checksum", digest)


@pytest.mark.parametrize("known", ["md5", "sha256"])
def test_a_copy_that_is_not_what_was_promised_does_not_stay(
    store: Store, line: FaultProxy, folder: Path, known: str
) -> None:
    """The server copies faithfully what is wrong at the provider already."""
    code = {"md5": "d50110", "sha256": "1220"}[known]
    wrong = code + hashlib.new(known, b"other", usedforsecurity=False).hexdigest()
    scene = scene_in_bucket(folder, store, file__checksum=wrong)
    with pytest.raises(SceneError, match=r"promised.*drop the scene"):
        copy_assets(scene, store, bands=("red",), access=access())
    assert store.size(layout.asset_key(S2, "drawn", "red")) is None
    assert "red" not in read_records(scene, store)


def test_large_objects_are_copied_in_parts(
    store: Store, line: FaultProxy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request of S3 copies 5 GB at most; the limit is lowered here to 5 MB."""
    monkeypatch.setattr(s3_copy, "LARGEST_COPY", 5 * 2**20)
    monkeypatch.setattr(s3_copy, "COPY_PART", 5 * 2**20)
    scene = scene_in_bucket(folder, store)
    copy_assets(scene, store, bands=("red",), access=access())
    record = read_records(scene, store)["red"]
    data = (folder / "drawn-red.tif").read_bytes()
    assert "-2" in str(obstore.head(store.objects, record.key)["e_tag"])
    assert store.get(record.key) == data
    # Nothing that the store states of parts can be compared: the copy was read, once.
    assert record.sha256 == hashlib.sha256(data).hexdigest()
    assert record.verified == "etag"
