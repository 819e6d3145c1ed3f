"""Where a training run stands in its plan, as a checkpoint keeps it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from chipmill.errors import RequestError
from chipmill.formats.plan import Plan
from chipmill.model.order import ORDER_VERSION
from chipmill.train.batch import Position


class State(BaseModel):
    """A position by consumed minibatches; the same on all ranks and for every world size."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    plan: str
    order_version: int
    epoch: NonNegativeInt
    megabatch: NonNegativeInt
    """Number of the megabatch; the number of megabatches once the plan is consumed."""
    minibatch: NonNegativeInt
    """The next minibatch."""
    manifest: str | None
    """Digest of the megabatch's manifest, where one of its minibatches is consumed."""
    turn: NonNegativeInt = 0
    """Of a loader's worker: the rank's batches from there on that other workers give before it."""
    workers: NonNegativeInt = 0
    """How many workers the loader had; 0: it is the state of the rank, which any loader takes."""

    @property
    def position(self) -> Position:
        """Where the next minibatch is."""
        return Position(self.epoch, self.megabatch, self.minibatch)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Where one worker of a loader goes on."""

    position: Position
    manifest: str | None
    turn: int
    """The rank's batches from `position` on that other workers give before it."""
    workers: int


def state_at(
    plan: str, position: Position, *, manifest: str | None, turn: int = 0, workers: int = 0
) -> dict[str, object]:
    """Write a state for a checkpoint: plain text and numbers only."""
    return State(
        plan=plan,
        order_version=ORDER_VERSION,
        epoch=position.epoch,
        megabatch=position.megabatch,
        minibatch=position.minibatch,
        manifest=manifest if position.minibatch else None,
        turn=turn,
        workers=workers,
    ).model_dump(exclude_defaults=not workers)


def read_state(state: Mapping[str, object], *, plan: Plan) -> State:
    """Read a state from a checkpoint.

    Raises:
        RequestError: It is no state, or of another plan, epoch or version of the order.
    """
    try:
        found = State.model_validate(dict(state))
    except ValidationError as err:
        first = err.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            f"the loader's state is not usable: {where}: {first['msg']}; "
            "give what state_dict() or state_after() gave"
        ) from err
    if (found.plan, found.epoch) != (plan.plan, plan.epoch):
        raise RequestError(
            f"the loader's state is of plan {found.plan}, epoch {found.epoch}, and this dataset of "
            f"plan {plan.plan}, epoch {plan.epoch}; open the dataset of the state's plan"
        )
    if found.order_version != ORDER_VERSION:
        raise RequestError(
            f"the loader's state counts in order {found.order_version} and this version of "
            f"chipmill makes order {ORDER_VERSION}; go on with the version that began the run"
        )
    if found.megabatch > len(plan.megabatches):
        raise RequestError(
            f"the loader's state is at megabatch {found.megabatch} of a plan of "
            f"{len(plan.megabatches)}; the checkpoint is damaged, take an earlier one"
        )
    return found


def furthest(state: object, *, plan: Plan) -> State | None:
    """Find the furthest state of the dataset in what a loader of another maker keeps.

    It has one of each worker, in mappings of its own; the furthest is behind the last batch.

    Raises:
        RequestError: One is of another plan, epoch or version of the order.
    """
    found = [read_state(one, plan=plan) for one in _states(state)]
    return max(found, key=lambda one: one.position, default=None)


def _states(value: object) -> Iterator[Mapping[str, object]]:
    """Give what looks like a state of ours, at any depth."""
    if not isinstance(value, Mapping):
        return
    mapping = cast("Mapping[str, Any]", value)
    if {"plan", "order_version", "minibatch"} <= mapping.keys():
        yield mapping
        return
    for inner in mapping.values():
        yield from _states(inner)
