"""Everything that can go wrong, as one tree: a class exists because somebody catches it."""


class ChipmillError(Exception):
    """Base of all errors that chipmill raises on purpose.

    The message is one sentence for a person: what broke, with values; where; what to do.
    """


class TransientError(ChipmillError):
    """The same call may succeed in a while: a network, a busy server, a full disk."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        """Say what broke; `after` is the seconds to wait, where the server said so."""
        super().__init__(message)
        self.after = after


class DamagedError(TransientError):
    """Bytes arrived that are not those that were promised; a second fetch may bring the right."""


class RequestError(ChipmillError):
    """What was asked for cannot be done: an unknown sensor, sizes that do not fit together."""


class CatalogError(ChipmillError):
    """A catalogue cannot be read, or what it answers is not STAC."""


class StoreError(ChipmillError):
    """An object store refuses, or holds something other than expected."""


class AlreadyThereError(StoreError):
    """A create-only write found the key taken."""


class MissingError(StoreError):
    """There is nothing at this key."""


class SceneError(ChipmillError):
    """A scene cannot be used; it is quarantined with this reason and the others go on."""


class BudgetError(ChipmillError):
    """Fast storage has no room for a megabatch."""


class LedgerError(ChipmillError):
    """The ledger refuses a change, or cannot be opened safely."""


class BusyError(LedgerError):
    """Somebody else holds the lease, or the megabatch is not in a state that allows this."""


class StaleFenceError(LedgerError):
    """The lease was lost and somebody else took over; stop touching the files."""


class PackError(ChipmillError):
    """A chip pack or manifest is damaged, or not of the form that was asked for."""


class NotifyError(ChipmillError):
    """The receiver refused a message for good."""
