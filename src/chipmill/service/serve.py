"""The receiver as a process."""

import logging
import socket
from typing import Final

import uvicorn

from chipmill.errors import RequestError
from chipmill.formats.signature import said
from chipmill.formats.webhook import decode_key
from chipmill.io.ledger import Ledger
from chipmill.io.store import Store
from chipmill.service.keys import page_token
from chipmill.service.outbox import Sender
from chipmill.service.protocol import ImpatientProtocol
from chipmill.service.receiver import create_app
from chipmill.service.session import Door
from chipmill.service.watch import Watch
from chipmill.settings import Settings

_PATIENCE: Final = 5.0  # seconds for a lock; a trainer is better told to come again
_FAREWELL: Final = 10  # seconds that requests in work have at the end

_log: Final = logging.getLogger(__name__)


def serve(settings: Settings, *, host: str = "127.0.0.1", port: int = 8787) -> None:
    """Receive until the process is told to stop (SIGINT or SIGTERM).

    Args:
        settings: Where the ledger and Prefect are, and the master secrets.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one, which the log names.

    Raises:
        RequestError: There is no usable master secret, or the address is taken.
        LedgerError: The ledger cannot be opened safely.
        TransientError: The ledger's database does not answer.
    """
    masters = master_keys(settings)
    with (
        _listen(host, port) as listener,
        Ledger.open(settings.ledger, patience=_PATIENCE) as ledger,
    ):
        app = create_app(
            ledger,
            masters,
            sender=Sender(ledger, settings.prefect_api, headers=settings.prefect_headers),
            watch=_watch(ledger, settings),
            door=Door(token(settings)),
        )
        config = uvicorn.Config(
            app,
            http=ImpatientProtocol,
            ws="none",
            log_config=None,  # the caller's logging
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_FAREWELL,
        )
        _log.info("the receiver listens on %s port %d", *listener.getsockname()[:2])
        uvicorn.Server(config).run(sockets=[listener])


def master_keys(settings: Settings) -> list[bytes]:
    """Read the master secret and, in a rotation, the one before.

    Raises:
        RequestError: There is none, or one is not a key.
    """
    if settings.webhook_master is None:
        raise RequestError(
            "the receiver has no master secret; make one with `chipmill secret` and set "
            "CHIPMILL_WEBHOOK_MASTER to it"
        )
    secrets = [settings.webhook_master, settings.webhook_master_previous]
    return [decode_key(secret.get_secret_value()) for secret in secrets if secret is not None]


def token(settings: Settings) -> str:
    """Give the token that signs people in on the page: the one that was set, else the derived one.

    Raises:
        RequestError: There is no usable master secret.
    """
    if settings.page_token is not None:
        return settings.page_token.get_secret_value()
    return page_token(master_keys(settings)[0])


def _watch(ledger: Ledger, settings: Settings) -> Watch:
    ui = settings.prefect_ui or said(settings.prefect_api).removesuffix("/").removesuffix("/api")
    archive = Store.open(settings.archive, patience=_PATIENCE) if settings.has_archive else None
    return Watch(ledger, budget=settings.budget, ui=ui, archive=archive)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as err:
        raise RequestError(
            f"the receiver cannot listen on {host} port {port} ({err.strerror}); "
            "choose another with --host and --port"
        ) from err
    # Connections inherit it; without it each answer waits 40 ms for the peer's delayed ACK, since
    # asyncio sets it only on sockets that were made with an explicit protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
