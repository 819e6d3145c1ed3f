"""One file a sensor: the registry finds what lies here and what other packages declare.

A file whose name begins with an underscore is no sensor: it holds what several of them share.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from inspect import getdoc
from types import MappingProxyType, ModuleType

from chipmill.errors import RequestError
from chipmill.model.sensor import Sensor

GROUP = "chipmill.sensors"
"""Entry point group: an entry names a `Sensor` value in another package."""


@cache
def sensors() -> Mapping[str, Sensor]:
    """Collect all sensors by name: those of this folder and those of installed packages.

    Raises:
        RequestError: Two of them have the same name.
    """
    named: dict[str, Sensor] = {}
    for sensor, _ in _found():
        if sensor.name in named:
            raise RequestError(f"two sensors are named {sensor.name!r}; rename or remove one")
        named[sensor.name] = sensor
    return MappingProxyType(named)


def described() -> list[tuple[Sensor, str]]:
    """Give all sensors by name, each with what its module says of it and of its sources."""
    says = {sensor.name: "\n\n".join(_docs(module)) for sensor, module in _found()}
    return [(sensor, says[name]) for name, sensor in sorted(sensors().items())]


def _docs(module: ModuleType) -> Iterator[str]:
    """Give the docstring of a module, and those of the shared ones that it takes from."""
    yield getdoc(module) or ""
    taken = {str(getattr(each, "__module__", "")) for each in vars(module).values()}
    for name in sorted(taken):
        if name.startswith(f"{__name__}._"):
            yield getdoc(importlib.import_module(name)) or ""


def _found() -> Iterator[tuple[Sensor, ModuleType]]:
    for each in pkgutil.iter_modules(__path__):
        if not each.name.startswith("_"):  # what several sensors share
            module = importlib.import_module(f"{__name__}.{each.name}")
            yield module.SENSOR, module
    for entry in entry_points(group=GROUP):
        yield entry.load(), importlib.import_module(entry.module)


def sensor(name: str) -> Sensor:
    """Find a sensor.

    Raises:
        RequestError: There is none of this name; the message lists those there are.
    """
    try:
        return sensors()[name]
    except KeyError:
        known = ", ".join(sorted(sensors()))
        raise RequestError(f"there is no sensor {name!r}; known are {known}") from None
