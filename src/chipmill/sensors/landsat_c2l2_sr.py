"""Landsat 8 and 9 Collection 2 level 2: surface reflectance with the quality band QA_PIXEL.

Scale, offset and fill: USGS, Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619).
The coastal band is taken on request.
Normalisation: Clay v1 (Clay-foundation/model, configs/metadata.yaml), in digital numbers.
"""

from chipmill.model.sensor import Sensor
from chipmill.sensors._oli import PLATFORMS, QA_PIXEL, more_band, oli_bands

SENSOR = Sensor(
    name="landsat-c2l2-sr",
    title="Landsat 8-9 Collection 2 level 2 surface reflectance",
    collections=("landsat-c2l2-sr", "landsat-c2-l2"),
    platforms=PLATFORMS,
    bands=(
        more_band("coastal", "B1", prefix="SR_"),
        *oli_bands(
            {
                "blue": (12474, 10144),
                "green": (13310, 9408),
                "red": (13705, 9578),
                "nir08": (17801, 8277),
                "swir16": (14615, 5300),
                "swir22": (12701, 4522),
            },
            prefix="SR_",
        ),
    ),
    quality=QA_PIXEL,
    nodata=0,
    scale=2.75e-05,
    offset=-0.2,
)
