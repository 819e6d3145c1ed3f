"""What a rendering of an export says of itself: the same chips in files for other loaders."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt


class RenderedFile(BaseModel):
    """One file of a rendering."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Path in the rendering."""
    chips: PositiveInt
    size: PositiveInt
    """Bytes."""
    sha256: str

    def encode(self) -> bytes:
        """Write it as the record of a file while the rendering is unfinished."""
        return self.model_dump_json(indent=1).encode()


class Rendering(BaseModel):
    """A whole rendering; written last."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    export: str
    plan: str
    form: Literal["npz", "webdataset"]
    chips_per_file: PositiveInt
    left_over: dict[str, NonNegativeInt] = {}
    """By folder, chips of the plan's order that fill no whole file."""
    files: tuple[RenderedFile, ...]

    def encode(self) -> bytes:
        """Write the document; the same rendering always gives the same bytes."""
        return self.model_dump_json(indent=1).encode()
