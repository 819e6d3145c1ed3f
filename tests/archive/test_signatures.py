"""A signed address is a secret: the whole way into the index keeps and says nothing of it."""

import json
import logging
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.estimate import estimate
from chipmill.steps.ingest import ingest_scenes
from chipmill.steps.search import search_scenes
from tests.archive.ranged_server import serving

Draw = Callable[..., Path]
SIGNED = "sv=2024-01-01&se=2030-01-01&sig=SECRET%2Fx&X-Amz-Signature=SECRET"


def everything(archive: Store) -> Iterator[str]:
    """Give all keys, and all content as text, whatever it is packed in."""
    for key in archive.keys(""):
        data = archive.get(key)
        yield key
        yield repr(data)
        if key.endswith(".parquet"):
            table = parquet.read_table(BytesIO(data))
            yield repr((table.to_pylist(), table.schema.metadata))
        if key.endswith(".zst"):
            with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
                yield repr(stream.read())


def test_no_signature_stays_on_the_way_into_the_index(
    tmp_path: Path, draw: Draw, archive: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """In documents, lists, records, items, parts, snapshots, findings, and in the log."""
    caplog.set_level(logging.DEBUG)
    noise = np.random.default_rng(0).integers(1, 9000, (64, 64)).astype(np.uint16)
    path = draw(
        tmp_path / "provider", {"red": (noise, 10.0, 0.0), "scl": (noise // 9000 + 4, 10.0, None)}
    )
    item = json.loads(path.read_text())
    with serving(path.parent) as provider:
        signed = {
            key: {
                **asset,
                "href": f"{provider.url}/{asset['href']}?{SIGNED}",
                "alternate": {"far": {"href": f"https://user:SECRET@example.invalid/x?{SIGNED}"}},
            }
            for key, asset in item["assets"].items()
        }
        links = [{"rel": "self", "href": f"{provider.url}/drawn.json?{SIGNED}"}]
        gone = {**signed, "red": {**signed["red"], "href": f"{provider.url}/gone.tif?{SIGNED}"}}
        features = [
            {**item, "links": links, "assets": signed},
            {**item, "id": "gone", "links": links, "assets": gone},
        ]
        (path.parent / "items.json").write_text(
            json.dumps({"type": "FeatureCollection", "features": features})
        )
        request = IngestRequest(
            sensor="sentinel-2-l2a",
            catalog=f"{provider.url}/items.json?{SIGNED}",
            bands=("red",),
            chip_size=32,
        )
        access = Access(private=("127.0.0.1",), hosts=("127.0.0.1",))
        scenes = search_scenes(request, archive, access=access)
        assert estimate(request, scenes, archive, access=access).throughput
        done, _ = ingest_scenes(request, scenes, archive, access=access)
    assert (len(scenes), len(done.scenes), len(done.findings)) == (2, 1, 1)
    # Not as text: a library that we use has a line in its log that does not format.
    told = [f"{record.name}: {record.msg!s} {record.args!s}" for record in caplog.records]
    assert any("drawn" in line for line in told)
    assert [line for line in told if "SECRET" in line] == []
    assert [text[:200] for text in everything(archive) if "SECRET" in text] == []
