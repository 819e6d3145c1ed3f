"""Where the bytes of the archive come from: one record for each copied asset."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from chipmill.errors import StoreError
from chipmill.formats.multihash import Checksum


class AssetRecord(BaseModel):
    """One copied asset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    """Key of the asset in its item."""
    source: str
    """Href at the provider, without a signature."""
    key: str
    """Key in the archive."""
    size: int
    """Bytes in the archive."""
    sha256: str | None
    """None only where the store copied by itself and states no SHA-256; then there is the MD5."""
    md5: str | None
    """None only where it is neither stated by the store nor was needed to check the bytes."""
    source_size: int
    source_sha256: str | None
    """Of the provider's bytes; they differ from the archive's where the file was transcoded."""
    source_etag: str | None = None
    source_modified: AwareDatetime | None = None
    """When the provider wrote the file, where it says so."""
    verified: str
    """What the bytes were checked against: `checksum` (the item's), `header` (one that the provider
    sent), `etag` (an MD5), `size`, or `none` when none is stated."""
    copied: AwareDatetime
    version: str
    """Version of chipmill that copied it."""

    @property
    def checksum(self) -> Checksum:
        """The best digest of the archive's bytes."""
        if self.sha256 is not None:
            return Checksum("sha256", self.sha256)
        return Checksum("md5", self.md5 or "")

    def encode(self) -> bytes:
        """Write the record as JSON."""
        return self.model_dump_json(indent=1).encode()


def decode_record(data: bytes, *, where: str) -> AssetRecord:
    """Read the record of an asset.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    try:
        return AssetRecord.model_validate_json(data)
    except ValidationError as err:
        raise StoreError(
            f"{where} is not a record of a copied asset; remove it to copy anew"
        ) from err
