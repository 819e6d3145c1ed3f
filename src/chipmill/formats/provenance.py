"""Where the bytes of the archive come from: one record for each copied asset."""

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from chipmill.errors import StoreError


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
    sha256: str
    md5: str
    source_size: int
    source_sha256: str
    """Of the provider's bytes; they differ from the archive's where the file was transcoded."""
    verified: str
    """What the bytes were checked against: `checksum`, `size`, or `none` when none is stated."""
    copied: AwareDatetime
    version: str
    """Version of chipmill that copied it."""


class SceneRecord(BaseModel):
    """The copied assets of one scene, by the key of the asset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    assets: dict[str, AssetRecord] = {}

    def encode(self) -> bytes:
        """Write the record as JSON."""
        return self.model_dump_json(indent=1).encode()


def decode_record(data: bytes, *, where: str) -> SceneRecord:
    """Read the record of a scene.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    try:
        return SceneRecord.model_validate_json(data)
    except ValidationError as err:
        raise StoreError(
            f"{where} is not a record of copied assets; remove it to copy anew"
        ) from err
