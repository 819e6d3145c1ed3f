"""Findings of the archive: which scenes an ingest left out, and why."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import Final

from chipmill.errors import MissingError
from chipmill.formats import layout
from chipmill.formats.finding import Finding, decode_finding
from chipmill.io.store import Store

READS_AT_ONCE: Final = 8


def read_findings(archive: Store, *, most: int) -> tuple[list[Finding], bool]:
    """Read up to `most` findings, newest first, and tell whether there are more.

    Raises:
        StoreError: An object is no finding.
        TransientError: The store did not answer.
    """
    keys = list(islice(archive.keys(layout.FINDINGS), most + 1))

    def read(key: str) -> Finding | None:
        with suppress(MissingError):  # it went through meanwhile
            return decode_finding(archive.get(key), where=archive.href(key))
        return None

    with ThreadPoolExecutor(archive.at_once(READS_AT_ONCE)) as pool:
        found = [finding for finding in pool.map(read, keys[:most]) if finding]
    return sorted(found, key=lambda finding: finding.at, reverse=True), len(keys) > most
