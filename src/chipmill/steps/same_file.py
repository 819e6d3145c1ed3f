"""Tell by one request whether a provider's file is still the one that was copied."""

from chipmill.errors import StoreError, TransientError
from chipmill.formats.provenance import AssetRecord
from chipmill.io.source import open_source
from chipmill.model.access import Access
from chipmill.model.places import Place


def is_same_file(place: Place, record: AssetRecord, access: Access) -> bool:
    """Compare what a provider says of its file now with what it said when the file was copied.

    The answer's headers are read and none of its bytes. Where a provider says nothing but the size,
    or does not answer, the file counts as another one: to copy it shows.
    """
    try:
        with open_source(place.href, access, pays=place.requester_pays) as now:
            if now.size not in (None, record.source_size):
                return False
            if now.etag and record.source_etag:
                return now.etag == record.source_etag
            return now.modified is not None and now.modified == record.source_modified
    except (StoreError, TransientError):
        return False
