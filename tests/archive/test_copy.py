# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# rasterio ships no types.
"""Copying assets: verified, recorded, once; and nothing at the final key when it goes wrong."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import rasterio
import stamina
from affine import Affine
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from chipmill.errors import ChipmillError, SceneError, StoreError, TransientError
from chipmill.formats import layout
from chipmill.io.raster import transcode
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

Draw = Callable[..., Path]
Layer = tuple[NDArray[np.generic], float, float | None]
S2 = "sentinel-2-l2a"
BANDS = ("red", "nir08")
KINDS = (
    "archive",
    pytest.param("s3_archive", marks=[pytest.mark.s3, pytest.mark.xdist_group("s3")]),
)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Store:
    """Give an empty archive of each kind."""
    return request.getfixturevalue(request.param)


@pytest.fixture(autouse=True)
def _hurry() -> Iterator[None]:
    """Let retries happen, two tries, without the seconds between them."""
    with stamina.set_testing(testing=True, attempts=2):
        yield


class Provider(ThreadingHTTPServer):
    """A provider on loopback whose answers can be made to fail, by the name of the file."""

    def __init__(self, folder: Path) -> None:
        """Serve a folder."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.faults: dict[str, list[str]] = {}
        """What goes wrong with the next answers: a code, `short`, or `cut`."""
        self.asked: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Provider  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Answer with the file, or with the fault that is next."""
        name = self.path.split("?")[0].lstrip("/")
        self.server.asked[name] += 1
        faults = self.server.faults.get(name) or [""]
        fault = faults.pop(0) if len(faults) > 1 else faults[0]
        path = self.server.folder / name
        code = int(fault) if fault.isdigit() else 200 if path.is_file() else 404
        body = path.read_bytes() if code == 200 else b""
        self.send_response(code)
        if path.is_file():
            self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        self.send_header("Content-Length", str(len(body) + 1000 * (fault == "short")))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def provider(tmp_path: Path, draw: Draw) -> Iterator[Provider]:
    """Serve a small scene of two bands and a quality band by HTTP."""
    pixels = np.random.default_rng(1).integers(1, 9000, (40, 40)).astype(np.uint16)
    layers: dict[str, Layer] = {key: (pixels + n, 10.0, 0.0) for n, key in enumerate(BANDS)}
    layers["scl"] = (np.full((20, 20), 4, np.uint8), 20.0, None)
    path = draw(tmp_path / "provider", layers)
    with Provider(path.parent) as server:
        point(server, lambda key: f"{server.url}/drawn-{key}.tif?sig=secret")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def point(server: Provider, href: Callable[[str], str], **fields: object) -> None:
    """Rewrite the hrefs of the served item; `fields` are added to the asset `red`."""
    path = server.folder / "drawn.json"
    item = json.loads(path.read_text())
    for key, asset in item["assets"].items():
        asset["href"] = href(key)
    item["assets"]["red"] |= {name.replace("__", ":"): value for name, value in fields.items()}
    path.write_text(json.dumps(item))


def searched(server: Provider, archive: Store) -> SceneRef:
    """Find the served scene."""
    request = IngestRequest(
        sensor=S2, catalog=f"{server.url}/drawn.json", bands=BANDS, refresh=True
    )
    (scene,) = search_scenes(request, archive)
    return scene


def written(archive: Store) -> dict[str, tuple[object, object]]:
    """Give the ETag and the time of each asset."""
    return {
        key: (head["e_tag"], head["last_modified"])
        for key in archive.keys("assets")
        if (head := obstore.head(archive.objects, key))
    }


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_assets_are_copied_once(store: Store, provider: Provider, scheme: str) -> None:
    """A rerun of an ingest over thousands of scenes must cost next to nothing."""
    if scheme == "file":
        point(provider, lambda key: (provider.folder / f"drawn-{key}.tif").as_uri())
    scene = searched(provider, store)
    first = copy_assets(scene, store, bands=BANDS)
    before = written(store)
    again = copy_assets(scene, store, bands=BANDS)
    assert (first.copied, first.skipped) == (3, 0)
    assert (again.copied, again.skipped, again.size) == (0, 3, 0)
    assert written(store) == before
    assert len(before) == 3
    for key in (*BANDS, "scl"):
        source = (provider.folder / f"drawn-{key}.tif").read_bytes()
        assert store.get(layout.asset_key(S2, "drawn", key)) == source


def test_provenance_is_true(archive: Store, provider: Provider) -> None:
    """Who asks in a year where a pixel came from gets the digests of what came; no signature."""
    start = datetime.now(UTC)
    scene = searched(provider, archive)
    copy_assets(scene, archive, bands=BANDS)
    for key, record in read_records(scene, archive).items():
        source = (provider.folder / f"drawn-{key}.tif").read_bytes()
        assert record.sha256 == record.source_sha256 == hashlib.sha256(source).hexdigest()
        assert record.md5 == hashlib.md5(source, usedforsecurity=False).hexdigest()
        assert record.xxh3 == xxh3_128_hexdigest(source)
        assert record.size == record.source_size == len(source)
        assert record.source == f"{provider.url}/drawn-{key}.tif"
        assert record.verified == "size"
        assert start <= record.copied <= datetime.now(UTC)
    for key in archive.keys(""):
        assert b"secret" not in archive.get(key)


def test_an_interrupted_copy_goes_on(store: Store, provider: Provider) -> None:
    """What is there is not fetched again, what is missing is, and the end is the same."""
    provider.faults["drawn-scl.tif"] = ["404"]
    scene = searched(provider, store)
    with pytest.raises(SceneError, match="missing at its source"):
        copy_assets(scene, store, bands=BANDS, at_once=1)
    before = written(store)
    assert len(before) == 2
    provider.faults.clear()
    again = copy_assets(scene, store, bands=BANDS)
    assert (again.copied, again.skipped) == (1, 2)
    assert before.items() <= written(store).items()
    assert read_records(scene, store).keys() == {"red", "nir08", "scl"}


def test_a_lost_asset_is_copied_anew(archive: Store, provider: Provider) -> None:
    """The record alone proves nothing: what somebody deleted in the bucket comes back."""
    scene = searched(provider, archive)
    copy_assets(scene, archive, bands=BANDS)
    obstore.delete(archive.objects, layout.asset_key(S2, "drawn", "red"))
    assert copy_assets(scene, archive, bands=BANDS).copied == 1


def test_an_asset_of_another_address_is_another_asset(archive: Store, provider: Provider) -> None:
    """A provider that has processed a scene anew gives it new addresses; a new signature not."""
    scene = searched(provider, archive)
    copy_assets(scene, archive, bands=BANDS)
    point(provider, lambda key: f"{provider.url}/drawn-{key}.tif?sig=newer")
    assert copy_assets(searched(provider, archive), archive, bands=BANDS).copied == 0
    (provider.folder / "v2").mkdir()
    for path in provider.folder.glob("*.tif"):
        (provider.folder / "v2" / path.name).write_bytes(path.read_bytes())
    point(provider, lambda key: f"{provider.url}/v2/drawn-{key}.tif")
    assert copy_assets(searched(provider, archive), archive, bands=BANDS).copied == 3


@pytest.mark.parametrize("field", ["file__size", "file__checksum"])
def test_another_file_in_the_same_place_is_copied(
    archive: Store, provider: Provider, field: str
) -> None:
    """A provider that processes a scene anew may keep its addresses; the item tells."""

    def promise() -> None:
        data = (provider.folder / "drawn-red.tif").read_bytes()
        said = {
            "file__size": len(data),
            "file__checksum": f"1220{hashlib.sha256(data).hexdigest()}",
        }
        point(provider, lambda key: f"{provider.url}/drawn-{key}.tif", **{field: said[field]})

    promise()
    assert copy_assets(searched(provider, archive), archive, bands=BANDS).copied == 3
    assert copy_assets(searched(provider, archive), archive, bands=BANDS).copied == 0
    longer = (provider.folder / "drawn-red.tif").read_bytes() + b"longer"
    (provider.folder / "drawn-red.tif").write_bytes(longer)
    promise()
    assert copy_assets(searched(provider, archive), archive, bands=BANDS).copied == 1
    assert archive.get(layout.asset_key(S2, "drawn", "red")) == longer


@pytest.mark.parametrize("fault", ["500", "503", "429", "cut", "short"])
def test_a_busy_provider_is_asked_again(store: Store, provider: Provider, fault: str) -> None:
    """One failure in thousands of files is an ordinary day."""
    provider.faults["drawn-red.tif"] = [fault, ""]
    scene = searched(provider, store)
    assert copy_assets(scene, store, bands=BANDS).copied == 3
    source = (provider.folder / "drawn-red.tif").read_bytes()
    assert store.get(layout.asset_key(S2, "drawn", "red")) == source
    assert provider.asked["drawn-red.tif"] == 2


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("404", SceneError, "'red' of sentinel-2-l2a/drawn is missing at its source"),
        ("403", StoreError, "answered 403; check the access rights"),
        ("503", TransientError, "answered 503"),
        ("cut", TransientError, "drawn-red.tif"),
        ("short", TransientError, "drawn-red.tif"),
    ],
)
def test_a_failed_copy_leaves_nothing(
    store: Store, provider: Provider, fault: str, kind: type[ChipmillError], said: str
) -> None:
    """Nothing at the final key that is not the whole file; the message names it, unsigned."""
    provider.faults["drawn-red.tif"] = [fault]
    scene = searched(provider, store)
    with pytest.raises(kind, match=said) as raised:
        copy_assets(scene, store, bands=("red",))
    assert "secret" not in str(raised.value)
    assert store.size(layout.asset_key(S2, "drawn", "red")) is None


@pytest.mark.parametrize("form", ["multihash", "md5"])
def test_a_checksum_is_checked(archive: Store, provider: Provider, form: str) -> None:
    """A flipped bit on the way is seen where the provider says what the bytes should be."""
    path = provider.folder / "drawn-red.tif"
    data = path.read_bytes()
    digest = f"1220{hashlib.sha256(data).hexdigest()}"
    if form == "md5":
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    point(provider, lambda key: f"{provider.url}/drawn-{key}.tif", file__checksum=digest)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    scene = searched(provider, archive)
    with pytest.raises(SceneError, match=digest[-32:]):
        copy_assets(scene, archive, bands=("red",))
    assert archive.size(layout.asset_key(S2, "drawn", "red")) is None
    path.write_bytes(data)
    copy_assets(scene, archive, bands=("red",))
    assert read_records(scene, archive)["red"].verified == "checksum"


def test_a_file_that_is_no_raster_is_refused(archive: Store, provider: Provider) -> None:
    """Providers answer 200 with a page of HTML when a login has run out."""
    (provider.folder / "drawn-red.tif").write_text("<html>please log in</html>")
    with pytest.raises(SceneError, match="neither TIFF nor JPEG 2000"):
        copy_assets(searched(provider, archive), archive, bands=("red",))
    assert archive.size(layout.asset_key(S2, "drawn", "red")) is None


def test_jpeg_2000_is_kept_without_loss(archive: Store, scenes: Path) -> None:
    """The demo's files are code streams named .tif with their georeference in a side-car."""
    path = scenes / S2 / "S2A_33TWM_20230815_0_L2A.json"
    (scene,) = search_scenes(IngestRequest(sensor=S2, catalog=str(path)), archive)
    copy_assets(scene, archive, bands=("red",))
    record = read_records(scene, archive)["red"]
    source = path.with_suffix("") / "B04.tif"
    kept = archive.local_path(record.key)
    assert record.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert kept is not None
    assert record.sha256 == hashlib.sha256(kept.read_bytes()).hexdigest()
    with rasterio.open(source) as given, rasterio.open(kept) as made:
        assert (given.driver, made.driver) == ("JP2OpenJPEG", "GTiff")
        for name in ("crs", "transform", "nodata", "dtypes", "shape"):
            assert getattr(given, name) == getattr(made, name)
        assert made.profile["tiled"]
        assert (given.read() == made.read()).all()


@pytest.mark.parametrize("bits", [9, 12, 15, 16])
def test_jpeg_2000_of_few_bits_is_kept_without_loss(tmp_path: Path, bits: int) -> None:
    """Sentinel-2 is delivered as 15 bits in 16, which no predictor of TIFF takes as they are."""
    given, made = tmp_path / "given.jp2", tmp_path / "made.tif"
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (1, 96, 80)).astype("uint16")
    profile: dict[str, Any] = {"driver": "JP2OpenJPEG", "count": 1, "dtype": "uint16"}
    place: dict[str, Any] = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5.2e6)}
    kept: dict[str, Any] = {"NBITS": bits, "QUALITY": 100, "REVERSIBLE": "YES"}
    with rasterio.open(given, "w", width=80, height=96, **profile, **place, **kept) as file:
        file.write(pixels)
    transcode(given, made)
    with rasterio.open(made) as file:
        assert (file.read() == pixels).all()
        assert file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") is None


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("refusal", ["403", "404"])
def test_a_side_car_may_be_refused(
    archive: Store, provider: Provider, scenes: Path, refusal: str
) -> None:
    """A bucket that may not be listed answers 403 for what it does not have."""
    data = (scenes / S2 / "S2A_33TWM_20230815_0_L2A" / "SCL.tif").read_bytes()
    (provider.folder / "drawn-red.tif").write_bytes(data)
    provider.faults["drawn-red.tif.aux.xml"] = [refusal]
    scene = searched(provider, archive)
    assert copy_assets(scene, archive, bands=("red",)).copied == 2
    with pytest.raises(SceneError, match="no georeference"):
        rewrite_item(scene, archive, bands=("red",))
