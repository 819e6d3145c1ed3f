"""Indexing one scene against decoding every pixel of its files once.

python -m benchmarks.index
"""

import tempfile
from pathlib import Path

from benchmarks.measure import compare, say_machine
from benchmarks.scene import decode, make_scene
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef
from chipmill.steps.index import index_chips


def main() -> None:
    """Print the ratio."""
    with tempfile.TemporaryDirectory(prefix="chipmill-bench-") as folder:
        root = Path(folder)
        archive = Store.open((root / "archive").as_uri())
        scene = make_scene(root / "source", archive)
        files = sorted((root / "archive" / "assets").rglob("*.tif"))
        compare(
            "index one scene",
            lambda: index(scene, archive),
            "decode its files",
            lambda: decode(files),
        )


def index(scene: SceneRef, archive: Store) -> None:
    """Count cloud and nodata of all chips, as if for the first time."""
    archive.delete(layout.part_key(256, scene.collection, scene.item))
    index_chips(scene, archive)


if __name__ == "__main__":
    say_machine()
    main()
