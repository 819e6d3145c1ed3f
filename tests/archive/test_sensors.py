"""One contract of all sensors, and sensors that other packages bring."""

import csv
import json
import math
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from chipmill.errors import RequestError
from chipmill.formats.layout import segment
from chipmill.formats.sensor_page import markdown, text
from chipmill.model.sensor import Sensor
from chipmill.sensors import GROUP, described, sensor, sensors

NAMES = sorted(sensors())
_PAGE = Path(__file__).parents[2] / "docs" / "sensors.md"


def _block(after: str) -> str:
    """Give the block of code that follows these words in the page on sensors."""
    found = re.search(re.escape(after) + r"\n\n```\w*\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture(params=NAMES)
def kind(request: pytest.FixtureRequest) -> Sensor:
    """Give each sensor."""
    return sensor(request.param)


def test_names_are_plain_and_unique(kind: Sensor) -> None:
    """Names are prefixes of keys, words of forms and columns of tables."""
    assert segment(kind.name) == kind.name == kind.name.lower()
    assert kind.title
    names = [band.name for band in kind.bands]
    assert len(set(names)) == len(names)
    assert all(segment(name) == name for name in names)
    for platform in kind.platforms or (None,):
        places = [(key, each.index) for each in kind.bands for key in each.keys_on(platform)]
        assert len(set(places)) == len(places), "two bands would be read from one place"


def test_figures_have_the_right_units(kind: Sensor) -> None:
    """A model takes micrometres; nanometres in the table would be nonsense that still trains."""
    for band in kind.bands:
        assert band.keys
        assert band.index >= 1
        assert 0 < band.gsd <= 1000
        for platform, spectral in band.spectral.items():
            assert platform in ("", *kind.platforms)
            assert 0.3 < spectral.wavelength < 2.5 or spectral.wavelength > 10_000
            assert 0.005 < spectral.fwhm < 0.4 or spectral.wavelength > 10_000
        for figure in (band.mean, band.std):
            assert figure is None or (math.isfinite(figure) and figure > 0)
        assert (band.mean is None) == (band.std is None)
    assert kind.scale > 0


def test_a_platform_is_known_by_all_bands_or_none(kind: Sensor) -> None:
    """A scene of a listed platform has the wavelength of every band that is taken unasked."""
    for platform in kind.platforms or (None,):
        for band in kind.wanted(()):
            assert not band.spectral or kind.spectral(band, platform) is not None


def test_quality_rules_tell_cloud_from_nodata(kind: Sensor) -> None:
    """One value cannot be both; the rule names an asset that it reads."""
    rule = kind.quality
    if rule is None:
        return
    assert rule.keys
    assert rule.cloud
    assert not set(rule.nodata) & set(rule.cloud)
    assert {*rule.nodata, *rule.cloud, *rule.always} <= set(rule.flags)
    assert not set(rule.keys) & set(rule.refused)
    for flag in rule.flags.values():
        assert flag.values
        assert 0 <= flag.first < 32
        assert all(0 <= each < 2 ** (flag.width or 16) for each in flag.values)


def test_the_first_sensors_are_there() -> None:
    """Names are an interface: archives and requests hold them."""
    assert {
        "files",
        "landsat-c2l1",
        "landsat-c2l2-sr",
        "linz",
        "modis-09a1",
        "naip",
        "openaerialmap",
        "sentinel-1-rtc",
        "sentinel-2-l2a",
    } <= set(NAMES)
    with pytest.raises(RequestError, match=r"no sensor 'sentinel2'; known are .*naip"):
        sensor("sentinel2")
    with pytest.raises(RequestError, match="no band 'purple'; its bands are red, green"):
        sensor("naip").band("purple")


def _install(folder: Path, module: str, binaries: Path) -> None:
    """Install the package of the page into a folder, as a user would, from its wheel."""
    project = tomllib.loads(_block("`our-sensors/pyproject.toml`:"))["project"]
    name, version = str(project["name"]).replace("-", "_"), project["version"]
    ((entry, target),) = project["entry-points"][GROUP].items()
    info, wheel = f"{name}-{version}.dist-info", folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        f"{name}/__init__.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{GROUP}]\n{entry} = {target}\n",
    }
    with zipfile.ZipFile(wheel, "w") as packed:
        for path, text in files.items():
            packed.writestr(path, text)
        listed = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        packed.writestr(f"{info}/RECORD", listed)
    command = [str(binaries / "uv"), "pip", "install", "--quiet", "--offline", "--no-deps"]
    command += ["--python", sys.executable, "--cache-dir", str(folder / "cache")]
    subprocess.run([*command, "--target", str(folder / "site"), str(wheel)], check=True, timeout=60)


def _ask(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Ask a fresh Python, which sees the folder, for its sensors."""
    code = "import sys; from chipmill.command import main; sys.argv[1:1] = ['sensors']; main()"
    places = [str(folder / "site"), *(path for path in sys.path if path)]
    return subprocess.run(
        [sys.executable, "-c", code, *names],
        env={"PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_package_of_the_page_adds_a_sensor(tmp_path: Path, binaries: Path) -> None:
    """A team with a camera of its own installs a table; chipmill is not touched."""
    _install(tmp_path, _block("`our-sensors/our_sensors/__init__.py`:"), binaries)
    answer = _ask(tmp_path, "our-camera")
    assert answer.returncode == 0, answer.stderr
    command, _, shown = _block("Then:").partition("\n")
    assert command == "$ chipmill sensors our-camera"
    assert answer.stdout == shown
    everything = _ask(tmp_path)
    assert all(f"{name}: " in everything.stdout for name in (*NAMES, "our-camera"))
    assert "Figures: data sheet of its maker." in _ask(tmp_path, "--markdown").stdout


def test_two_sensors_of_one_name_are_refused(tmp_path: Path, binaries: Path) -> None:
    """Which of the two tables a scene was read with would be chance."""
    module = _block("`our-sensors/our_sensors/__init__.py`:").replace('"our-camera"', '"naip"')
    _install(tmp_path, module, binaries)
    answer = _ask(tmp_path)
    assert answer.returncode == 1
    assert answer.stderr == ("chipmill: two sensors are named 'naip'; rename or remove one\n")


def test_the_page_of_tables_is_current() -> None:
    """Figures on a page that nobody writes anew are the ones that people copy."""
    page = _PAGE.with_name("sensor-tables.md").read_text()
    assert page == markdown(described()), "run `make docs`"
    for kind, says in described():
        assert f"## `{kind.name}`" in page
        assert len(says) > 200, "a table without its sources cannot be checked"


@pytest.mark.parametrize("name", NAMES)
def test_a_sensor_is_shown_with_what_a_request_may_name(name: str) -> None:
    """Bands and classes are words of requests: people look them up here."""
    shown = text(sensor(name))
    rule = sensor(name).quality
    for word in [band.name for band in sensor(name).bands] + list(rule.flags if rule else ()):
        if not rule or word not in rule.nodata:
            assert re.search(rf"\b{re.escape(word)}\b", shown)


@pytest.mark.parametrize("name", NAMES)
def test_every_sensor_has_a_recorded_item_or_scene(name: str) -> None:
    """A table that no real file was read with is a guess."""
    folder = Path(__file__).parents[1] / "sensors" / "outcomes"
    rows = [
        row
        for table in ("documents", "scenes")
        for row in csv.DictReader((folder / f"{table}.csv").read_text().splitlines())
    ]
    items = json.dumps([path.read_text() for path in folder.parents[1].glob("data/items/*.json")])
    names = sensor(name).collections
    assert any(row["sensor"] == name and not row["refused"] for row in rows) or any(
        each in items for each in names
    )
