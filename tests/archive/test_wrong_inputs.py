"""What people get wrong: one clear error each, which says what, where and what to do.

The forged signature is in the tests of the service.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from chipmill.errors import BudgetError, CatalogError, ChipmillError, RequestError, SceneError
from chipmill.formats import layout
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.search import search_scenes

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
S2 = "sentinel-2-l2a"


@pytest.fixture
def item(tmp_path: Path, draw: Draw) -> Path:
    """Write a scene of 40 x 40 pixels and give its item's path."""
    pixels = np.full((40, 40), 4, np.uint16)
    return draw(tmp_path / "source", {"red": (pixels, 10.0, 0.0), "scl": (pixels, 10.0, None)})


def ask(item: Path, **changes: object) -> IngestRequest:
    """Ask for the red band of the scene."""
    asked: dict[str, Any] = {"sensor": S2, "catalog": str(item), "bands": ("red",), "chip_size": 16}
    return IngestRequest.model_validate(asked | changes)


def test_one_clear_error_each(
    item: Path, archive: Store, ingest: Ingest, free_port: Callable[[], int]
) -> None:
    """The class says who can mend it, the message what to do."""
    nobody = f"http://127.0.0.1:{free_port()}/stac"
    wrong: list[tuple[dict[str, object], type[ChipmillError], str]] = [
        ({"sensor": "sentinel-3"}, RequestError, "no sensor 'sentinel-3'; known are"),
        ({"bands": ("purple",)}, RequestError, "no band 'purple'; its bands are .*blue, green"),
        ({"catalog": nobody}, CatalogError, f"{nobody} cannot be reached"),
        ({"period": "1999-01-01/1999-02-01"}, RequestError, "matches period 1999.*; widen"),
        ({"catalog": "http://[::1/stac"}, CatalogError, "is not the URL of a catalogue"),
        ({"ids": ("other",)}, RequestError, "matches ids other; widen"),
        ({"bands": ("nir",)}, SceneError, "drawn has no asset for band 'nir'"),
        ({"chip_size": 64}, SceneError, "no chip of 64 px fits in a scene of 40 x 40 px"),
    ]
    for changes, kind, said in wrong:
        with pytest.raises(kind, match=said):
            ingest(ask(item, **changes), archive)


def test_a_form_that_makes_no_sense_is_refused_at_once(item: Path) -> None:
    """Before any flow run: the form of the UI shows the same words."""
    for changes, said in (
        ({"period": "none"}, "'none' is not a period; write start/end"),
        ({"period": "August"}, "'August' is not a period"),
        ({"period": "2023-13-45/.."}, "'2023-13-45/..' is not a period"),
        ({"period": "2023/08/31"}, "is not a period"),
        ({"period": "2023-02-01/2022-01-01"}, "ends before it starts; swap the two"),
        ({"bbox": (0, 10, 1, 5)}, "the south 10.0 lies north of the north 5.0"),
        ({"chip_size": 8}, "chip_size"),
        ({"bbox": (0, -91, 0, 0)}, "bbox"),
        ({"sensr": "naip"}, "sensr"),
    ):
        with pytest.raises(ValidationError, match=said):
            ask(item, **changes)


def test_items_that_cannot_be_named_are_left_out(item: Path, archive: Store) -> None:
    """One broken document in a catalogue must not stop the thousands beside it."""
    good = json.loads(item.read_text())
    for asset in good["assets"].values():
        asset["href"] = (item.parent / asset["href"]).as_uri()
    broken: list[object] = [
        7,
        None,
        {},
        good | {"id": None},
        good | {"id": ""},
        good | {"id": "a\ud800b"},
    ]
    catalog = item.with_name("broken.json")
    catalog.write_text(json.dumps([*broken, good]))
    found = search_scenes(ask(catalog), archive)
    assert [scene.item for scene in found] == ["drawn"]


def test_an_item_without_its_quality_asset(item: Path, archive: Store) -> None:
    """Clouds that cannot be judged must not pass for a clear sky."""
    document = json.loads(item.read_text())
    del document["assets"]["scl"]
    item.write_text(json.dumps(document))
    (scene,) = search_scenes(ask(item), archive)
    with pytest.raises(SceneError, match=r"drawn has no quality asset .*scl.*drop the scene"):
        copy_assets(scene, archive, bands=("red",))


def test_an_asset_that_is_missing_at_the_source(item: Path, archive: Store) -> None:
    """The scene is named with its asset; nothing of it reaches the archive's assets."""
    (item.parent / "drawn-red.tif").unlink()
    (scene,) = search_scenes(ask(item), archive)
    with pytest.raises(SceneError, match=r"asset 'red' of sentinel-2-l2a/drawn is missing"):
        copy_assets(scene, archive, bands=("red",))
    assert archive.size(layout.asset_key(S2, "drawn", "red")) is None


def test_another_platform_than_the_band_table(tmp_path: Path, draw: Draw, archive: Store) -> None:
    """The wavelengths of Landsat 8 are not those of the scanners of 1978."""
    layers = {"red": (np.ones((40, 40), np.uint16), 30.0, 0.0)}
    said = {"platform": "landsat-3"}
    path = draw(tmp_path, layers, collection="landsat-c2l2-sr", properties=said)
    (scene,) = search_scenes(ask(path, sensor="landsat-c2l2-sr"), archive)
    with pytest.raises(SceneError, match=r"drawn is of platform 'landsat-3'.*leave the scene out"):
        copy_assets(scene, archive, bands=("red",))


def test_files_that_do_not_align(
    tmp_path: Path, draw: Draw, ingest: Ingest, archive: Store
) -> None:
    """A band that is shifted or larger by pixels is refused, never silently resampled."""
    fine, coarse = np.ones((40, 40), np.uint16), np.ones((30, 30), np.uint16)
    layers = {"red": (fine, 10.0, 0.0), "nir08": (coarse, 20.0, 0.0), "scl": (fine, 10.0, None)}
    with pytest.raises(SceneError, match=r"nir08.* do not align: their upper left corners"):
        ingest(ask(draw(tmp_path, layers), bands=("red", "nir08")), archive)


def test_indexing_what_is_not_there(archive: Store) -> None:
    """A step that is run before the one before it says what is missing."""
    with pytest.raises(ChipmillError, match=r"items/naip/none\.json"):
        index_chips(SceneRef(collection="naip", item="none"), archive)


def test_plans_that_cannot_be(item: Path, archive: Store, ingest: Ingest, tmp_path: Path) -> None:
    """Few scenes without a word, nothing usable, and a budget that no megabatch fits in."""
    ingest(ask(item), archive)
    merge_index(archive, chip_size=16)
    with pytest.raises(
        RequestError, match=r"megabatch of 4 scenes is too small .* allow few scenes"
    ):
        make_plan(PlanRequest(minibatch=1, megabatch=4, chip_size=16), archive)
    with pytest.raises(RequestError, match="no snapshot with chips of 256 px"):
        make_plan(PlanRequest(minibatch=1), archive)
    plan = make_plan(PlanRequest(minibatch=1, chip_size=16), archive)
    with (
        Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger,
        pytest.raises(BudgetError, match=r"needs [0-9,]+ bytes, .* is 1,000; raise the budget"),
    ):
        register(plan, ledger, budget=1000)
