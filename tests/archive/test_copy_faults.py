"""Between the provider, this machine and the store all that can break does; no wrong byte stays."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import stamina
from numpy.typing import NDArray

from chipmill.errors import ChipmillError, SceneError
from chipmill.formats import layout
from chipmill.io.records import read_records
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from tests.archive.fault_proxy import FaultProxy, faults_before
from tests.archive.ranged_server import RangedServer, serving

Draw = Callable[..., Path]
Layer = tuple[NDArray[np.generic], float, float | None]
S2 = "sentinel-2-l2a"
BANDS = ("red", "green", "blue")
WANTED = 1000
ACCESS = Access(private=("127.0.0.1",), patience=0.5)


@pytest.fixture(autouse=True)
def _hurry() -> Iterator[None]:
    """Let retries happen, without the seconds between them."""
    with stamina.set_testing(testing=True, attempts=6):
        yield


@pytest.fixture
def provider(tmp_path: Path, draw: Draw) -> Iterator[RangedServer]:
    """Serve the files of a scene of three bands, 6 to 60 KB each."""
    noise = np.random.default_rng(4)
    layers: dict[str, Layer] = {
        key: (noise.integers(1, 9000, (n * 50, 60)).astype(np.uint16), 10.0, 0.0)
        for n, key in enumerate(BANDS, 1)
    }
    layers["scl"] = (np.full((25, 30), 4, np.uint8), 20.0, None)
    with serving(draw(tmp_path / "provider", layers).parent) as server:
        yield server


def scene_of(server: RangedServer, url: str, archive: Store, number: int) -> SceneRef:
    """Keep a catalogue's document of scene `number`, whose files are read through `url`."""
    item = json.loads((server.folder / "drawn.json").read_text())
    item["id"] = f"scene-{number}"
    for key, asset in item["assets"].items():
        asset["href"] = f"{url}/drawn-{key}.tif"
    archive.put(layout.source_item_key(S2, item["id"]), json.dumps(item).encode())
    return SceneRef(collection=S2, item=item["id"])


def wrong_objects(server: RangedServer, scenes: list[SceneRef], archive: Store) -> list[str]:
    """Name objects of the archive that have a record and are not the provider's bytes."""
    return [
        record.key
        for scene in scenes
        for record in read_records(scene, archive).values()
        if archive.get(record.key) != (server.folder / f"drawn-{record.asset}.tif").read_bytes()
    ]


def copied_through(
    server: RangedServer, proxy: FaultProxy, reader: Store, writer: Store, *, wanted: int
) -> tuple[list[SceneRef], int]:
    """Copy scene after scene until enough went wrong; gives the scenes and how many failed."""
    scenes: list[SceneRef] = []
    failed = 0

    def copy(scene: SceneRef) -> int:
        try:
            copy_assets(scene, writer, bands=BANDS, at_once=8, access=ACCESS)
        except ChipmillError:
            return 1
        return 0

    with ThreadPoolExecutor(4) as pool:
        while proxy.faulty < wanted:
            new = [scene_of(server, proxy.url, reader, len(scenes) + n) for n in range(8)]
            scenes += new
            failed += sum(pool.map(copy, new))
    return scenes, failed


def test_no_wrong_object_in_a_thousand_faulty_transfers(
    archive: Store, provider: RangedServer
) -> None:
    """What a provider's line breaks is fetched again or left out, never kept."""
    with faults_before(provider.server_port, seed=1, share=0.6) as proxy:
        scenes, failed = copied_through(provider, proxy, archive, archive, wanted=WANTED)
        assert proxy.faulty >= WANTED
        assert min(proxy.happened.values()) > WANTED / 20
    assert wrong_objects(provider, scenes, archive) == []
    assert failed < len(scenes)
    objects = set(archive.keys("assets"))
    recorded = {r.key for scene in scenes for r in read_records(scene, archive).values()}
    assert objects == recorded


@pytest.mark.s3
@pytest.mark.xdist_group("s3")
def test_no_wrong_object_behind_a_faulty_line_to_the_store(
    s3_archive: Store, provider: RangedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit that flips on the way to the store, and an answer that is lost, end well, too."""
    port = urlsplit(os.environ["AWS_ENDPOINT_URL"]).port  # noqa: TID251
    assert port
    clean = s3_archive
    with faults_before(port, seed=2, share=0.15) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        broken = Store.open(clean.url, patience=0.5)
        lines = faults_before(provider.server_port, seed=3, share=0.0)
        with lines as straight:
            scenes = [scene_of(provider, straight.url, clean, n) for n in range(12)]
            access = Access(private=("127.0.0.1",), patience=0.5, endpoint=proxy.url)
            done = 0
            for scene in scenes:
                try:
                    copy_assets(scene, broken, bands=BANDS, access=access)
                    done += 1
                except ChipmillError:
                    pass
        assert proxy.faulty > 10
    assert done
    assert wrong_objects(provider, scenes, clean) == []


def test_without_any_checksum_only_the_length_is_proven(
    archive: Store, provider: RangedServer
) -> None:
    """A flipped bit of a file that nobody states a checksum of is not seen: the record says so."""
    provider.digests = False
    with faults_before(provider.server_port, seed=5, share=1.0, faults=("flip",)) as proxy:
        scene = scene_of(provider, proxy.url, archive, 0)
        copy_assets(scene, archive, bands=("red",), access=ACCESS)
    record = read_records(scene, archive)["red"]
    assert record.verified == "size"
    assert archive.get(record.key) != (provider.folder / "drawn-red.tif").read_bytes()


def test_what_never_arrives_whole_is_quarantined(archive: Store, provider: RangedServer) -> None:
    """Every fetch flips a bit: the scene is left out with a sentence, and nothing stays."""
    with faults_before(provider.server_port, seed=6, share=1.0, faults=("flip",)) as proxy:
        scene = scene_of(provider, proxy.url, archive, 0)
        with pytest.raises(SceneError, match=r"sha256 .* was promised; drop the scene"):
            copy_assets(scene, archive, bands=("red",), access=ACCESS)
        assert proxy.faulty > 6
    assert list(archive.keys("assets")) == []
    assert read_records(scene, archive) == {}
