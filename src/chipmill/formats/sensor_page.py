"""Write what chipmill knows of a sensor for people: as Markdown, and as plain text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from chipmill.model.quality import Flag, QualityRule
from chipmill.model.sensor import Band, Sensor, Spectral

_HEAD = """# Tables of the sensors

Written by `chipmill sensors --markdown` (`make docs`) from the tables themselves; a test holds that
it is current. [Sensors](sensors.md) says what the fields mean.
"""
_Value = TypeVar("_Value")
_COLUMNS = ("band", "keys", "GSD", "centre / width", "mean", "std", "taken")


def markdown(sensors: Iterable[tuple[Sensor, str]]) -> str:
    """Write the page of all sensors; each with what its module says of it and of its sources."""
    return "\n".join([_HEAD, *(part for each in sensors for part in _section(*each))])


def text(sensor: Sensor) -> str:
    """Write a sensor in a few lines for a terminal."""
    asked = [band.name for band in sensor.bands if not band.default]
    bands = [band.name for band in sensor.bands if band.default]
    lines = [f"{sensor.name}: {sensor.title}"]
    lines.append(f"  bands         {', '.join(bands) or 'those that an item lists'}")
    if asked:
        lines.append(f"  on request    {', '.join(asked)}")
    if sensor.platforms:
        lines.append(f"  platforms     {', '.join(sensor.platforms)}")
    if rule := sensor.quality:
        lines.append(f"  cloud         {', '.join(rule.cloud)}")
        others = (name for name in rule.flags if name not in (*rule.cloud, *rule.nodata))
        lines.append(f"  other classes {', '.join(others)}")
    else:
        lines.append("  cloud         not judged: there is no quality band")
    lines.append(f"  collections   {', '.join(sensor.collections) or 'any that a catalogue has'}")
    return "\n".join(lines)


def _section(sensor: Sensor, says: str) -> Iterator[str]:
    yield f"## `{sensor.name}`\n\n{sensor.title}.\n\n{says.strip()}\n"
    yield f"{_facts(sensor)}\n"
    if sensor.bands:
        yield _table(_COLUMNS, (_band_row(sensor, band) for band in sensor.bands))
    if sensor.quality:
        yield _quality(sensor.quality)


def _facts(sensor: Sensor) -> str:
    names = ", ".join(f"`{name}`" for name in sensor.collections)
    facts = {
        "Collections in catalogues": names or "any: none is asked for",
        "Platforms": ", ".join(sensor.platforms) or "any",
        "Nodata where a file says nothing": _number(sensor.nodata, nothing="none"),
        "Scale and offset where an item says nothing": f"{sensor.scale:g}, {sensor.offset:g}",
        "Alpha band": "masks the others" if sensor.alpha else "no mask",
        "Normalisation": "of decibels" if sensor.decibels else "of the numbers as they are",
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _band_row(sensor: Sensor, band: Band) -> tuple[str, ...]:
    common = f" ({band.common_name})" if band.common_name not in (None, band.name) else ""
    place = f", band {band.index}" if _shares_a_file(sensor, band) else ""
    keys = "<br>".join(
        [f"{_listed(band.keys)}{place}"]
        + [f"{', '.join(on)}: {_listed(keys)}" for keys, on in _grouped(band.platform_keys)]
    )
    figures = "<br>".join(
        f"{', '.join(on)}: {_figures(spectral)}" if on != [""] else _figures(spectral)
        for spectral, on in _grouped(band.spectral)
    )
    taken = "on request" if not band.default else "where there" if band.optional else "yes"
    return (
        f"`{band.name}`{common}",
        keys,
        f"{band.gsd:g} m",
        figures or "none",
        _number(band.mean, nothing="none"),
        _number(band.std, nothing="none"),
        taken,
    )


def _shares_a_file(sensor: Sensor, band: Band) -> bool:
    return any(band.keys == other.keys for other in sensor.bands if other is not band)


def _figures(spectral: Spectral) -> str:
    return f"{spectral.wavelength:g} / {spectral.fwhm:g} µm"


def _quality(rule: QualityRule) -> str:
    rows = ((f"`{name}`", _where(flag), _counts(rule, name)) for name, flag in rule.flags.items())
    refused = (f" `{key}` is refused: {why}." for key, why in rule.refused.items())
    head = f"Quality band: {_listed(rule.keys)}.{''.join(refused)}\n\n"
    return head + _table(("class", "pixels", "counts as"), rows)


def _where(flag: Flag) -> str:
    values = ", ".join(str(each) for each in flag.values)
    if flag.width is None:
        said = f"value {values}"
    elif flag.width == 1:
        said = f"bit {flag.first}"
    else:
        said = f"bits {flag.first} to {flag.first + flag.width - 1}: {values}"
    return said + (f"; also called {_listed(flag.aliases)}" if flag.aliases else "")


def _counts(rule: QualityRule, name: str) -> str:
    return "nodata" if name in rule.nodata else "cloud" if name in rule.cloud else ""


def _grouped(by_platform: Mapping[str, _Value]) -> list[tuple[_Value, list[str]]]:
    """Bring platforms of the same value together, in their order."""
    found: list[tuple[_Value, list[str]]] = []
    for platform, value in by_platform.items():
        same = next((on for each, on in found if each == value), None)
        if same is None:
            found.append((value, [platform]))
        else:
            same.append(platform)
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _number(value: float | None, *, nothing: str) -> str:
    return nothing if value is None else f"{value:.10g}"


def _table(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    listed = [tuple(columns), *rows]
    lines = ["| " + " | ".join(row) + " |" for row in listed]
    lines.insert(1, "|" + " --- |" * len(listed[0]))
    return "\n".join(lines) + "\n"
