"""What models say of a file that is checked by a checksum; older ones have a SHA-256 instead."""

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, model_validator

from chipmill.formats.multihash import Checksum, stated


class CheckedFile(BaseModel):
    """A file with exactly one of two fields, `checksum` (a multihash) and `sha256` (hex).

    The models name the fields themselves: where one stands decides the bytes that are written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    if TYPE_CHECKING:
        sha256: str | None
        checksum: str | None

    @property
    def stated(self) -> Checksum:
        """What the bytes of the file must give."""
        return stated(self.checksum, self.sha256)

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        _ = self.stated
        return self
