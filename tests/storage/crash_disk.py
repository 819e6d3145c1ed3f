"""A disk that loses power: replays a recorded run, and gives what may be left at any moment of it.

The record is a trace of every system call by which a real command changed files, with all bytes.
The model is what POSIX allows and no more: bytes of a file are safe after fsync or fdatasync of
it, a name is safe after fsync of its folder. What is not safe may be there, in part or not at all;
of the changes of one folder a beginning survives. A call that the model does not know fails the
test.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.storage.syscalls import Call

_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_OPEN = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PAGE = 4096
_SYNCS = {"fsync", "fdatasync"}
_MOVES = {"rename", "renameat", "renameat2"}
_UNLINKS = {"unlink", "unlinkat", "rmdir"}


@dataclass
class Inode:
    """Bytes of a file."""

    safe: bytes = b""
    now: bytearray = field(default_factory=bytearray)


Change = tuple[str, Inode | None]
"""A path and what it names from now on; None: nothing."""


class Disk:
    """Files below some roots, as they are and as they would be after a loss of power."""

    def __init__(self, roots: Sequence[Path]) -> None:
        """Begin with what lies there; all of it is safe."""
        self.names: dict[str, Inode | None] = {}
        self.safe: dict[str, Inode | None] = {}
        self.pending: list[Change] = []
        self._roots = tuple(str(root) for root in roots)
        for root in roots:
            for path in [root, *root.rglob("*")] if root.exists() else []:
                data = path.read_bytes() if path.is_file() else b""
                inode = Inode(data, bytearray(data)) if path.is_file() else None
                self.names[str(path)] = self.safe[str(path)] = inode

    def play(self, calls: Sequence[Call]) -> Iterator[Call]:
        """Do the calls one after the other; gives each that changed something, when it is done."""
        for call in calls:
            if self._do(call):
                yield call

    def used(self, root: Path) -> int:
        """Add up the bytes of the files below a folder, as they are now."""
        inside = [inode for name, inode in self.names.items() if name.startswith(f"{root}/")]
        return sum(len(inode.now) for inode in inside if inode is not None)

    def after_power_loss(self, chance: random.Random) -> dict[str, bytes]:
        """Draw what is left: the bytes of each file, by path."""
        names = dict(self.safe)
        waiting = Counter(_folder(path) for path, _ in self.pending)
        survive = {folder: chance.randint(0, count) for folder, count in sorted(waiting.items())}
        for path, inode in self.pending:
            if survive[_folder(path)]:
                survive[_folder(path)] -= 1
                _name(names, path, inode)
        return {
            path: _left(inode, chance)
            for path, inode in names.items()
            if inode is not None and _is_reachable(names, path, self._roots)
        }

    def at_worst(self) -> dict[str, bytes]:
        """Give what is left when nothing survives that is not safe."""
        return {
            path: inode.safe
            for path, inode in self.safe.items()
            if inode is not None and _is_reachable(self.safe, path, self._roots)
        }

    def _do(self, call: Call) -> bool:
        if re.search(r"= -1 E\w+", call.text):
            return False
        paths = [_decode(text) for text in _OPEN.findall(call.text)]
        texts = [_decode(text) for text in _TEXT.findall(call.text)]
        names = [str(path, "utf-8", "replace") for path in (*paths, *texts)]
        if not any(name.startswith(self._roots) for name in names):
            return False
        kind = call.point.call
        match kind:
            case "openat":
                return self._open(call, _whole(paths, texts))
            case "write" | "pwrite64":
                return self._write(call, names[0], texts[0])
            case "ftruncate":
                length = int(call.text.rpartition(", ")[2].partition(")")[0])
                self._inode(names[0]).now[length:] = b""
                return True
            case _:
                return self._names(kind, names[0], paths, texts)

    def _names(self, kind: str, first: str, paths: list[bytes], texts: list[bytes]) -> bool:
        if kind in _SYNCS:
            self._sync(first)
        elif kind in ("mkdir", "mkdirat"):
            self._change(_whole(paths, texts), None)
        elif kind in _UNLINKS:
            self._remove(_whole(paths, texts))
        elif kind in _MOVES:
            old, new = (text.decode() for text in texts)
            inode = self.names[old]
            self._change(new, inode)
            self._remove(old)
        else:
            msg = f"the model does not know {kind}"
            raise AssertionError(msg)
        return True

    def _open(self, call: Call, path: str) -> bool:
        if "O_CREAT" not in call.text and "O_TRUNC" not in call.text:
            return False
        if path not in self.names:
            self._change(path, Inode())
        elif "O_TRUNC" in call.text:
            self._inode(path).now[:] = b""
        return True

    def _write(self, call: Call, path: str, data: bytes) -> bool:
        inode = self._inode(path)
        start = len(inode.now)
        if call.point.call == "pwrite64":
            start = int(call.text.rpartition(", ")[2].partition(")")[0])
        inode.now[start : start + len(data)] = data
        return True

    def _sync(self, path: str) -> None:
        inode = self.names.get(path)
        if inode is not None:
            inode.safe = bytes(inode.now)
            return
        mine = [change for change in self.pending if _folder(change[0]) == path]
        self.pending = [change for change in self.pending if _folder(change[0]) != path]
        for name, what in mine:
            _name(self.safe, name, what)

    def _inode(self, path: str) -> Inode:
        inode = self.names[path]
        assert inode is not None, path
        return inode

    def _change(self, path: str, inode: Inode | None) -> None:
        self.names[path] = inode
        self.pending.append((path, inode if inode is not None else _FOLDER))

    def _remove(self, path: str) -> None:
        self.names.pop(path, None)
        self.pending.append((path, None))


_FOLDER = Inode()
"""What a folder's name means in a change."""


def _name(names: dict[str, Inode | None], path: str, inode: Inode | None) -> None:
    if inode is None:
        names.pop(path, None)
    else:
        names[path] = None if inode is _FOLDER else inode


def _left(inode: Inode, chance: random.Random) -> bytes:
    """Draw what is left of a file: each page as it was safe, or as it was written."""
    safe, now = inode.safe, bytes(inode.now)
    if now == safe:
        return now
    size = chance.choice([len(safe), len(now), chance.randint(*sorted((len(safe), len(now))))])
    both = [data.ljust(size, b"\0")[:size] for data in (safe, now)]
    how = chance.random()
    pages = [both[chance.random() < how][start : start + _PAGE] for start in range(0, size, _PAGE)]
    return b"".join(pages)


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _is_reachable(names: dict[str, Inode | None], path: str, roots: Sequence[str]) -> bool:
    """Tell whether all folders on the way to a path have survived."""
    while path not in roots and not any(_folder(root) == _folder(path) for root in roots):
        path = _folder(path)
        if path in roots:
            return True
        if path not in names:
            return False
    return True


def _whole(paths: list[bytes], texts: list[bytes]) -> str:
    """Join the path of a call with the folder that it is within, if any."""
    text = texts[0].decode()
    return text if text.startswith("/") else f"{paths[0].decode()}/{text}"


def _decode(text: str) -> bytes:
    return bytes.fromhex(_ESCAPED.sub(r"\1", text))
