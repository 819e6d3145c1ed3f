"""An archive of eight small scenes whose pixels are known, and a place to stage them."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.model.scene import SceneRef
from chipmill.steps.merge import merge_index
from tests.storage.site import CHIP, Site
from tests.storage.syscalls import Commands, commands
from tests.storage.trials import Trial

Draw = Callable[..., Path]
Ingest = Callable[[IngestRequest, Store], list[SceneRef]]
Pixels = dict[str, NDArray[np.uint16]]
SCENES, EDGE = 8, 192


@pytest.fixture(scope="session")
def eight_scenes(
    draw: Draw, ingest: Ingest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Store, Pixels]:
    """Make the archive once; gives it and the pixels of each scene, shape (y, x)."""
    folder = tmp_path_factory.mktemp("eight")
    archive = Store.open((folder / "archive").as_uri())
    random = np.random.default_rng(3)
    pixels: Pixels = {}
    for number in range(SCENES):
        name = f"s{number}"
        pixels[name] = random.integers(1, 60_000, (EDGE, EDGE)).astype(np.uint16)
        layers = {
            "red": (pixels[name], 10.0, 0.0),
            "scl": (np.full((EDGE // 2, EDGE // 2), 4, np.uint8), 20.0, None),
        }
        path = draw(folder / "source", layers, item=name)
        request = IngestRequest(sensor="sentinel-2-l2a", catalog=str(path), bands=("red",))
        ingest(request.model_copy(update={"chip_size": CHIP}), archive)
    merge_index(archive, chip_size=CHIP)
    return archive, pixels


@pytest.fixture
def site(eight_scenes: tuple[Store, Pixels], tmp_path: Path) -> Iterator[Site]:
    """Give a place where nothing is planned or staged yet."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Ledger.open(url) as ledger:
        yield Site(eight_scenes[0], tmp_path / "fast", url, ledger)


@pytest.fixture(scope="session")
def kill_points(full: bool) -> int:  # noqa: FBT001  a fixture's value
    """Say before how many system calls of each command it is killed."""
    return 200 if full else 6


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Generator[Commands]:
    """Give a worker that runs commands under strace."""
    with commands(tmp_path_factory.mktemp("traces")) as running:
        yield running


@pytest.fixture
def trial(site: Site, shell: Commands, tmp_path: Path) -> Trial:
    """Give an empty place for trials."""
    return Trial(tmp_path / "trial", site.archive.url, shell)
