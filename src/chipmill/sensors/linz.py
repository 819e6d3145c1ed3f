"""LINZ: aerial photographs of New Zealand, three or four bands in one file, no quality band.

The catalogue is static: a collection a survey, an item a map sheet, in the buckets nz-imagery and
linz-imagery; collections have names of their own (ULIDs), so none is looked for: name the survey's
`collection.json` as the catalogue. Pixels are of 0.05 to 1 m. Newer files have an alpha band behind
their last band (LINZ, topo-imagery: standardised imagery), which masks the others. Cameras differ
from survey to survey and the items do not name them, so no wavelengths are given. Normalisation:
Clay v1 (Clay-foundation/model, configs/metadata.yaml), in digital numbers.

The files are public, by https and by s3, and the items' hrefs are relative to them.
"""

from chipmill.model.sensor import Band, Sensor

_KEYS = ("visual", "image", "data")

SENSOR = Sensor(
    name="linz",
    title="Aerial imagery of Toitū Te Whenua Land Information New Zealand",
    collections=(),
    platforms=(),
    bands=(
        Band(
            name="red",
            common_name="red",
            keys=_KEYS,
            index=1,
            gsd=0.3,
            mean=89.96,
            std=41.83,
        ),
        Band(
            name="green",
            common_name="green",
            keys=_KEYS,
            index=2,
            gsd=0.3,
            mean=99.46,
            std=36.96,
        ),
        Band(
            name="blue",
            common_name="blue",
            keys=_KEYS,
            index=3,
            gsd=0.3,
            mean=89.51,
            std=31.45,
        ),
        Band(name="nir", common_name="nir", keys=_KEYS, index=4, gsd=0.3, default=False),
    ),
    quality=None,
    nodata=None,
    alpha=True,
)
