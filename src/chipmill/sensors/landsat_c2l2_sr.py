"""Landsat 8 and 9 Collection 2 level 2: surface reflectance with the quality band QA_PIXEL.

Wavelengths and widths of OLI: Barsi et al. 2014, Remote Sensing 6(10), 10232-10251, table 1; OLI-2
was built to the same bands. Scale, offset, fill and the bits of QA_PIXEL: USGS, Landsat 8-9
Collection 2 Level 2 Science Product Guide (LSDS-1619). Normalisation: Clay v1
(Clay-foundation/model, configs/metadata.yaml), in digital numbers.
"""

from chipmill.model.quality import BitRule
from chipmill.model.sensor import Band, Sensor, Spectral

_PLATFORMS = ("landsat-8", "landsat-9")


def _oli(centre: float, width: float) -> dict[str, Spectral]:
    """Give the centre and width of a band in nanometres on both platforms."""
    spectral = Spectral(wavelength=round(centre / 1000, 6), fwhm=round(width / 1000, 6))
    return dict.fromkeys(_PLATFORMS, spectral)


SENSOR = Sensor(
    name="landsat-c2l2-sr",
    title="Landsat 8-9 Collection 2 level 2 surface reflectance",
    collections=("landsat-c2l2-sr", "landsat-c2-l2"),
    platforms=_PLATFORMS,
    bands=(
        Band(
            name="blue",
            common_name="blue",
            keys=("blue", "SR_B2.TIF", "SR_B2", "B2"),
            gsd=30,
            spectral=_oli(482.04, 60.04),
            mean=12474,
            std=10144,
        ),
        Band(
            name="green",
            common_name="green",
            keys=("green", "SR_B3.TIF", "SR_B3", "B3"),
            gsd=30,
            spectral=_oli(561.41, 57.33),
            mean=13310,
            std=9408,
        ),
        Band(
            name="red",
            common_name="red",
            keys=("red", "SR_B4.TIF", "SR_B4", "B4"),
            gsd=30,
            spectral=_oli(654.59, 37.47),
            mean=13705,
            std=9578,
        ),
        Band(
            name="nir08",
            common_name="nir08",
            keys=("nir08", "SR_B5.TIF", "SR_B5", "B5"),
            gsd=30,
            spectral=_oli(864.67, 28.25),
            mean=17801,
            std=8277,
        ),
        Band(
            name="swir16",
            common_name="swir16",
            keys=("swir16", "SR_B6.TIF", "SR_B6", "B6"),
            gsd=30,
            spectral=_oli(1608.86, 84.72),
            mean=14615,
            std=5300,
        ),
        Band(
            name="swir22",
            common_name="swir22",
            keys=("swir22", "SR_B7.TIF", "SR_B7", "B7"),
            gsd=30,
            spectral=_oli(2200.73, 186.66),
            mean=12701,
            std=4522,
        ),
    ),
    # 0 fill; 1 dilated cloud, 2 cirrus, 3 cloud, 4 cloud shadow.
    quality=BitRule(
        keys=("qa_pixel", "QA_PIXEL.TIF", "QA_PIXEL"),
        nodata=(0,),
        cloud=(1, 2, 3, 4),
    ),
    nodata=0,
    scale=2.75e-05,
    offset=-0.2,
)
