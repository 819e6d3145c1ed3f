"""Where the bytes of the archive come from: one record for each copied asset."""

from functools import cache
from importlib.metadata import version

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from chipmill.errors import StoreError
from chipmill.formats.multihash import Checksum, decode_multihash, lacking


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
    xxh3: str | None = Field(default=None, exclude_if=lacking)
    """XXH3-128 of the archive's bytes, by which staging proves them again at little cost; None
    where the store copied by itself."""
    source_size: int
    source_sha256: str | None
    """Of the provider's bytes; they differ from the archive's where the file was transcoded."""
    source_etag: str | None = None
    source_modified: AwareDatetime | None = None
    """When the provider wrote the file, where it says so."""
    document: str | None = Field(default=None, exclude_if=lacking)
    """Digest of what the scene's document said when the provider's file was last looked at."""
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

    def is_as_promised(self, size: int | None, checksum: str | None) -> bool:
        """Tell whether the provider's bytes can be those of which an item says this.

        Args:
            size: Bytes; None: the item states none.
            checksum: A multihash. Without one, or where its hash was not recorded, nothing speaks
                against it.
        """
        promised = decode_multihash(checksum) if checksum else None
        recorded = self._recorded(promised)
        return size in (None, self.source_size) and (
            promised is None or recorded in (None, promised.digest)
        )

    def can_tell(self, size: int | None, checksum: str | None) -> bool:
        """Tell whether what an item says of its file can be compared with what was copied."""
        promised = decode_multihash(checksum) if checksum else None
        return size is not None or self._recorded(promised) is not None

    def _recorded(self, promised: Checksum | None) -> str | None:
        same = self.source_sha256 == self.sha256  # else the MD5 is that of a transcoded file
        known = {"sha256": self.source_sha256, "md5": self.md5 if same else None}
        return known.get(promised.algorithm) if promised else None

    def encode(self) -> bytes:
        """Write the record as JSON."""
        return self.model_dump_json(indent=1).encode()


@cache
def this_version() -> str:
    """Give the version of chipmill that runs; looked up once, as thousands of records name it."""
    return version("chipmill")


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
