"""Landsat 8 and 9 Collection 2 level 1: light at the top of the atmosphere, with QA_PIXEL.

Scale, offset and fill: USGS, Landsat 8-9 Collection 2 Level 1 Data Format Control Book (LSDS-1822);
REFLECTANCE_MULT_BAND and REFLECTANCE_ADD_BAND of the products' metadata. They give the reflectance
at the top of the atmosphere times the sine of the sun's elevation, which nothing here divides by.
The coastal, the panchromatic (15 m) and the cirrus band are taken on request. The thermal bands are
left out: their numbers are radiance, with other factors than the table's.
Normalisation: Clay v1 (Clay-foundation/model, configs/metadata.yaml), in digital numbers.
"""

from chipmill.model.sensor import Sensor
from chipmill.sensors._oli import PLATFORMS, QA_PIXEL, more_band, oli_bands

SENSOR = Sensor(
    name="landsat-c2l1",
    title="Landsat 8-9 Collection 2 level 1",
    collections=("landsat-c2l1", "landsat-c2-l1"),
    platforms=PLATFORMS,
    bands=(
        more_band("coastal", "B1", prefix=""),
        *oli_bands(
            {
                "blue": (11083, 5468),
                "green": (10563, 5411),
                "red": (10678, 6025),
                "nir08": (14792, 6746),
                "swir16": (12276, 5897),
                "swir22": (10114, 4850),
            },
            prefix="",
        ),
        more_band("pan", "B8", prefix="", gsd=15),
        more_band("cirrus", "B9", prefix=""),
    ),
    quality=QA_PIXEL,
    nodata=0,
    scale=2e-05,
    offset=-0.1,
)
