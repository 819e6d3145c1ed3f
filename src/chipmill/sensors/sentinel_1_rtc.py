"""Sentinel-1 RTC: radar backscatter with its terrain corrected, as the Planetary Computer has it.

The pixels are gamma naught in linear power, not in decibels; some are zero or negative. Type and
fill (float32, -32768): `raster:bands` of the collection's items. Normalisation: Clay v1
(Clay-foundation/model, configs/metadata.yaml), of linear power.

A band is a polarisation: `vv` is sent and received vertically, `vh` sent vertically and received
horizontally. Neither has an optical wavelength, so none is given: both are radar of 5.405 GHz
(`sar:center_frequency`). Radar sees through clouds, and there is no quality band.

The Planetary Computer has the files; its hrefs are signed and expire.
"""

from chipmill.model.sensor import Band, Sensor

SENSOR = Sensor(
    name="sentinel-1-rtc",
    title="Sentinel-1 radiometrically terrain corrected, linear power",
    collections=("sentinel-1-rtc",),
    platforms=(),
    bands=(
        Band(name="vv", keys=("vv",), gsd=10, mean=0.123273, std=1.492154),
        Band(name="vh", keys=("vh",), gsd=10, mean=0.027337, std=0.122182),
    ),
    quality=None,
    nodata=-32768,
)
