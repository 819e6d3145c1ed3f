"""What people mistype gets one sentence, before anything is done."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from chipmill.cli import app
from chipmill.model.megabatch import megabatch_id
from tests.storage.site import Site

WORDS = [
    ["map", "latest", "--out", "{nowhere}/x.html"],
    ["map", "latest", "--out", "{folder}"],
    ["map", "latest", "--out", "{file}/x.html"],
    ["preview", "--out", "{nowhere}/x.png"],
    ["preview", "--seed", "-1"],
    ["index", "{file}", "--out", "{nowhere}/deep/x.parquet"],
    ["snapshots", "collect", "--hours", "nan"],
    ["snapshots", "collect", "--hours", "1e300"],
    ["snapshots", "collect", "--hours", "-1"],
    ["serve", "--port", "99999"],
    ["up", "--port", "99999"],
    ["up", "--home", "{file}"],
    ["up", "--home", "~no-such-user/x"],
    ["index", "~no-such-user/x.json"],
]


def run(site: Site, *words: str, **more: str) -> Result:
    """Run a command with the settings of a site."""
    env = {
        "CHIPMILL_ARCHIVE": site.archive.url,
        "CHIPMILL_FAST": str(site.fast),
        "CHIPMILL_LEDGER": site.url,
        "CHIPMILL_BUDGET": "1000000",
        **more,
    }
    return CliRunner().invoke(app, [*words], env=env)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_wrong_words_are_one_sentence(site: Site, tmp_path: Path, words: list[str]) -> None:
    """No traceback, and a code that scripts see."""
    (tmp_path / "file").write_text("{}")
    places = {"nowhere": tmp_path / "nowhere", "folder": tmp_path, "file": tmp_path / "file"}
    done = run(site, *(word.format_map(places) for word in words))
    assert done.exit_code in {1, 2}
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.output


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CHIPMILL_BUCKETS", "{", '"buckets"'),
        ("CHIPMILL_ARCHIVE", "", "CHIPMILL_ARCHIVE is not usable"),
        ("CHIPMILL_FAST", " ", "CHIPMILL_FAST is not usable"),
        ("CHIPMILL_FAST", "~no-such-user/fast", "names a home that is not here"),
        ("CHIPMILL_ARCHIVE", "~no-such-user/archive", "names a home that is not here"),
    ],
)
def test_a_wrong_setting_is_named(site: Site, name: str, value: str, said: str) -> None:
    """An empty place would be the folder where the process happens to start."""
    done = run(site, "snapshots", "list", **{name: value})
    assert done.exit_code == 1
    assert done.output.startswith("chipmill: ")
    assert said in done.output


def test_an_unreadable_env_file_is_said(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another encoding is no reason for a traceback."""
    (tmp_path / ".env").write_bytes(b"CHIPMILL_BUDGET=\xff")
    monkeypatch.chdir(tmp_path)
    done = run(site, "snapshots", "list")
    assert done.exit_code == 1
    assert done.output.startswith("chipmill: the file .env is not UTF-8")


def test_staging_says_why_it_does_nothing(site: Site) -> None:
    """Who asks for what is there, in work or removed, learns so."""
    plan = site.plan()
    run(site, "stage", plan.plan, "--ahead", "0")
    again = run(site, "stage", plan.plan, "--ahead", "0")
    assert again.exit_code == 0
    assert again.output.startswith("nothing is staged: 1 ready, ")
    for number in range(len(plan.megabatches)):
        run(site, "stage", plan.plan, "--ahead", "0")
        run(site, "ledger", "abandon", megabatch_id(plan.plan, number), "--why", "test")
    assert "plan-again" in run(site, "stage", plan.plan).output
