"""Megabatches: their names, and the states that they pass through."""

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from chipmill.errors import RequestError

_PLAN: Final = re.compile(r"[0-9a-f]{16}")
_MEGABATCH: Final = re.compile(r"([0-9a-f]{16})-([0-9]{5})")
_MOST: Final = 99_999  # five digits keep names of one plan in order


class State(StrEnum):
    """Where a megabatch is on its way over fast storage."""

    PLANNED = "planned"
    """Named by a plan; nothing is on fast storage."""

    STAGING = "staging"
    """A worker with a lease writes it; its bytes are reserved."""

    READY = "ready"
    """All files and the manifest are durable."""

    IN_USE = "in_use"
    """A registered run may read it at any time; never freed by age."""

    COMPLETE = "complete"
    """All ranks of all registered runs have reported it."""

    REMOVING = "removing"
    """Tombstone: its files are being deleted."""

    REMOVED = "removed"
    """No byte of it is left; its reservation is released."""


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        # Removed: planned again for a run that then says that it is beyond it.
        State.PLANNED: frozenset({State.STAGING, State.REMOVED}),
        State.STAGING: frozenset({State.READY, State.PLANNED}),  # planned: the worker gave up
        State.READY: frozenset({State.IN_USE, State.REMOVING}),  # removing: abandoned on purpose
        State.IN_USE: frozenset({State.COMPLETE}),
        State.COMPLETE: frozenset({State.REMOVING}),
        State.REMOVING: frozenset({State.REMOVED}),
        State.REMOVED: frozenset({State.PLANNED}),  # needed again: the next generation
    }
)
"""The states that may follow each state."""


def megabatch_id(plan: str, number: int) -> str:
    """Name megabatch `number` (from 0) of a plan.

    Raises:
        RequestError: The plan is not 16 hex digits, or the number does not fit in five digits.
    """
    if not _PLAN.fullmatch(plan):
        raise RequestError(f"plan id {plan!r} is not 16 hex digits; take it from `chipmill plan`")
    if not 0 <= number <= _MOST:
        raise RequestError(
            f"megabatch number {number} of plan {plan} is not in 0..{_MOST}; "
            "plan more scenes in a megabatch"
        )
    return f"{plan}-{number:05d}"


def parse_megabatch_id(text: str) -> tuple[str, int]:
    """Split a megabatch id into its plan id and its number.

    Raises:
        RequestError: The text is not a megabatch id.
    """
    match = _MEGABATCH.fullmatch(text)
    if match is None:
        raise RequestError(
            f"{text[:80]!r} is not a megabatch id; it is 16 hex digits, a hyphen and five digits"
        )
    return match[1], int(match[2])
