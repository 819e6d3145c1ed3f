"""A finding: why a scene is quarantined, or could not be finished."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from chipmill.errors import StoreError


class Finding(BaseModel):
    """One scene that a step left out, and the reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    item: str
    step: str
    """Which step left it out: copy, rewrite or index."""
    kind: Literal["quarantined", "failed"]
    """quarantined: the scene itself cannot be used. failed: it may work in a while; run again."""
    chip_size: int | None = None
    """Edge of the chips that were asked for, where the step cuts chips; else it holds for all."""
    reason: str
    """One sentence: what broke, where, what to do."""
    at: AwareDatetime

    def encode(self) -> bytes:
        """Write the finding as JSON."""
        return self.model_dump_json(indent=1).encode()


def decode_finding(data: bytes, *, where: str) -> Finding:
    """Read a finding.

    Raises:
        StoreError: The bytes are none; `where` names the object.
    """
    try:
        return Finding.model_validate_json(data)
    except ValidationError as err:
        raise StoreError(f"{where} is not a finding; remove it and ingest the scene again") from err
