"""The steps of the Dockerfile, run without Docker: in a layer over this machine's own files.

Each stage begins on what is here, as on its base image; what it changes lies in memory and is gone
with the mount namespace.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYER = """
mount -t tmpfs tmpfs {at}
mkdir {at}/upper {at}/work {at}/root
mount -t overlay overlay -o lowerdir=/,upperdir={at}/upper,workdir={at}/work {at}/root
mount --rbind /dev {at}/root/dev
mount -t proc proc {at}/root/proc
"""


def _steps() -> Iterator[tuple[str, str]]:
    """Give each instruction and what it says, in order."""
    text = (ROOT / "docker" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for step in "\n".join(lines).replace("\\\n", " ").splitlines():
        if step.strip():
            word, _, said = step.partition(" ")
            yield word, said.strip()


def _program(at: Path) -> str:
    """Write the steps as one program; files of an earlier stage are in the same layer."""
    root, folder = at / "root", "/"
    lines = [LAYER.format(at=shlex.quote(str(at)))]
    for word, said in _steps():
        if word == "WORKDIR":
            folder = said
            lines.append(f"mkdir -p {root}{folder}")
        elif word == "COPY" and "--from" not in said:
            *sources, target = said.split()
            into = f"{root}{folder}/{target}"
            one = len(sources) == 1 and (ROOT / sources[0]).is_dir()
            given = " ".join(shlex.quote(f"{ROOT / each}{'/.' if one else ''}") for each in sources)
            lines.append(f"mkdir -p {into} && cp -r {given} {into}")
        elif word == "RUN":
            # Debian's shell and the Python of this run stand for those of the base image.
            path = f"PATH={Path(sys.executable).parent}:$PATH"
            command = f"cd {folder} && {path} && {said}"
            lines.append(f"chroot {root} sh -ec {shlex.quote(command)}")
            lines.append(f"echo ran {shlex.quote(said[:40])}")
    lines.append(f"chroot {root} stat --format '%U %n' /fast /home/chipmill")
    own = "setpriv --reuid 10001 --regid 10001 --clear-groups"
    lines.append(f"chroot {root} {own} /opt/chipmill/bin/chipmill --help")
    return "\n".join(lines)


def test_every_step_of_the_image_runs(tmp_path: Path) -> None:
    """A renamed package, or a place that its user cannot own, shows here and not in a build."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "apt-get", "useradd"))):
        pytest.skip("the steps of the image need root, Debian and mount namespaces")
    probe = ["unshare", "--mount", "sh", "-ec", LAYER.format(at=shlex.quote(str(tmp_path)))]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody lay a file system over its own")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", _program(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    ran = re.findall(r"^ran ", done.stdout, re.MULTILINE)
    assert len(ran) == len([said for word, said in _steps() if word == "RUN"])
    assert "chipmill /fast" in done.stdout
    assert "chipmill /home/chipmill" in done.stdout
    assert "Usage: chipmill" in done.stdout
