"""What people ask of a static export: the form of the Prefect UI."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chipmill.model.plan_request import PlanRequest


class ExportRequest(BaseModel):
    """Which chips are kept for good in the archive."""

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

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.plan is None) == (self.chips is None):
            raise ValueError("an export is of a plan or of chips; give one of both")
        return self
