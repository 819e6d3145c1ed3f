"""OpenAerialMap: photographs that people took with drones, balloons and kites; red, green, blue.

Cameras, pixel sizes (3 cm to some metres) and grids are whatever the photographer had: often
geographic coordinates or Web Mercator, and a ground sample distance in degrees in the item, which
is not read: the file's own is. An alpha band or a mask inside the file tells where it has data; in
a file with neither, pixels that are black in all bands are its collar. No wavelengths are given,
since nobody states them.
"""

from chipmill.model.sensor import Band, Sensor

_KEYS = ("image", "visual")

SENSOR = Sensor(
    name="openaerialmap",
    title="OpenAerialMap",
    collections=("openaerialmap",),
    platforms=(),
    bands=(
        Band(name="red", common_name="red", keys=_KEYS, index=1, gsd=0.1),
        Band(name="green", common_name="green", keys=_KEYS, index=2, gsd=0.1),
        Band(name="blue", common_name="blue", keys=_KEYS, index=3, gsd=0.1),
    ),
    quality=None,
    nodata=0,
    alpha=True,
)
