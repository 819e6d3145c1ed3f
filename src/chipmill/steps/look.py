"""look: keep a map and a contact sheet beside a snapshot, for whoever opens it later."""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from chipmill.errors import RequestError
from chipmill.formats import layout
from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.steps.map import index_map
from chipmill.steps.merge import load_snapshot
from chipmill.steps.preview import Sheet, contact_sheet

MOST_CHIPS = 2_000_000
"""Chips on one page: 12 MB of it, and about as many polygons as a graphics card moves smoothly."""
THUMBNAIL = (900, 900)
"""Pixels; with `_QUALITY` some tens of kilobytes, which a database row can hold."""
_QUALITY = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What there is to see of a snapshot."""

    preview: str
    """Where the contact sheet lies."""
    map: str | None
    """Where the page lies; None: the snapshot has too many chips for one page."""
    thumbnail: bytes
    """The contact sheet in small, a JPEG."""


def look_at(archive: Store, name: str) -> Look:
    """Draw a snapshot and keep the pictures beside it; what is there is not drawn again.

    Raises:
        RequestError: There is no such snapshot.
    """
    snapshot = load_snapshot(archive, name)
    sheet, page = layout.snapshot_preview_key(name), layout.snapshot_map_key(name)
    if archive.size(sheet) is None:
        archive.put(sheet, _sheet(archive, snapshot))
    drawn = snapshot.chips <= MOST_CHIPS
    if drawn and archive.size(page) is None:
        archive.put(page, index_map(archive, snapshot).encode())
    return Look(
        preview=archive.href(sheet),
        map=archive.href(page) if drawn else None,
        thumbnail=_thumbnail(archive.get(sheet)),
    )


def _sheet(archive: Store, snapshot: Snapshot) -> bytes:
    """Draw usable chips; where there are none, whatever there is."""
    try:
        return contact_sheet(archive, snapshot)
    except RequestError:
        return contact_sheet(archive, snapshot, Sheet(max_cloud=None, max_nodata=None))


def _thumbnail(png: bytes) -> bytes:
    sink = BytesIO()
    with Image.open(BytesIO(png)) as image:
        image.thumbnail(THUMBNAIL)
        image.convert("RGB").save(sink, "JPEG", quality=_QUALITY)
    return sink.getvalue()
