"""What a static export says of itself: whose it is, what of it is done, and that it is whole."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from chipmill.errors import PackError
from chipmill.formats.pack import Codec
from chipmill.formats.plan import Plan
from chipmill.formats.rendering import RenderedFile, Rendering


class ExportClaim(BaseModel):
    """Of which plan an export is; one name is one plan's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    plan: str
    codec: Codec = "none"

    def encode(self) -> bytes:
        """Write the claim; the same claim always gives the same bytes."""
        return self.model_dump_json(indent=1).encode()


class ExportedMegabatch(BaseModel):
    """One megabatch of an export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: str
    """SHA-256 of its manifest."""
    packs: PositiveInt
    size: PositiveInt
    """Bytes of its packs."""


class Export(BaseModel):
    """A whole export: with it, the manifests and the packs, no archive and no ledger is needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    plan: Plan
    megabatches: tuple[ExportedMegabatch, ...]

    def encode(self) -> bytes:
        """Write the document; the same export always gives the same bytes."""
        return self.model_dump_json(indent=1).encode()


_Document = TypeVar("_Document", ExportClaim, Export, RenderedFile, Rendering)


def decode_export_document(kind: type[_Document], data: bytes, *, where: str) -> _Document:
    """Read a document of an export.

    Args:
        kind: Which one.
        data: Its bytes.
        where: Names the object in errors.

    Raises:
        PackError: The bytes are not such a document, or of another version.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PackError(
            f"{where} is no {kind.__name__} that this version reads: {place}: {first['msg']}; "
            "export again under another name"
        ) from err
