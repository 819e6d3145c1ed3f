"""Whether what is on fast storage could be fetched again: what is removed has to be."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from chipmill.errors import MissingError, RequestError
from chipmill.formats import layout
from chipmill.formats.archived_item import read_archived
from chipmill.formats.plan import PlannedScene
from chipmill.io.store import Store
from chipmill.model.megabatch import megabatch_id
from chipmill.steps.plan import load_plan, load_scenes

_LOOKS_AT_ONCE: Final = 32  # requests in flight: 3,000 scenes of two requests are seconds on S3
_SHOWN: Final = 3


def check_sources(archive: Store, plan: str, number: int) -> None:
    """See that the archive has all that staging a megabatch again would read.

    Two requests a scene, one for its item and one for the list of its files; no pixel is read.

    Raises:
        MissingError: The plan, an item or a file is gone; the message names some.
    """
    name = megabatch_id(plan, number)
    try:
        load_plan(archive, plan)
        scenes = load_scenes(archive, plan, number)
    except (MissingError, RequestError) as err:
        raise MissingError(f"megabatch {name} could not be staged again: {err}") from err
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        lost = [key for key in pool.map(partial(_lost, archive), scenes) if key]
    if lost:
        shown = ", ".join(lost[:_SHOWN]) + (", …" if len(lost) > _SHOWN else "")
        raise MissingError(
            f"megabatch {name} could not be staged again: {archive.url} lacks files of {len(lost)} "
            f"of its {len(scenes)} scenes ({shown}); copy them again, or give the megabatch up for "
            f"good with `chipmill ledger abandon {name} --lost`"
        )


def _lost(archive: Store, planned: PlannedScene) -> str | None:
    """Name the first key of a scene that is not there."""
    key = layout.item_key(planned.collection, planned.scene)
    try:
        scene = read_archived(json.loads(archive.get(key)), key_of=archive.key_of)
    except MissingError:
        return key
    files = {band.file.key for band in scene.bands}
    for folder in {file.rpartition("/")[0] for file in files}:
        files -= set(archive.keys(f"{folder}/"))
    return min(files, default=None)
