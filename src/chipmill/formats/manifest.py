"""The manifest of a megabatch: all that a trainer must know to read it in the planned order."""

import hashlib
import operator
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)

from chipmill.errors import PackError
from chipmill.formats.checked import CheckedFile
from chipmill.formats.multihash import lacking
from chipmill.formats.pack import Normalization, PackBand
from chipmill.model.manner import Codec, Form


class ManifestGroup(BaseModel):
    """Scenes whose chips have the same bands; a minibatch is of one group unless it is mixed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    bands: tuple[PackBand, ...]
    """As in the packs; wavelengths, scale and offset of a scene are in its pack's header, and so
    are its mean and deviation, which differ where scale or offset do."""
    normalization: Normalization = Normalization()


class ManifestPack(CheckedFile):
    """One chip pack of the megabatch."""

    file: str
    collection: str
    scene: str
    group: NonNegativeInt
    """Index into `groups`."""
    chips: PositiveInt
    size: PositiveInt
    """Bytes of the file."""
    sha256: str | None = Field(default=None, exclude_if=lacking)
    """Of packs that were staged when there was no `checksum`."""
    checksum: str | None = Field(default=None, exclude_if=lacking)
    """Of the file, a multihash."""


class Manifest(BaseModel):
    """A megabatch on fast storage; its presence makes the megabatch ready."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    plan: str
    megabatch: NonNegativeInt
    """Number of the megabatch in its plan."""
    snapshot: str
    seed: int
    epoch: NonNegativeInt
    minibatch: PositiveInt
    """Chips of a full minibatch over all ranks."""
    leftover: Literal["drop", "spread"]
    mixed: bool = Field(default=False, exclude_if=operator.not_)
    """Whether a minibatch has chips of several groups; written only where it has."""
    order_version: PositiveInt
    chip_size: PositiveInt
    form: Form = "packs"
    """Whether the packs have the pixels, or the files of the archive beside them."""
    codec: Codec = "none"
    """How the packs are compressed."""
    groups: tuple[ManifestGroup, ...]
    packs: tuple[ManifestPack, ...]
    """Sorted by collection and scene: the order of chips counts scenes in this order."""

    def encode(self) -> bytes:
        """Write the manifest; the same manifest always gives the same bytes."""
        return self.model_dump_json(indent=1).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: with it the order of chips is known."""
        return hashlib.sha256(self.encode()).hexdigest()


def decode_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        PackError: The bytes are not a manifest that this version reads; `where` names the file.
    """
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        raise PackError(
            f"{where} is not a megabatch manifest: {first['msg']}; stage it again"
        ) from err
