"""Ranks agree whether to go on: one that goes on alone waits in a collective for ever."""

import sys
from collections.abc import Callable
from enum import IntEnum
from importlib import import_module

from chipmill.errors import RequestError


class Word(IntEnum):
    """What a rank says of the next megabatch; the least of all ranks' words counts."""

    FAILED = 0
    """It cannot be read here."""
    GAVE_UP = 1
    """The deadline is over; only rank 0 says so, by its clock."""
    WAITING = 2
    READY = 3


Agreement = Callable[[Word], Word]
"""Gives the least of what all ranks say; each calls it, and waits in it for the others."""


def alone(word: Word) -> Word:
    """Ask nobody."""
    return word


class TorchAgreement:
    """Asks all ranks of `torch.distributed`, by a gloo group that training does not use."""

    def __init__(self) -> None:
        """Begin without a group: making one is a collective of its own."""
        self._group: object = None

    def __call__(self, word: Word) -> Word:
        """Give the least word."""
        torch, distributed = import_module("torch"), import_module("torch.distributed")
        if self._group is None:
            self._group = distributed.new_group(backend="gloo")
        said = torch.tensor(int(word))
        distributed.all_reduce(said, op=distributed.ReduceOp.MIN, group=self._group)
        return Word(int(said))

    def __getstate__(self) -> dict[str, object]:
        """Go to a worker process, which asks nobody, without the group."""
        return {"_group": None}


def torch_world() -> int:
    """Count the ranks of `torch.distributed`; 1 where it is not up."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def check_world(world: int) -> None:
    """Refuse a dataset that nobody told its rank, among ranks of `torch.distributed`.

    Raises:
        RequestError: There are others, and all of them would read the same chips.
    """
    if world > 1:
        raise RequestError(
            f"torch.distributed has {world} ranks, and all would read the same chips; give the "
            "dataset rank and world_size (rank=0, world_size=1 where that is meant)"
        )


def default_agreement(*, rank: int, world_size: int) -> Agreement:
    """Ask the ranks of `torch.distributed`, if it is up and they are the ranks of the dataset."""
    if world_size > 1 and torch_world() == world_size:
        here = sys.modules["torch.distributed"].get_rank()
        return TorchAgreement() if here == rank else alone
    return alone
