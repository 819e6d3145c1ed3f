"""What the sensors of Landsat 8 and 9 share: the bands of OLI and the rule of QA_PIXEL.

Wavelengths and widths of OLI: Barsi et al. 2014, Remote Sensing 6(10), 10232-10251, table 1; OLI-2
was built to the same bands. Bits of QA_PIXEL, the same at both levels: USGS, Landsat 8-9
Collection 2 Level 1 Data Format Control Book (LSDS-1822) and Level 2 Science Product Guide
(LSDS-1619).
"""

from collections.abc import Mapping

from chipmill.model.quality import QualityRule, bit
from chipmill.model.sensor import Band, Spectral

PLATFORMS = ("landsat-8", "landsat-9")
"""Those with OLI; the instruments before it have other bands under the same names."""

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

_BANDS = {
    "blue": ("B2", 482.04, 60.04),
    "green": ("B3", 561.41, 57.33),
    "red": ("B4", 654.59, 37.47),
    "nir08": ("B5", 864.67, 28.25),
    "swir16": ("B6", 1608.86, 84.72),
    "swir22": ("B7", 2200.73, 186.66),
}
"""Of the bands of 30 m by common name: the instrument's name, centre and width in nanometres."""

_MORE = {"coastal": (442.96, 15.98), "pan": (589.50, 172.40), "cirrus": (1373.43, 20.39)}
"""Of bands that a request must name: centre and width in nanometres, from the same table."""


def oli_bands(figures: Mapping[str, tuple[float, float]], *, prefix: str) -> tuple[Band, ...]:
    """Make the bands of 30 m of a level.

    Args:
        figures: Mean and standard deviation in digital numbers by common name.
        prefix: What stands before `B2` in the names of the level's files.
    """
    return tuple(
        Band(
            name=name,
            common_name=name,
            keys=tuple(dict.fromkeys((name, f"{prefix}{number}.TIF", f"{prefix}{number}", number))),
            gsd=30,
            spectral=oli_spectral(centre, width),
            mean=figures[name][0],
            std=figures[name][1],
        )
        for name, (number, centre, width) in _BANDS.items()
    )


def more_band(name: str, number: str, *, prefix: str, gsd: float = 30) -> Band:
    """Make a band that a request must name: coastal, pan or cirrus."""
    return Band(
        name=name,
        common_name=name,
        keys=tuple(dict.fromkeys((name, f"{prefix}{number}.TIF", f"{prefix}{number}", number))),
        gsd=gsd,
        spectral=oli_spectral(*_MORE[name]),
        default=False,
    )


def oli_spectral(centre: float, width: float) -> dict[str, Spectral]:
    """Turn nanometres into micrometres, the same on both platforms."""
    spectral = Spectral(wavelength=round(centre / 1000, 6), fwhm=round(width / 1000, 6))
    return dict.fromkeys(PLATFORMS, spectral)
