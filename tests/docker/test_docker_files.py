"""The Dockerfile and the Compose file: linted, and free of secrets."""

import re
import shlex
import subprocess
import venv
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def test_the_dockerfile_passes_hadolint(binaries: Path) -> None:
    """Each exception stands in the file with its reason."""
    done = subprocess.run(
        [str(binaries / "hadolint"), "--no-color", str(DOCKER / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_compose_file_has_the_form_of_the_specification(binaries: Path) -> None:
    """An option that Compose does not know would be refused, or worse, ignored."""
    command = [str(binaries / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(DOCKER / "compose.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_has_a_default() -> None:
    """Compose refuses to start until each is set, and the example names each, empty."""
    compose = (DOCKER / "compose.yaml").read_text()
    example = dict(
        re.findall(r"^([A-Z_]+)=(.*)$", (DOCKER / ".env.example").read_text(), re.MULTILINE)
    )
    named = set(re.findall(r"\$\{([A-Z_]+)", compose))
    assert named == set(example)
    required = set(re.findall(r"\$\{([A-Z_]+):\?", compose))
    secret = {name for name in named if re.search("PASSWORD|SECRET|KEY|MASTER|TOKEN", name)}
    assert secret <= required
    assert [name for name in secret if example[name]] == []


@pytest.mark.parametrize(
    "source",
    [
        source
        for line in (DOCKER / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ],
)
def test_what_the_image_copies_is_there_and_not_ignored(source: str) -> None:
    """A path that `.dockerignore` hides is missing in the build, and only there."""
    assert (ROOT / source).exists()
    rules = (ROOT / ".dockerignore").read_text().split()
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    assert any(fnmatch(source, rule) for rule in kept)


def test_the_image_gets_the_versions_of_the_lock_and_no_tools(
    binaries: Path, tmp_path: Path
) -> None:
    """The image's own command, resolved without a network from what `make install` has fetched."""
    run = re.search(r"^RUN /opt/uv/bin/uv ((?:.*\\\n)*.*)$", _dockerfile(), re.MULTILINE)
    assert run is not None
    words = shlex.split(run[1].replace("\\\n", " "))
    venv.create(tmp_path / "venv")
    words[words.index("--python") + 1] = str(tmp_path / "venv" / "bin" / "python")
    words.remove("--no-cache")
    done = subprocess.run(
        [str(binaries / "uv"), *words, "--offline", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 and "cache" in done.stderr:
        pytest.skip("uv has not kept what the lock names, as after a change of its cache")
    assert done.returncode == 0, done.stderr
    given = dict(re.findall(r"^ \+ ([\w.-]+)==(\S+)$", done.stderr, re.MULTILINE))
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([\w.-]+)==([^ ;\n]+)", lock, re.MULTILINE))
    assert {"prefect", "rasterio", "fastapi", "psycopg"} <= given.keys()
    assert set(given.items()) <= locked
    assert not {"pytest", "ruff", "pyright", "hypothesis", "moto", "selenium"} & given.keys()


def _dockerfile() -> str:
    return (DOCKER / "Dockerfile").read_text()


def test_nothing_listens_beyond_loopback() -> None:
    """Ports of the host are published on 127.0.0.1 only."""
    published = re.findall(
        r"^ +- ([0-9.:]+:\d+)$", (DOCKER / "compose.yaml").read_text(), re.MULTILINE
    )
    assert published
    assert all(each.startswith("127.0.0.1:") for each in published)
