"""Landsat 4 to 9 Collection 2 level 2: surface reflectance with the quality band QA_PIXEL.

Scale, offset and fill, the same for all: USGS, Landsat 8-9 and Landsat 4-7 Collection 2 Level 2
Science Product Guides (LSDS-1619, LSDS-1618). The instruments number their bands in two ways: band
2 of Landsat 8 and 9 is blue, that of the others is green. The coastal band is taken on request;
only Landsat 8 and 9 have it. Scenes of Landsat 7 after May 2003 have gaps of fill. The scanners of
Landsat 1 to 3 are not in this product.
Normalisation: Clay v1 (Clay-foundation/model, configs/metadata.yaml), in digital numbers.
"""

from functools import partial

from chipmill.model.sensor import Sensor
from chipmill.sensors._landsat import OLI, QA_PIXEL, TM, band

_band = partial(band, prefix="SR_", platforms=(*OLI, *TM))

SENSOR = Sensor(
    name="landsat-c2l2-sr",
    title="Landsat 4-9 Collection 2 level 2 surface reflectance",
    collections=("landsat-c2l2-sr", "landsat-c2-l2"),
    platforms=(*OLI, *TM),
    bands=(
        _band("coastal"),
        _band("blue", (12474, 10144)),
        _band("green", (13310, 9408)),
        _band("red", (13705, 9578)),
        _band("nir08", (17801, 8277)),
        _band("swir16", (14615, 5300)),
        _band("swir22", (12701, 4522)),
    ),
    quality=QA_PIXEL,
    nodata=0,
    scale=2.75e-05,
    offset=-0.2,
)
