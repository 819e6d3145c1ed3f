"""An archive of small scenes of two sensors, with all the bands that Clay knows of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chipmill.formats.plan import Plan
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.plan_request import PlanRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index
from chipmill.steps.plan import make_plan
from chipmill.steps.prefetch import register
from chipmill.steps.stage import stage_megabatch

Draw = Callable[..., Path]
Layer = tuple[NDArray[np.generic], float, float | None]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
CHIP = 16
FINE = ("blue", "green", "red", "nir")
COARSE = ("rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")


@dataclass(frozen=True)
class Site:
    """A plan, and the archive that it is of."""

    archive: Store
    plan: Plan

    def stage(self, root: Path) -> Path:
        """Stage all megabatches; gives fast storage."""
        with Ledger.open(f"sqlite:///{root / 'ledger.db'}") as ledger:
            register(self.plan, ledger, budget=10**9)
            for number in range(len(self.plan.megabatches)):
                stage_megabatch(
                    self.plan,
                    number,
                    archive=self.archive,
                    fast=root / "fast",
                    ledger=ledger,
                    budget=10**9,
                    worker="test",
                )
        return root / "fast"


@pytest.fixture(scope="session")
def scenery(draw: Draw, ingest: Ingest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Make an archive of eight scenes of Sentinel-2 in ten bands and six of NAIP in four."""
    folder = tmp_path_factory.mktemp("scenery")
    archive = Store.open((folder / "archive").as_uri())
    random = np.random.default_rng(11)

    def take(path: Path, sensor: str, bands: tuple[str, ...]) -> None:
        ingest(
            IngestRequest(sensor=sensor, catalog=str(path), bands=bands, chip_size=CHIP), archive
        )

    for number in range(8):
        layers: dict[str, Layer] = {
            name: (random.integers(1, 9000, (64, 64)).astype(np.uint16), 10.0, 0.0) for name in FINE
        }
        layers |= {
            name: (random.integers(1, 9000, (32, 32)).astype(np.uint16), 20.0, 0.0)
            for name in COARSE
        }
        layers["scl"] = (np.full((32, 32), 4, np.uint8), 20.0, None)
        corner = (500_000.0, 5_100_000.0 + 10_000 * number)
        path = draw(folder / "source", layers, item=f"S2A.{number}", corner=corner)
        take(path, "sentinel-2-l2a", (*FINE, *COARSE))
    for number in range(6):
        layers = {"image": (random.integers(1, 255, (4, 48, 48)).astype(np.uint8), 1.0, None)}
        path = draw(
            folder / "source",
            layers,
            item=f"m_{number}",
            collection="naip",
            properties={"datetime": f"2021-0{number + 1}-03T16:00:00Z"},
        )
        take(path, "naip", ())
    merge_index(archive, chip_size=CHIP)
    return archive


@pytest.fixture(scope="session")
def site(scenery: Store) -> Site:
    """Plan three megabatches of the archive."""
    request = PlanRequest(minibatch=2, megabatch=5, chip_size=CHIP, few_scenes=True, seed=3)
    return Site(scenery, make_plan(request, scenery))
