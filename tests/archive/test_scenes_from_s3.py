"""Files of an archive on S3, staged as they are."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chipmill.errors import SceneError
from chipmill.formats.manifest import decode_manifest
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.manner import Manner
from chipmill.model.megabatch import State, megabatch_id
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.stage import stage_megabatch
from chipmill.train import Batch, ChipDataset

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
CHIP = 16

pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("s3")]


def test_scenes_of_a_bucket_are_staged_proven_and_read(
    s3_archive: Store, draw: Draw, ingest: Ingest, ledger: Ledger, tmp_path: Path
) -> None:
    """Files beside the packs are the bucket's, chips are the scenes', and damage is found."""
    random = np.random.default_rng(4)
    pixels = {item: random.integers(1, 60_000, (64, 64)).astype(np.uint16) for item in "ab"}
    for item, values in pixels.items():
        layers = {
            "red": (values, 10.0, 0.0),
            "nir": (values[::2, ::2].copy(), 20.0, 0.0),
            "scl": (np.full((32, 32), 4, np.uint8), 20.0, None),
        }
        path = draw(tmp_path / "source", layers, item=item)
        asked = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=("red", "nir"))
        ingest(asked.model_copy(update={"chip_size": CHIP}), s3_archive)
    merge_index(s3_archive, chip_size=CHIP)
    plan = make_plan(PlanRequest(minibatch=2, chip_size=CHIP, few_scenes=True), s3_archive)
    register(plan, ledger, budget=10**9)
    fast = tmp_path / "fast"

    def stage() -> None:
        stage_megabatch(
            plan,
            0,
            archive=s3_archive,
            fast=fast,
            ledger=ledger,
            budget=10**9,
            worker="test",
            manner=Manner(form="scenes"),
        )

    nir = next(key for key in s3_archive.keys("assets/") if key.endswith("nir.tif"))
    right = s3_archive.get(nir)
    s3_archive.put(nir, right[:-1] + bytes([right[-1] ^ 1]))
    with pytest.raises(SceneError, match=r"nir\.tif .* came wrong twice"):
        stage()
    assert ledger.megabatch(megabatch_id(plan.plan, 0)).state is State.PLANNED
    assert ledger.reserved() == 0
    assert not [path for path in fast.rglob("*") if path.is_file()]
    s3_archive.put(nir, right)
    stage()
    (manifest,) = fast.rglob("manifest.json")
    assert decode_manifest(manifest.read_bytes(), where="it").form == "scenes"
    files = {hashlib.sha256(path.read_bytes()).digest() for path in fast.rglob("*.tif")}
    keys = [key for key in s3_archive.keys("assets/") if not key.endswith("scl.tif")]
    assert files == {hashlib.sha256(s3_archive.get(key)).digest() for key in keys}
    there = sum(path.stat().st_size for path in fast.rglob("*") if path.is_file())
    assert there == ledger.reserved()
    batches = [*ChipDataset(s3_archive.url, plan=plan.plan, fast=fast, as_torch=False)]
    assert sum(len(batch) for batch in batches) == 32
    for batch in batches:
        assert isinstance(batch, Batch)
        for chip, name in zip(batch.pixels, batch.chip_ids, strict=True):
            _, item, place = name.split("/")
            row, col = (int(part) * CHIP for part in place.split("-"))
            red = pixels[item][row : row + CHIP, col : col + CHIP]
            np.testing.assert_array_equal(chip[0], red)
