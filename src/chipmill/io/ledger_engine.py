"""The ledger's database: opened only where it is safe, each transaction tried until it holds."""

import logging
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from chipmill.errors import LedgerError, TransientError
from chipmill.io.ledger_schema import SCHEMA, bring_up_to_date

_T = TypeVar("_T")
_TRIES: Final = 5
_SQLITE_BUSY: Final = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED: sqlite.org/rescode.html
_EXTRA: Final = 3  # PRAGMA synchronous: sqlite.org/pragma.html
_SQLITE_TRANSIENT: Final = _SQLITE_BUSY | {10, 13}  # besides SQLITE_IOERR, SQLITE_FULL
_COMMIT_TO_DISK: Final = (  # where a server answers earlier; one that does more is left at it
    "SELECT set_config('synchronous_commit', 'on', false) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)
_OWN_SCHEMA: Final = (  # unless the URL's options name another
    "SELECT set_config('search_path', %s, false) FROM pg_settings "
    "WHERE name = 'search_path' AND source <> 'client'"
)
_TOO_SILENT: Final = "25P03"  # idle_in_transaction_session_timeout, PostgreSQL appendix A
_SERIALIZATION: Final = frozenset({"40001", "40P01", "55P03"})  # PostgreSQL, appendix A
_NETWORK: Final = ("nfs", "cifs", "smb", "lustre", "fuse", "9p", "ceph", "gpfs", "beegfs", "afs")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")  # how proc(5) writes blanks in paths
_MOUNTS: Final = Path("/proc/self/mountinfo")  # Linux only; elsewhere there is nothing to check

_log: Final = logging.getLogger(__name__)


def open_engine(url: str, *, patience: float) -> Engine:
    """Open the database, and make its tables or bring them up to date.

    Args:
        url: SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
        patience: Seconds to wait for locks before a transaction fails; PostgreSQL also ends one
            that holds locks and is silent for as long.

    Raises:
        LedgerError: The URL is not usable, the place is not safe, or this is no ledger of this
            version or an earlier one.
        TransientError: The database does not answer at this moment.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite(parsed, patience) if _is_sqlite(parsed) else _server(parsed, patience)
    except (ArgumentError, ImportError, SQLAlchemyError) as err:
        raise LedgerError(
            f"the ledger's URL is not usable ({type(err).__name__}); set CHIPMILL_LEDGER to "
            "sqlite:///path or postgresql+psycopg://user:password@host/database"
        ) from err
    try:
        transact(engine, bring_up_to_date, patience=patience)
    except BaseException:
        engine.dispose()
        raise
    return engine


def transact(engine: Engine, work: Callable[[Connection], _T], *, patience: float) -> _T:
    """Do `work` in one transaction; repeat it while others are in the way.

    A connection that is lost is not repeated: whether the commit held is then unknown, and the
    caller has to look first.

    Args:
        engine: The ledger's database.
        work: Reads and writes through the connection that it is given, and nothing else.
        patience: Seconds after which no new try begins.

    Raises:
        TransientError: The database is locked, full or down.
        LedgerError: The database refuses for another reason.
    """
    deadline = time.monotonic() + patience
    tries = 0
    while True:
        tries += 1
        try:
            with engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as err:
            if tries == _TRIES or not _worth_another_try(err) or time.monotonic() >= deadline:
                raise _translated(err, engine) from err
            _log.debug("ledger transaction is tried again: %s", type(err).__name__)
        time.sleep(random.uniform(0, 0.02 * 2**tries))  # noqa: S311  jitter, not a secret


def network_filesystem(path: Path, mounts: str) -> str | None:
    """Name the type of the network file system that holds a path; None on a local one.

    Args:
        path: Absolute, without symbolic links.
        mounts: Text in the form of Linux's /proc/self/mountinfo (proc(5)).
    """
    depth, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        # Later lines lie over earlier ones at the same point.
        if path.is_relative_to(point) and len(point.parts) >= depth:
            depth, kind = len(point.parts), right.split(" ")[0]
    return kind if kind.startswith(_NETWORK) else None


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _server(url: URL, patience: float) -> Engine:
    # A server may be set to another level, whose statements do not see what a lock waited for.
    engine = create_engine(
        url, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_timeout=patience
    )
    if url.get_backend_name() == "postgresql":
        event.listen(engine, "connect", _dependable(patience))
    return engine


def _dependable(patience: float) -> Callable[[DBAPIConnection, object], None]:
    """Make every connection wait for locks and hold them only so long, and commit to disk."""
    limit = f"{max(1, round(patience * 1000))}ms"  # 0 would be for ever

    def configure(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        # A host that lost its power keeps its locks until the server ends the transaction.
        for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute("SELECT set_config(%s, %s, false)", (name, limit))
        cursor.execute(_COMMIT_TO_DISK)
        cursor.execute(_OWN_SCHEMA, (SCHEMA,))
        cursor.close()
        connection.commit()

    return configure


def _sqlite(url: URL, patience: float) -> Engine:
    if not url.database or url.database == ":memory:":
        raise LedgerError(
            "a ledger in memory is lost with its process; set CHIPMILL_LEDGER to sqlite:///path"
        )
    path = Path(url.database.removeprefix("file:")).resolve()
    kind = network_filesystem(path, _MOUNTS.read_text()) if _MOUNTS.exists() else None
    if kind is not None:
        raise LedgerError(
            f"the SQLite ledger {path} lies on a network file system ({kind}), where locks fail "
            "silently; put it on a local disk or use PostgreSQL"
        )
    # One connection a process: its threads wait their turn here, not in SQLite's polling.
    engine = create_engine(
        url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=patience,
        connect_args={"timeout": patience, "check_same_thread": False},
    )
    event.listen(engine, "connect", _careful)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _careful(connection: DBAPIConnection, _record: object) -> None:
    """Use the rollback journal, synced at each commit, and leave BEGIN to us."""
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode=DELETE")
        mode = cursor.fetchone()
        cursor.execute("PRAGMA synchronous=EXTRA")
        cursor.execute("PRAGMA synchronous")
        synchronous = cursor.fetchone()
    finally:
        cursor.close()
    if mode is None or mode[0] != "delete":
        raise LedgerError(
            f"the SQLite ledger stays in journal mode {mode and mode[0]}; close what else has it "
            "open and try again"
        )
    if synchronous is None or synchronous[0] != _EXTRA:
        raise LedgerError(
            f"this SQLite commits with synchronous={synchronous and synchronous[0]}, where 3 "
            "(EXTRA) was asked for; use another build of SQLite or PostgreSQL"
        )


def _begin_immediate(connection: Connection) -> None:
    # One writer at a time: what a transaction has read stays true until it commits.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _worth_another_try(err: SQLAlchemyError) -> bool:
    """Tell whether somebody else was in the way, so that the same call may now succeed."""
    if not isinstance(err, DBAPIError) or err.connection_invalidated:
        return False
    if _sqlite_code(err) in _SQLITE_BUSY:
        return True
    # Two first writers of one row: the second try finds the row and answers for it.
    return isinstance(err, IntegrityError) or getattr(err.orig, "sqlstate", "") in _SERIALIZATION


def _translated(err: SQLAlchemyError, engine: Engine) -> LedgerError | TransientError:
    where = engine.url.render_as_string(hide_password=True)
    lines = str(err.orig if isinstance(err, DBAPIError) else err).strip().splitlines()
    reason = lines[0] if lines else type(err).__name__
    if _may_pass(err):
        return TransientError(f"the ledger {where} cannot be used now ({reason}); try again")
    return LedgerError(
        f"the ledger {where} refuses ({reason}); check that its directory is there and writable "
        "and that it is a ledger of this version"
    )


def _may_pass(err: SQLAlchemyError) -> bool:
    code = _sqlite_code(err)
    if code is not None:
        return code in _SQLITE_TRANSIENT
    if isinstance(err, DBAPIError) and getattr(err.orig, "sqlstate", "") == _TOO_SILENT:
        return True  # this host was too slow between two statements
    return isinstance(err, OperationalError | InterfaceError | PoolTimeoutError)


def _sqlite_code(err: SQLAlchemyError) -> int | None:
    code = getattr(err.orig, "sqlite_errorcode", None) if isinstance(err, DBAPIError) else None
    return code & 0xFF if isinstance(code, int) else None  # the extended code's low byte
