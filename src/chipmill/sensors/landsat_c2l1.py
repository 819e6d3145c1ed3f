"""Landsat 8 and 9 Collection 2 level 1: light at the top of the atmosphere, with QA_PIXEL.

Scale, offset and fill: USGS, Landsat 8-9 Collection 2 Level 1 Data Format Control Book (LSDS-1822);
REFLECTANCE_MULT_BAND and REFLECTANCE_ADD_BAND of the products' metadata. They give the reflectance
at the top of the atmosphere times the sine of the sun's elevation, which nothing here divides by.
The coastal, the panchromatic (15 m) and the cirrus band are taken on request. The thermal bands are
left out: their numbers are radiance, with factors that differ by platform. Landsat 1 to 7 are
refused: their numbers have 8 bits and factors that differ from scene to scene.
Normalisation: Clay v1 (Clay-foundation/model, configs/metadata.yaml), in digital numbers.
"""

from functools import partial

from chipmill.model.sensor import Sensor
from chipmill.sensors._landsat import OLI, QA_PIXEL, band

_band = partial(band, prefix="", platforms=OLI)

SENSOR = Sensor(
    name="landsat-c2l1",
    title="Landsat 8-9 Collection 2 level 1",
    collections=("landsat-c2l1", "landsat-c2-l1"),
    platforms=OLI,
    bands=(
        _band("coastal"),
        _band("blue", (11083, 5468)),
        _band("green", (10563, 5411)),
        _band("red", (10678, 6025)),
        _band("nir08", (14792, 6746)),
        _band("swir16", (12276, 5897)),
        _band("swir22", (10114, 4850)),
        _band("pan", gsd=15),
        _band("cirrus"),
    ),
    quality=QA_PIXEL,
    nodata=0,
    scale=2e-05,
    offset=-0.1,
)
