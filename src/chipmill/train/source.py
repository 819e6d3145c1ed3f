"""Where the megabatches of a plan lie: on fast storage as they are staged, or in an export."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chipmill.errors import PackError
from chipmill.formats.layout import MANIFEST, megabatch_folder
from chipmill.formats.manifest import Manifest
from chipmill.formats.plan import Plan
from chipmill.train.folder import MegabatchFolder, read_manifest


class Source(Protocol):
    """Gives the megabatches of a plan; goes to worker processes, so it holds no open file."""

    @property
    def plan(self) -> Plan:
        """The plan's summary."""
        ...

    def ready(self, number: int) -> MegabatchFolder | None:
        """Open a megabatch; None while it is not ready.

        Raises:
            PackError: It is damaged, or of another plan or order.
            TransientError: The place does not answer.
        """
        ...

    def where(self, number: int) -> str:
        """Name the place of a megabatch, for people."""
        ...


@dataclass(frozen=True, slots=True)
class FastStorage:
    """Megabatches that are staged while others are trained on."""

    root: Path
    plan: Plan

    def ready(self, number: int) -> MegabatchFolder | None:
        """Open a megabatch once its manifest is there, which is written last.

        Raises:
            PackError: The manifest is damaged, or of another plan or order.
            TransientError: Fast storage does not answer.
        """
        folder = self._folder(number)
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        check_manifest(manifest, self.plan, number, where=str(folder / MANIFEST))
        return MegabatchFolder(folder, manifest)

    def where(self, number: int) -> str:
        """Name the manifest that is waited for."""
        return str(self._folder(number) / MANIFEST)

    def _folder(self, number: int) -> Path:
        return self.root / megabatch_folder(self.plan.plan, number)


def check_manifest(manifest: Manifest, plan: Plan, number: int, *, where: str) -> None:
    """Hold a manifest against its plan: each of these decides the order of the chips.

    Raises:
        PackError: They differ; `where` names the manifest.
    """
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
