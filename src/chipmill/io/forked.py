"""Tell a process that was forked that it cannot use stores, where it would wait for ever.

obstore works in threads, which a fork does not copy: a child of a process that has used a store
waits for threads that are not there.
"""

import os

from chipmill.errors import StoreError

_users: set[int] = set()
"""Processes that have used a store: this one, and after a fork its parent."""


def using(where: str) -> None:
    """Note that this process uses a store.

    Raises:
        StoreError: It was forked from a process that has used one.
    """
    _users.add(os.getpid())
    if len(_users) > 1:
        _users.discard(os.getpid())
        raise StoreError(
            f"{where} cannot be reached from a process that was forked from one that has used a "
            "store; start it by spawn (multiprocessing_context='spawn' of a DataLoader)"
        )
