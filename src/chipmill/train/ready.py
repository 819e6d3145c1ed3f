"""Waiting for a megabatch that is still being staged, and opening it if it is the right one."""

import logging
import time
from pathlib import Path

from chipmill.errors import PackError, RequestError, TransientError
from chipmill.formats.layout import MANIFEST, megabatch_folder
from chipmill.formats.manifest import Manifest
from chipmill.formats.plan import Plan
from chipmill.model.order import ORDER_VERSION
from chipmill.train.folder import MegabatchFolder, read_manifest

FIRST_POLL = 0.2
LONGEST_POLL = 5.0
LOG_EVERY = 60.0
"""Seconds, as the two above."""

_log = logging.getLogger(__name__)


def ready_manifest(fast: Path, plan: Plan, number: int) -> Manifest | None:
    """Read the manifest of a megabatch of a plan; None while it is not ready.

    Raises:
        PackError: The manifest is damaged, or of another plan or order.
        TransientError: Fast storage does not answer.
    """
    folder = fast / megabatch_folder(plan.plan, number)
    manifest = read_manifest(folder)
    if manifest is not None:
        _check(manifest, plan, number, where=folder / MANIFEST)
    return manifest


def wait_for_megabatch(
    fast: Path, plan: Plan, number: int, *, seconds: float, quiet: bool = False
) -> tuple[MegabatchFolder, float]:
    """Open a megabatch as soon as it is ready.

    Says so in the log at once when it is not, and then once a minute.

    Args:
        fast: Root of fast storage.
        plan: The plan.
        number: Number of the megabatch.
        seconds: How long to wait.
        quiet: Leave the log to another process.

    Returns:
        The megabatch, and the seconds spent waiting.

    Raises:
        PackError: The manifest is damaged, or of another plan or order.
        TransientError: It was not ready in time.
    """
    folder = fast / megabatch_folder(plan.plan, number)
    start = time.monotonic()
    pause, next_line = FIRST_POLL, 0.0
    while (manifest := ready_manifest(fast, plan, number)) is None:
        waited = time.monotonic() - start
        if waited >= seconds:
            raise TransientError(
                f"megabatch {number} of plan {plan.plan} was not ready after {waited:.0f} s: there "
                f"is no {MANIFEST} in {folder}; look at the stage flow, at the room on fast "
                "storage, whether this path is where it stages, and whether the training loop "
                "calls done(batch), without which nothing makes room"
            )
        if waited >= next_line and not quiet:
            _log.warning("waiting for %s (%.0f s of %.0f s)", folder / MANIFEST, waited, seconds)
            next_line += LOG_EVERY
        time.sleep(min(pause, seconds - waited))
        pause = min(pause * 1.5, LONGEST_POLL)
    waited = time.monotonic() - start if pause > FIRST_POLL else 0.0
    return MegabatchFolder(folder, manifest), waited


def check_share(plan: Plan, *, rank: int, world_size: int) -> None:
    """Refuse a rank that is none, and a world in which some ranks would get nothing.

    Raises:
        RequestError: The numbers do not fit together, or the plan's order is of another version.
    """
    if not 0 <= rank < world_size:
        raise RequestError(
            f"rank {rank} is not in a world of {world_size} ranks; give 0 <= rank < world_size"
        )
    if world_size > plan.minibatch:
        raise RequestError(
            f"a minibatch of {plan.minibatch} chips has none for some of {world_size} ranks; "
            "use fewer ranks or plan larger minibatches"
        )
    if plan.mixed:
        raise RequestError(
            f"plan {plan.plan} mixes sensors in its minibatches, and a batch has one list of "
            "bands; plan without `mixed`"
        )
    if plan.order_version != ORDER_VERSION:
        raise RequestError(
            f"plan {plan.plan} counts on order {plan.order_version} and this version of chipmill "
            f"makes order {ORDER_VERSION}; plan again, or use the version that planned"
        )


def _check(manifest: Manifest, plan: Plan, number: int, *, where: Path) -> None:
    """Hold a manifest against its plan: each of these decides the order of the chips."""
    for name, found, expected in (
        ("plan", manifest.plan, plan.plan),
        ("megabatch", manifest.megabatch, number),
        ("order version", manifest.order_version, plan.order_version),
        ("snapshot", manifest.snapshot, plan.snapshot),
        ("seed", manifest.seed, plan.seed),
        ("epoch", manifest.epoch, plan.epoch),
        ("minibatch", manifest.minibatch, plan.minibatch),
        ("leftover", manifest.leftover, plan.leftover),
        ("mixed", manifest.mixed, plan.mixed),
        ("chip size", manifest.chip_size, plan.chip_size),
    ):
        if found != expected:
            raise PackError(
                f"{where} has the {name} {found!r} where the plan says {expected!r}; "
                "stage the megabatch again"
            )
