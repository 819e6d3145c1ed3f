"""Files: a folder of GeoTIFFs without STAC; each file is a scene with the bands that it has.

Items are made from the headers. Bands have the names of the file's descriptions, else those of its
colours, else b1, b2 and so on; wavelengths, scale and offset are known only where a header says
them, so physical values are the digital numbers. An alpha band or a mask inside the file tells
where it has data, as does its nodata value.
"""

from chipmill.model.sensor import Sensor

SENSOR = Sensor(
    name="files",
    title="GeoTIFFs without STAC",
    collections=("files",),
    platforms=(),
    bands=(),
    quality=None,
    nodata=None,
    alpha=True,
)
