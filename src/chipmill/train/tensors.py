"""The only door to torch: it is optional, and nothing is imported before it is asked for."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError

Tensor = Any
"""A `torch.Tensor`; the checker runs without torch."""


def torch_is_here() -> bool:
    """Say whether torch is installed."""
    return "torch" in sys.modules or find_spec("torch") is not None


def require_torch() -> None:
    """Refuse to go on without torch.

    Raises:
        RequestError: torch is not installed.
    """
    if not torch_is_here():
        raise RequestError(
            "torch is not installed, so there are no tensors; install chipmill[train], "
            "or ask for arrays with as_torch=False"
        )


def register_dataset(kind: type) -> None:
    """Make a class count as an `IterableDataset`, so that a `DataLoader` iterates over it.

    `IterableDataset` is an abstract base class: registering gives what inheriting would, and the
    class exists without torch.
    """
    import_module("torch.utils.data").IterableDataset.register(kind)


def worker() -> tuple[int, int] | None:
    """Say which DataLoader worker this process is, as (number, workers); None where it is none."""
    data = sys.modules.get("torch.utils.data")
    info = None if data is None else data.get_worker_info()
    return None if info is None else (info.id, info.num_workers)


def tensor(array: NDArray[np.generic]) -> Tensor:
    """View an array as a tensor of the same memory; one that runs backwards is copied.

    Raises:
        RequestError: torch is not installed.
    """
    require_torch()
    if any(stride < 0 for stride in array.strides):  # a flip or a rotation; torch has no such view
        array = np.ascontiguousarray(array)
    return import_module("torch").from_numpy(array)


def is_tensor(value: object) -> bool:
    """Say whether something is a tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def array_of(values: Tensor) -> NDArray[Any] | None:
    """View a tensor as an array of the same memory; None where NumPy cannot."""
    try:
        return values.numpy()
    except (TypeError, RuntimeError):  # on a GPU, in a number format of torch's own, with gradients
        return None


def pinned_array(size: int) -> NDArray[np.uint8]:
    """Give `size` bytes of pinned memory.

    Raises:
        RequestError: torch is not installed.
    """
    require_torch()
    torch = import_module("torch")
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy()
