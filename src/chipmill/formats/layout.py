"""Every key that chipmill writes, in the archive and on fast storage.

Ids of items and keys of assets are other people's text: `segment` turns them into one path segment
that cannot climb out of its prefix, collide with another, or mean something else on another file
system.
"""

import hashlib
import re

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def segment(text: str) -> str:
    """Encode any text as one safe path segment.

    Plain ids stay as they are. Everything else keeps a readable stem and gets the first 16 hex
    digits of its SHA-256, so that two ids never share a segment.
    """
    if _SAFE.fullmatch(text) and not text.endswith("."):
        return text
    stem = _UNSAFE.sub("-", text).strip(".-")[:80] or "x"
    return f"{stem}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def source_items_prefix(collection: str) -> str:
    """Prefix of the catalogue's own documents of a collection."""
    return f"provenance/items/{segment(collection)}/"


def source_item_key(collection: str, item: str) -> str:
    """Key of the catalogue's own document of a scene, kept as it came."""
    return f"{source_items_prefix(collection)}{segment(item)}.json"


def search_key(search: str) -> str:
    """Key of the document that names the files of a frozen scene list."""
    return f"searches/{search}/search.json"


def search_file_key(search: str, table: str, digest: str) -> str:
    """Key of one file of a scene list; `table` is a name with its ending, as items.parquet."""
    stem, _, ending = table.partition(".")
    return f"searches/{search}/{stem}-{digest}.{ending}"


def provenance_prefix(collection: str, item: str) -> str:
    """Prefix of the records of a scene's copied assets."""
    return f"provenance/assets/{segment(collection)}/{segment(item)}/"


def provenance_key(collection: str, item: str, asset: str) -> str:
    """Key of the record of a copied asset."""
    return f"{provenance_prefix(collection, item)}{segment(asset)}.json"


def asset_key(collection: str, item: str, asset: str) -> str:
    """Key of a copied asset; every asset in the archive is a GeoTIFF."""
    return f"assets/{segment(collection)}/{segment(item)}/{segment(asset)}.tif"


def item_key(collection: str, item: str) -> str:
    """Key of a rewritten STAC item."""
    return f"items/{segment(collection)}/{segment(item)}.json"


def collection_key(collection: str) -> str:
    """Key of the STAC collection of the rewritten items, beside their folder."""
    return f"items/{segment(collection)}.json"


FINDINGS = "findings/"
"""Prefix of all findings."""


def finding_key(collection: str, item: str) -> str:
    """Key of the reason why a scene is quarantined."""
    return f"{FINDINGS}{segment(collection)}/{segment(item)}.json"


def parts_prefix(chip_size: int) -> str:
    """Prefix of all index parts of one chip size."""
    return f"index/parts/{chip_size}/"


def part_key(chip_size: int, collection: str, item: str) -> str:
    """Key of the chip index of one scene."""
    return f"{parts_prefix(chip_size)}{segment(collection)}/{segment(item)}.parquet"


def part_of_finding(chip_size: int, key: str) -> str:
    """Key of the chip index of the scene that a finding's key speaks of."""
    return f"{parts_prefix(chip_size)}{key.removeprefix(FINDINGS).removesuffix('.json')}.parquet"


HEADS = "index/heads/"
"""Prefix of the history of the index: below it one folder a chip size."""
SNAPSHOTS = "index/snapshots/"
"""Prefix of all snapshots: below it one folder a snapshot."""


PROBES = "index/probe/"
"""Prefix of what merges write to try the store, and remove."""


def heads_prefix(chip_size: int) -> str:
    """Prefix of the history of the index of one chip size."""
    return f"{HEADS}{chip_size}/"


def head_key(chip_size: int, number: int) -> str:
    """Key of one step of the history of the index; create-only."""
    return f"{heads_prefix(chip_size)}{number:08d}.json"


def snapshot_key(snapshot: str, number: int) -> str:
    """Key of the document that names a snapshot's files, as step `number` of history had them."""
    return f"{SNAPSHOTS}{snapshot}/snapshot-{number:08d}.json"


def snapshot_file_key(snapshot: str, table: str, name: str) -> str:
    """Key of one Parquet file of a snapshot; `table` is chips, scenes or provenance."""
    return f"{SNAPSHOTS}{snapshot}/{table}/{name}.parquet"


PLANS = "plans/"
"""Prefix of all plans: below it one folder a plan."""


def snapshot_map_key(snapshot: str) -> str:
    """Key of the page that shows a snapshot's chips."""
    return f"index/snapshots/{snapshot}/map.html"


def snapshot_preview_key(snapshot: str) -> str:
    """Key of the contact sheet of a snapshot."""
    return f"index/snapshots/{snapshot}/preview.png"


def scene_statistics_key(collection: str, item: str, name: str) -> str:
    """Key of what was measured of a scene's usable chips."""
    return f"index/statistics/{segment(collection)}/{segment(item)}/{name}.json"


def statistics_prefix(snapshot: str) -> str:
    """Prefix of the statistics of a snapshot."""
    return f"index/snapshots/{snapshot}/statistics/"


def statistics_key(snapshot: str, name: str) -> str:
    """Key of the statistics of a snapshot under some limits; never changed."""
    return f"{statistics_prefix(snapshot)}{name}.json"


def plan_key(plan: str) -> str:
    """Key of a plan's summary."""
    return f"{PLANS}{plan}/plan.json"


def plan_scenes_key(plan: str) -> str:
    """Key of a plan's scenes: which megabatch each is in and which of its chips are used."""
    return f"{PLANS}{plan}/scenes.parquet"


def plan_normalization_key(plan: str) -> str:
    """Key of the choice of statistics that all megabatches of a plan carry."""
    return f"plans/{plan}/normalization.json"


MANIFEST = "manifest.json"
"""Name of the manifest in a megabatch's folder; written last."""
CHIP_TABLE = "chips.parquet"
"""Name of the table of where chips lie, in the folder of a megabatch of an export."""
CLAY_METADATA = "metadata.yaml"
"""Name of what Clay's module must know of platforms, beside their folders."""
EXPORTS = "exports/"
"""Prefix of all static exports: below it one folder an export."""
EXPORT = "export.json"
"""Name of the document of a whole export in its folder; written last."""


def export_prefix(name: str) -> str:
    """Prefix of a static export; what lies below it can be moved elsewhere as it is."""
    return f"{EXPORTS}{name}/"


def export_claim_key(name: str) -> str:
    """Key of the document that says of which plan an export is; written first, create-only."""
    return f"{export_prefix(name)}claim.json"


def export_key(name: str) -> str:
    """Key of the document that says that an export is whole; written last."""
    return f"{export_prefix(name)}{EXPORT}"


def export_folder(number: int) -> str:
    """Folder of a megabatch in its export."""
    return f"{number:05d}"


def export_manifest_key(name: str, number: int) -> str:
    """Key of the manifest of a megabatch of an export."""
    return f"{export_prefix(name)}{export_folder(number)}/{MANIFEST}"


def export_index_key(name: str, number: int) -> str:
    """Key of the table that says where the chips of a megabatch of an export lie."""
    return f"{export_prefix(name)}{export_folder(number)}/{CHIP_TABLE}"


def export_records_prefix(name: str) -> str:
    """Prefix of what is known of the packs of an export while it is being written."""
    return f"{export_prefix(name)}records/packs/"


def export_record_key(name: str, file: str) -> str:
    """Key of the record of one pack of an export, named by its path in the export."""
    return f"{export_records_prefix(name)}{file}.parquet"


def rendering_prefix(name: str, form: str, chips: int) -> str:
    """Prefix of an export's chips in files of another form, each of so many chips."""
    return f"{export_prefix(name)}{form}-{chips}/"


def rendering_key(name: str, form: str, chips: int) -> str:
    """Key of the document that says that a rendering is whole; written last."""
    return f"{rendering_prefix(name, form, chips)}rendering.json"


def rendering_records_prefix(name: str, form: str, chips: int) -> str:
    """Prefix of what is known of the files of a rendering while it is being written."""
    return f"{export_prefix(name)}records/{form}-{chips}/"


def megabatch_folder(plan: str, number: int) -> str:
    """Folder of a megabatch below the root of fast storage."""
    return f"{plan}/{number:05d}"


_STAGED = re.compile(r"[0-9a-f]{32}\.(arrow|tif)")


def is_staged(name: str) -> bool:
    """Tell whether chipmill gives a file in a megabatch's folder such a name."""
    return name == MANIFEST or _STAGED.fullmatch(name) is not None


def scene_file(key: str) -> str:
    """File name of a file of the archive in its megabatch's folder, where it lies as it is."""
    return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.tif"


def pack_file(collection: str, scene: str) -> str:
    """File name of a scene's chip pack in its megabatch's folder."""
    digest = hashlib.sha256(f"{collection}\0{scene}".encode()).hexdigest()[:32]
    return f"{digest}.arrow"
