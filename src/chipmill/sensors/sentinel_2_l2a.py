"""Sentinel-2 level 2A: surface reflectance with a scene classification (SCL).

Wavelengths and widths of S2A and S2B: ESA, Sentinel-2 MSI spectral responses
(COPE-GSEG-EOPG-TN-15-0007, v3.0). Those of S2C are computed from its spectral responses as the R
package prosail 2.5.10 carries them (jbferet/prosail, data-raw/Sentinel_2C_Spectral_Response.csv):
the mean wavelength weighted by the response, and the width at half of its maximum. The same
computation gives ESA's centres of S2A and S2B to 0.1 nm, and widths that lie 1 to 2 nm below ESA's.
The bands of 60 m, for coasts and water vapour, are taken on request; S2C has no figures of them.
Normalisation: Clay v1 (Clay-foundation/model, configs/metadata.yaml), in digital numbers with the
offset of baseline 04.00 removed.

Earth Search has COGs by https, public, and the same files by s3, where the reader pays; JPEG 2000
beside them, and of some items nothing else. Its collection 1 has the numbers as ESA gives them,
with sizes and SHA-256. The Planetary Computer has COGs whose hrefs are signed and
expire. Copernicus Data Space has JPEG 2000 in a bucket with credentials of its own, each band at
several resolutions; JPEG 2000 becomes GeoTIFF when it is copied.
"""

from chipmill.model.quality import QualityRule, value
from chipmill.model.radiometry import OffsetRule
from chipmill.model.sensor import Band, Sensor, Spectral

PLATFORMS = ("sentinel-2a", "sentinel-2b", "sentinel-2c")

# Classes of Sen2Cor's scene classification: ESA, Sentinel-2 Level-2A Algorithm Theoretical Basis
# Document (S2-PDGS-MPC-ATBD-L2A); names as Copernicus Data Space has them. Counted as cloud is the
# set that Clay v1 was trained with.
SCL = QualityRule(
    keys=("scl", "SCL", "SCL_20m", "SCL_60m"),
    flags={
        "no_data": value(0),
        "saturated_or_defective": value(1),
        "dark_area_pixels": value(2),
        "cloud_shadows": value(3),
        "vegetation": value(4),
        "not_vegetated": value(5),
        "water": value(6),
        "unclassified": value(7),
        "cloud_medium_probability": value(8),
        "cloud_high_probability": value(9),
        "thin_cirrus": value(10),
        "snow": value(11),
    },
    nodata=("no_data",),
    cloud=(
        "saturated_or_defective",
        "cloud_shadows",
        "cloud_medium_probability",
        "cloud_high_probability",
        "thin_cirrus",
    ),
)


def _three(*figures: tuple[float, float]) -> dict[str, Spectral]:
    """Give the centre and width in nanometres of a band on S2A, S2B and, where known, S2C."""
    return {
        platform: Spectral(wavelength=round(centre / 1000, 6), fwhm=round(width / 1000, 6))
        for platform, (centre, width) in zip(PLATFORMS, figures, strict=False)
    }


SENSOR = Sensor(
    name="sentinel-2-l2a",
    title="Sentinel-2 level 2A",
    collections=("sentinel-2-l2a", "sentinel-2-c1-l2a"),
    platforms=PLATFORMS,
    bands=(
        Band(
            name="coastal",
            common_name="coastal",
            keys=("coastal", "B01", "B01_60m", "B01_20m"),
            gsd=60,
            spectral=_three((442.7, 21), (442.2, 21)),
            default=False,
        ),
        Band(
            name="blue",
            common_name="blue",
            keys=("blue", "B02", "B02_10m", "B02_20m", "B02_60m"),
            gsd=10,
            spectral=_three((492.4, 66), (492.1, 66), (489.0, 65)),
            mean=1105,
            std=1809,
        ),
        Band(
            name="green",
            common_name="green",
            keys=("green", "B03", "B03_10m", "B03_20m", "B03_60m"),
            gsd=10,
            spectral=_three((559.8, 36), (559.0, 36), (560.6, 35)),
            mean=1355,
            std=1757,
        ),
        Band(
            name="red",
            common_name="red",
            keys=("red", "B04", "B04_10m", "B04_20m", "B04_60m"),
            gsd=10,
            spectral=_three((664.6, 31), (664.9, 31), (666.5, 30)),
            mean=1552,
            std=1888,
        ),
        Band(
            name="rededge1",
            common_name="rededge071",
            keys=("rededge1", "B05", "B05_20m", "B05_60m"),
            gsd=20,
            spectral=_three((704.1, 15), (703.8, 16), (707.1, 15)),
            mean=1887,
            std=1870,
        ),
        Band(
            name="rededge2",
            common_name="rededge075",
            keys=("rededge2", "B06", "B06_20m", "B06_60m"),
            gsd=20,
            spectral=_three((740.5, 15), (739.1, 15), (741.1, 15)),
            mean=2422,
            std=1732,
        ),
        Band(
            name="rededge3",
            common_name="rededge078",
            keys=("rededge3", "B07", "B07_20m", "B07_60m"),
            gsd=20,
            spectral=_three((782.8, 20), (779.7, 20), (784.7, 20)),
            mean=2630,
            std=1697,
        ),
        Band(
            name="nir",
            common_name="nir",
            keys=("nir", "B08", "B08_10m"),
            gsd=10,
            spectral=_three((832.8, 106), (832.9, 106), (834.6, 96)),
            mean=2743,
            std=1742,
        ),
        Band(
            name="nir08",
            common_name="nir08",
            keys=("nir08", "B8A", "B8A_20m", "B8A_60m"),
            gsd=20,
            spectral=_three((864.7, 21), (864.0, 22), (865.6, 20)),
            mean=2785,
            std=1648,
        ),
        Band(
            name="nir09",
            common_name="nir09",
            keys=("nir09", "B09", "B09_60m"),
            gsd=60,
            spectral=_three((945.1, 20), (943.2, 21)),
            default=False,
        ),
        Band(
            name="swir16",
            common_name="swir16",
            keys=("swir16", "B11", "B11_20m", "B11_60m"),
            gsd=20,
            spectral=_three((1613.7, 91), (1610.4, 94), (1612.0, 90)),
            mean=2388,
            std=1470,
        ),
        Band(
            name="swir22",
            common_name="swir22",
            keys=("swir22", "B12", "B12_20m", "B12_60m"),
            gsd=20,
            spectral=_three((2202.4, 175), (2185.7, 185), (2191.3, 183)),
            mean=1835,
            std=1379,
        ),
    ),
    quality=SCL,
    nodata=0,
    scale=0.0001,
    offset_rule=OffsetRule(
        added=1000,
        since=(4, 0),
        baselines=("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"),
        flag="earthsearch:boa_offset_applied",
        from_wavelength=0.6,
    ),
)
