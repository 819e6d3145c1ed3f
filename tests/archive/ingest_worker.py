"""Ingests again and again, each time in a fork of its own that the test may kill.

Of each two lines of standard input the first is the URL of an archive: standard output gets the
process id of its ingest. After the second it gets the exit status.
"""

import os
import sys
import traceback

from chipmill.errors import ChipmillError
from chipmill.io.store import Store
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.copy import copy_assets
from chipmill.steps.index import index_chips
from chipmill.steps.merge import merge_index
from chipmill.steps.rewrite import rewrite_item
from chipmill.steps.search import search_scenes


def ingest(url: str, catalog: str, sensor: str, bands: tuple[str, ...]) -> None:
    """Do all steps of one request."""
    archive = Store.open(url)
    request = IngestRequest(sensor=sensor, catalog=catalog, bands=bands, chip_size=64)
    for scene in search_scenes(request, archive):
        copy_assets(scene, archive, bands=bands, at_once=2)
        rewrite_item(scene, archive, bands=bands)
        index_chips(scene, archive, chip_size=64)
    merge_index(archive, chip_size=64)


def main(catalog: str, sensor: str, bands: tuple[str, ...]) -> None:
    """Fork an ingest for each line; nothing that has threads is made before a fork."""
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            try:
                ingest(line.strip(), catalog, sensor, bands)
            except ChipmillError:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(child, flush=True)  # noqa: T201
        sys.stdin.readline()  # until then the id belongs to this ingest, even when it has ended
        print(os.waitpid(child, 0)[1], flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], tuple(sys.argv[3].split(",")))
