"""What the sensors of Landsat share: the bands of its instruments and the rule of QA_PIXEL.

Centres and widths, each in nanometres:

- OLI of Landsat 8: Barsi et al. 2014, Remote Sensing 6(10), 10232-10251, table 1.
- OLI-2 of Landsat 9 and ETM+ of Landsat 7: computed from the published spectral responses
  (L9_OLI2_Ball_RSR.v1.0, L7_ETM_RSR) as the R package prosail 2.5.10 carries them (jbferet/prosail,
  data-raw/Landsat_9_Spectral_Response.csv and Landsat_7_Spectral_Response.csv): the two wavelengths
  where the response passes half of its maximum, their middle and their distance. The same
  computation gives the figures of Barsi et al. for Landsat 8 to 0.1 nm.
- TM of Landsat 4 and 5: stactools-packages/landsat, fragments/tm/sr-eo-bands.json, which the items
  of the Planetary Computer are made with. They are rounded to 10 nm.

Bits of QA_PIXEL, the same at both levels: USGS, Landsat 8-9 Collection 2 Level 1 Data Format
Control Book (LSDS-1822), and the Level 2 Science Product Guides of Landsat 8-9 (LSDS-1619) and 4-7
(LSDS-1618). Before Landsat 8 the bit of cirrus is not used.
"""

from collections.abc import Mapping

from chipmill.model.quality import QualityRule, bit
from chipmill.model.sensor import Band, Spectral

OLI = ("landsat-8", "landsat-9")
TM = ("landsat-7", "landsat-5", "landsat-4")
"""Platforms whose instruments number the bands in another way: band 2 of TM is green."""

QA_PIXEL = QualityRule(
    keys=("qa_pixel", "QA_PIXEL.TIF", "QA_PIXEL"),
    # Names as the Planetary Computer has them; the aliases are those of USGS.
    flags={
        "fill": bit(0),
        "dilated_cloud": bit(1, aliases=("dilated",)),
        "cirrus": bit(2),
        "cloud": bit(3),
        "cloud_shadow": bit(4, aliases=("shadow",)),
        "snow": bit(5),
        "clear": bit(6),
        "water": bit(7),
    },
    nodata=("fill",),
    cloud=("dilated_cloud", "cirrus", "cloud", "cloud_shadow"),
    # Clear means: neither cloud nor dilated cloud.
    always=("fill", "clear", "cloud", "dilated_cloud"),
    refused={
        "BQA": "its bits are those before Collection 2",
        "BQA.TIF": "its bits are those before Collection 2",
        "pixel_qa": "its bits are those before Collection 2",
    },
)

_OLI_NUMBERS = {
    "coastal": "B1",
    "blue": "B2",
    "green": "B3",
    "red": "B4",
    "nir08": "B5",
    "swir16": "B6",
    "swir22": "B7",
    "pan": "B8",
    "cirrus": "B9",
}
_TM_NUMBERS = {
    "blue": "B1",
    "green": "B2",
    "red": "B3",
    "nir08": "B4",
    "swir16": "B5",
    "swir22": "B7",
}
_NUMBERS = {**dict.fromkeys(OLI, _OLI_NUMBERS), **dict.fromkeys(TM, _TM_NUMBERS)}
"""By platform and common name: the instrument's own names, as they stand in names of files."""

_TM_FIGURES = {
    "blue": (490, 70),
    "green": (560, 80),
    "red": (660, 60),
    "nir08": (830, 140),
    "swir16": (1650, 200),
    "swir22": (2220, 270),
}
_FIGURES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "landsat-8": {
        "coastal": (442.96, 15.98),
        "blue": (482.04, 60.04),
        "green": (561.41, 57.33),
        "red": (654.59, 37.47),
        "nir08": (864.67, 28.25),
        "swir16": (1608.86, 84.72),
        "swir22": (2200.73, 186.66),
        "pan": (589.50, 172.40),
        "cirrus": (1373.43, 20.39),
    },
    "landsat-9": {
        "coastal": (442.7, 15.5),
        "blue": (481.8, 59.9),
        "green": (561.0, 56.3),
        "red": (654.3, 36.7),
        "nir08": (864.6, 28.7),
        "swir16": (1608.1, 86.1),
        "swir22": (2200.1, 189.5),
        "pan": (589.2, 172.6),
        "cirrus": (1374.1, 20.8),
    },
    "landsat-7": {
        "blue": (477.6, 72.7),
        "green": (560.0, 81.4),
        "red": (661.4, 61.4),
        "nir08": (834.8, 126.4),
        "swir16": (1647.6, 201.1),
        "swir22": (2205.0, 281.2),
    },
    "landsat-5": _TM_FIGURES,
    "landsat-4": _TM_FIGURES,
}
"""By platform and common name: centre and width in nanometres."""


def band(
    name: str,
    figures: tuple[float, float] | None = None,
    *,
    prefix: str,
    platforms: tuple[str, ...],
    gsd: float = 30,
) -> Band:
    """Make a band of a level.

    Args:
        name: Its common name.
        figures: Mean and standard deviation in digital numbers; a band without is taken on request.
        prefix: What stands before `B2` in the names of the level's files.
        platforms: Those of the level.
        gsd: Pixel size in metres.
    """
    mean, std = figures or (None, None)
    return Band(
        name=name,
        common_name=name,
        keys=(name,),
        platform_keys={
            platform: _keys(_NUMBERS[platform][name], prefix)
            for platform in platforms
            if name in _NUMBERS[platform]
        },
        gsd=gsd,
        spectral={
            platform: _spectral(*_FIGURES[platform][name])
            for platform in platforms
            if name in _FIGURES[platform]
        },
        mean=mean,
        std=std,
        default=figures is not None,
    )


def _keys(number: str, prefix: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((f"{prefix}{number}.TIF", f"{prefix}{number}", number)))


def _spectral(centre: float, width: float) -> Spectral:
    """Turn nanometres into micrometres."""
    return Spectral(wavelength=round(centre / 1000, 6), fwhm=round(width / 1000, 6))
