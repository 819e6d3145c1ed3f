"""What people ask of a static export: the form of the Prefect UI."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chipmill.model.manner import Codec
from chipmill.model.plan_request import PlanRequest

Form = Literal["npz", "webdataset"]


class ExportRequest(BaseModel):
    """Which chips are kept for good in the archive, and in which forms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan: str | None = Field(
        default=None, title="Plan", description="Name of a plan: all its chips, in its order."
    )
    chips: PlanRequest | None = Field(
        default=None,
        title="Or chips",
        description="Which chips of a snapshot; a plan of them is made first.",
    )
    name: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,79})?$",
        title="Name",
        description="Name of the export: small letters, digits, - and _; empty: the plan's.",
    )

    codec: Codec = Field(
        default="none", title="Codec", description="How chips are compressed in packs."
    )
    forms: tuple[Form, ...] = Field(
        default=(),
        title="Further forms",
        description="Beside chip packs: 'npz', the cubes that Clay's own data module reads, and "
        "'webdataset', tar files of samples.",
    )
    cube: int = Field(
        default=128, ge=1, title="Chips per npz cube", description="Clay was trained on 128."
    )
    tar: int = Field(
        default=1024,
        ge=1,
        title="Chips per tar file",
        description="More make fewer and larger files; each reader opens whole ones.",
    )

    @property
    def renderings(self) -> dict[Form, int]:
        """Further forms that are asked for, with the chips of a file."""
        sizes: dict[Form, int] = {"npz": self.cube, "webdataset": self.tar}
        return {form: sizes[form] for form in self.forms}

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.plan is None) == (self.chips is None):
            raise ValueError("an export is of a plan or of chips; give one of both")
        return self
