"""One file a sensor: the registry finds what lies here and what other packages declare.

A file whose name begins with an underscore is no sensor: it holds what several of them share.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

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
    found = [
        importlib.import_module(f"{__name__}.{module.name}").SENSOR
        for module in pkgutil.iter_modules(__path__)
        if not module.name.startswith("_")  # what several sensors share
    ]
    found += [entry.load() for entry in entry_points(group=GROUP)]
    named: dict[str, Sensor] = {}
    for sensor in found:
        if sensor.name in named:
            raise RequestError(f"two sensors are named {sensor.name!r}; rename or remove one")
        named[sensor.name] = sensor
    return MappingProxyType(named)


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
