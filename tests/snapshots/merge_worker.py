"""Bring parts into an archive and merge after each; `test_merge_faults.py` runs it and kills it.

Arguments: the archive's URL, an archive in a directory that has the parts, a log, and items. What a
merge has acknowledged goes to the log, one line an item, synced: the item and the step of history.
"""

import os
import sys
import time
from pathlib import Path

from chipmill.errors import TransientError
from chipmill.formats import layout
from chipmill.io.store import Store
from chipmill.steps.merge import merge_index

SIZE = 16
COLLECTION = "sentinel-2-l2a"


def main(url: str, source: str, log: str, *items: str) -> None:
    """Do what is not in the log yet."""
    archive, parts = Store.open(url), Store.open(source)
    done = {line.split()[0] for line in Path(log).read_text().splitlines()}
    with Path(log).open("a") as file:
        for item in items:
            if item not in done:
                file.write(f"{item} {_until_it_holds(archive, parts, item)}\n")
                file.flush()
                os.fsync(file.fileno())


def _until_it_holds(archive: Store, parts: Store, item: str) -> int:
    """Try again as a task does, sooner."""
    while True:
        try:
            return _bring(archive, parts, item)
        except TransientError as err:
            sys.stderr.write(f"{err}\n")
            time.sleep(0.1)


def _bring(archive: Store, parts: Store, item: str) -> int:
    for key in (
        layout.provenance_key(COLLECTION, item, "red"),
        layout.part_key(SIZE, COLLECTION, item),
    ):
        archive.put(key, parts.get(key))
    return merge_index(archive, chip_size=SIZE).number


if __name__ == "__main__":
    main(*sys.argv[1:])
