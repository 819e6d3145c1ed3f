"""What lies on fast storage, told by its names alone: folders of megabatches, and all else."""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chipmill.errors import StoreError

_PLAN: Final = re.compile(r"[0-9a-f]{16}")
_NUMBER: Final = re.compile(r"[0-9]{5}")
_TEMPORARY: Final = re.compile(r"\.tmp-([0-9]{1,18})-.+")


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies below the root of fast storage."""

    megabatches: tuple[tuple[str, int], ...]
    """Plan and number of each folder that has the name of a megabatch's."""

    plans: tuple[str, ...]
    """Folders that have the name of a plan's."""

    unknown: tuple[str, ...]
    """Paths below the root that chipmill gives to nothing."""


def survey(root: Path) -> Survey:
    """Look at the names on fast storage; nothing is there where the root is not.

    Raises:
        StoreError: A folder cannot be read.
    """
    plans: list[str] = []
    megabatches: list[tuple[str, int]] = []
    unknown: list[str] = []
    with _translated(root):
        for plan in _entries(root):
            if not _PLAN.fullmatch(plan.name) or not _is_folder(plan):
                unknown.append(plan.name)
                continue
            plans.append(plan.name)
            for number in _entries(Path(plan.path)):
                if _NUMBER.fullmatch(number.name) and _is_folder(number):
                    megabatches.append((plan.name, int(number.name)))
                else:
                    unknown.append(f"{plan.name}/{number.name}")
    return Survey(tuple(megabatches), tuple(plans), tuple(unknown))


def temporaries(folder: Path, *, before: int) -> list[Path]:
    """Name the half-written files of leases up to `before` in a megabatch's folder."""
    with _translated(folder):
        return [
            Path(entry.path)
            for entry in _entries(folder)
            if (found := _TEMPORARY.fullmatch(entry.name)) and int(found[1]) <= before
        ]


def remove_empty(folder: Path) -> bool:
    """Remove a folder in which nothing lies; tells whether it was so."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


@contextmanager
def _translated(where: Path) -> Generator[None]:
    try:
        yield
    except OSError as err:
        raise StoreError(f"{where} cannot be read ({err.strerror}); see who owns it") from err
