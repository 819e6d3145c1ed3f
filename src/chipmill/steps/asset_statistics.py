"""Statistics of each band of a scene for its item; what an earlier item says of a file is kept."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from chipmill.errors import MissingError
from chipmill.formats import layout
from chipmill.formats.copied import AssetStatistics, CopiedFile
from chipmill.formats.item_reading import Json
from chipmill.formats.multihash import encode_multihash
from chipmill.io.store import Store
from chipmill.model.choice import Choice
from chipmill.model.scene import SceneRef
from chipmill.sensors import sensor
from chipmill.steps.measure import measure_file


def asset_statistics(
    scene: SceneRef, choice: Choice, files: Mapping[str, CopiedFile], archive: Store
) -> AssetStatistics:
    """Measure the data files of a scene; a file that is in its item already is not read again.

    Raises:
        SceneError: A file is damaged.
    """
    known = _known(scene, archive)
    alpha = sensor(scene.collection).alpha
    found: dict[str, Mapping[int, Json]] = {}
    for key in dict.fromkeys(source.asset.key for source in choice.bands):
        bands = sorted(source.index for source in choice.bands if source.asset.key == key)
        file = files[key]
        found[key] = _said_of(known.get(key), file, bands) or measure_file(
            archive, file.record.key, bands=bands, nodata=file.nodata, alpha=alpha
        )
    return found


def _known(scene: SceneRef, archive: Store) -> Mapping[str, Json]:
    """Give the assets of the item that an earlier rewrite has left."""
    with suppress(MissingError):
        item = json.loads(archive.get(layout.item_key(scene.collection, scene.item)))
        return cast("Mapping[str, Json]", item["assets"])
    return {}


def _said_of(asset: Json | None, file: CopiedFile, bands: list[int]) -> Mapping[int, Json]:
    """Give what an asset says of these bands, if it is of the same bytes and the same nodata."""
    if asset is None or asset["file:checksum"] != encode_multihash(file.record.checksum):
        return {}
    said = asset.get("nodata")
    if str(file.nodata) != str(None if said is None else float(said)):
        return {}
    measured = {
        int(band["chipmill:index"]): cast("Json", band["statistics"])
        for band in cast("list[Json]", asset.get("bands", ()))
        if "statistics" in band
    }
    # Nodata is where all bands of a file are: with other bands it may lie elsewhere.
    return measured if sorted(measured) == bands else {}
