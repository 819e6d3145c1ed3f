"""stacchip's Chipper on the generated scene, in a Python of its own; prints what it did as JSON.

python load_peer.py SCENE_FOLDER
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from pystac import Item

CHIPS = 40


def main() -> None:
    """Read chips at random places on one core."""
    os.sched_setaffinity(0, {0})
    item = Item.from_file(str(Path(sys.argv[1]) / "item.json"))
    # pystac writes this name anew, and stacchip asks for the old one.
    item.properties["proj:epsg"] = 32633
    indexer: Any = import_module("stacchip.indexer").NoStatsChipIndexer(item)
    chipper: Any = import_module("stacchip.chipper").Chipper(indexer)
    places = np.random.default_rng(0).integers(0, 42, (CHIPS, 2)).tolist()
    chipper.chip(0, 0)
    began, cpu = time.perf_counter(), time.process_time()
    for row, col in places:
        chipper.chip(col, row)
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"chips": CHIPS, "wall": wall, "cpu": used}))


if __name__ == "__main__":
    main()
