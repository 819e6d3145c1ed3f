"""One contract of all sensors, and sensors that other packages bring."""

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from chipmill.errors import RequestError
from chipmill.formats.layout import segment
from chipmill.model.sensor import Sensor
from chipmill.sensors import GROUP, sensor, sensors

NAMES = sorted(sensors())
_MODULE = """
from chipmill.model.sensor import Band, Sensor, Spectral

SENSOR = Sensor(
    name="own-camera",
    title="A camera of a team",
    collections=("own",),
    platforms=(),
    bands=(
        Band(
            name="red",
            keys=("image",),
            gsd=0.1,
            spectral={"": Spectral(wavelength=0.65, fwhm=0.05)},
            mean=100.0,
            std=50.0,
        ),
    ),
    quality=None,
    nodata=None,
)
"""
_ASK = """
import json
from chipmill.sensors import sensor, sensors
print(json.dumps([sorted(sensors()), sensor("own-camera").title]))
"""


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
    places = [(key, band.index) for band in kind.bands for key in band.keys]
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


def _install(folder: Path, name: str, module: str, binaries: Path) -> None:
    """Install a package with an entry point into a folder, as a user would, from its wheel."""
    info, wheel = f"{name}-1.0.dist-info", folder / f"{name}-1.0-py3-none-any.whl"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[{GROUP}]\n{name} = {name}:SENSOR\n",
    }
    with zipfile.ZipFile(wheel, "w") as packed:
        for path, text in files.items():
            packed.writestr(path, text)
        listed = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        packed.writestr(f"{info}/RECORD", listed)
    command = [str(binaries / "uv"), "pip", "install", "--quiet", "--offline", "--no-deps"]
    command += ["--python", sys.executable, "--cache-dir", str(folder / "cache")]
    subprocess.run([*command, "--target", str(folder / "site"), str(wheel)], check=True, timeout=60)


def _ask(folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask a fresh Python, which sees the folder, for its sensors."""
    return subprocess.run(
        [sys.executable, "-c", _ASK],
        env={"PYTHONPATH": str(folder / "site")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_package_adds_a_sensor(tmp_path: Path, binaries: Path) -> None:
    """A team with a camera of its own installs a table; chipmill is not touched."""
    _install(tmp_path, "own_camera", _MODULE, binaries)
    answer = _ask(tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == [sorted([*NAMES, "own-camera"]), "A camera of a team"]


def test_two_sensors_of_one_name_are_refused(tmp_path: Path, binaries: Path) -> None:
    """Which of the two tables a scene was read with would be chance."""
    _install(tmp_path, "own_camera", _MODULE.replace("own-camera", "naip"), binaries)
    answer = _ask(tmp_path)
    assert answer.returncode != 0
    assert "two sensors are named 'naip'" in answer.stderr
