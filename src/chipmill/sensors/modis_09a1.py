"""MODIS MOD09A1 and MYD09A1, version 6.1: surface reflectance of eight days on the 500 m grid.

Edges of the bands: NASA, MODIS specifications (modis.gsfc.nasa.gov/about/specifications.php).
Scale, fill and the bits of the state: Vermote, Roger and Ray 2015, MODIS Surface Reflectance User's
Guide, Collection 6, version 1.4. The headers of files say the same: MYD09A1.A2007273.h03v07.006 of
scale and fill, MOD09Q1.A2000049.h10v04.061 of the state's bits and its fill. Normalisation: Clay v1
(Clay-foundation/model, configs/metadata.yaml), in digital numbers.

The grid is sinusoidal and has no EPSG code; its pixels are of 463.3 m. A scene is a composite: its
time is the middle of its eight days. Cloud is judged from the state word, not from the quality word
`sur_refl_qc_500m`, which tells how the correction went.

The Planetary Computer has the files; its hrefs are signed and expire.
"""

from chipmill.model.quality import Flag, QualityRule, bit, value
from chipmill.model.sensor import Band, Sensor, Spectral

_PLATFORMS = ("terra", "aqua")

STATE = QualityRule(
    keys=("sur_refl_state_500m",),
    flags={
        "fill": value(65535),
        # Cloud state: 00 clear, 01 cloudy, 10 mixed, 11 not set, assumed clear.
        "clear": Flag(values=(0b00, 0b11), first=0, width=2),
        "cloudy": Flag(values=(0b01,), first=0, width=2),
        "mixed": Flag(values=(0b10,), first=0, width=2),
        "cloud_shadow": bit(2),
        # Cirrus: 00 none, 01 small, 10 average, 11 high.
        "cirrus_small": Flag(values=(0b01,), first=8, width=2),
        "cirrus_average": Flag(values=(0b10,), first=8, width=2),
        "cirrus_high": Flag(values=(0b11,), first=8, width=2),
        "internal_cloud": bit(10),
        "snow_or_ice": bit(12),
        "adjacent_to_cloud": bit(13),
    },
    nodata=("fill",),
    cloud=("cloudy", "mixed", "cloud_shadow", "cirrus_average", "cirrus_high", "internal_cloud"),
    refused={"sur_refl_qc_500m": "it tells how the correction went, not where clouds are"},
)


def _band(
    name: str, figures: tuple[float, float], *, edges: tuple[int, int], common: str | None
) -> Band:
    """Make a band of its mean and deviation, of its edges in nanometres and its common name."""
    low, high = edges
    spectral = Spectral(wavelength=(low + high) / 2000, fwhm=(high - low) / 1000)
    return Band(
        name=name,
        common_name=common,
        keys=(name,),
        gsd=500,
        spectral=dict.fromkeys(_PLATFORMS, spectral),
        mean=figures[0],
        std=figures[1],
    )


SENSOR = Sensor(
    name="modis-09a1",
    title="MODIS surface reflectance of eight days at 500 m, version 6.1",
    collections=("modis-09A1-061",),
    platforms=_PLATFORMS,
    bands=(
        _band("sur_refl_b01", (1072.471882, 1643.113109), edges=(620, 670), common="red"),
        _band("sur_refl_b02", (1624.482782, 1878.537956), edges=(841, 876), common="nir08"),
        _band("sur_refl_b03", (931.892947, 1449.024803), edges=(459, 479), common="blue"),
        _band("sur_refl_b04", (1023.849436, 1538.677198), edges=(545, 565), common="green"),
        # STAC has no common name for 1.24 um; the one that the catalogue gives is thermal.
        _band("sur_refl_b05", (1599.963956, 1763.359331), edges=(1230, 1250), common=None),
        _band("sur_refl_b06", (1404.271537, 1618.157770), edges=(1628, 1652), common="swir16"),
        _band("sur_refl_b07", (1051.350204, 1396.227168), edges=(2105, 2155), common="swir22"),
    ),
    quality=STATE,
    nodata=-28672,
    scale=0.0001,
)
