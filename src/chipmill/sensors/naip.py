"""NAIP: aerial photographs of the United States, four bands in one file, no quality band.

Files of the first years have no near infrared. In many later ones the header calls it alpha, so an
alpha band is no mask here.

Wavelengths and widths: the bands of the Leica ADS100, one of the programme's cameras (Leica ADS100
product specifications: 435-495, 525-585, 619-651 and 808-882 nm). The camera differs by state and
year, so they are typical, not measured. Normalisation: Clay v1 (Clay-foundation/model,
configs/metadata.yaml), in digital numbers. Old files carry no nodata tag; their collars are black
in all bands.
"""

from chipmill.model.sensor import Band, Sensor, Spectral

_KEYS = ("image", "asset", "rgbir")


def _range(low: float, high: float) -> dict[str, Spectral]:
    """Turn the edges of a band in nanometres into its centre and width."""
    return {"": Spectral(wavelength=(low + high) / 2000, fwhm=(high - low) / 1000)}


SENSOR = Sensor(
    name="naip",
    title="National Agriculture Imagery Program",
    collections=("naip",),
    platforms=(),
    bands=(
        Band(
            name="red",
            common_name="red",
            keys=_KEYS,
            index=1,
            gsd=1,
            spectral=_range(619, 651),
            mean=110.16,
            std=47.23,
        ),
        Band(
            name="green",
            common_name="green",
            keys=_KEYS,
            index=2,
            gsd=1,
            spectral=_range(525, 585),
            mean=115.41,
            std=39.82,
        ),
        Band(
            name="blue",
            common_name="blue",
            keys=_KEYS,
            index=3,
            gsd=1,
            spectral=_range(435, 495),
            mean=98.15,
            std=35.43,
        ),
        Band(
            name="nir",
            common_name="nir",
            keys=_KEYS,
            index=4,
            gsd=1,
            spectral=_range(808, 882),
            mean=139.04,
            std=49.86,
            optional=True,
        ),
    ),
    quality=None,
    nodata=0,
)
