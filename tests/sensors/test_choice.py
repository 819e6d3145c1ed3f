"""Which file of a scene holds a band: by meaning, resolution and kind, not by its key alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from chipmill.errors import SceneError
from chipmill.formats.item_reading import read_item
from chipmill.model.choice import Choice, FileBands, choose, fitting
from chipmill.sensors import sensor

STAC = Path(__file__).parents[1] / "data" / "stac"
CDSE = "cdse/sentinel-2-l2a-36NYH-1.1.json"
PLANETARY = "planetary-computer/sentinel-2-l2a-4items.json"
EARTH_SEARCH = "earth-search-v1/sentinel-2-l2a-31UDQ-item.json"
LANDSAT_7 = "usgs-landsatlook/LE07_L2SP_044033_20210329.json"
NAIP = "planetary-computer/naip-4items.json"
UNDEFINED = "naip/stacchip-m_4207009_ne_19_060_20211024.json"


def item(name: str) -> dict[str, Any]:
    """Read the first item of a recorded document."""
    read = json.loads((STAC / name).read_text())
    if isinstance(read, list):
        return read[0]  # pyright: ignore[reportUnknownVariableType]
    return read["features"][0] if read["type"] == "FeatureCollection" else read


def keys(document: dict[str, Any], kind: str, *bands: str) -> list[str]:
    """Name the assets that are chosen."""
    choice = choose(read_item(document), sensor(kind), bands=bands)
    return [source.asset.key for source in choice.bands]


def test_the_finest_of_several_resolutions_is_taken() -> None:
    """CDSE has each band at 10, 20 and 60 m; it also states a wrong 20 m for B07_60m."""
    said = item(CDSE)
    assert keys(said, "sentinel-2-l2a", "red", "rededge3") == ["B04_10m", "B07_20m"]
    del said["assets"]["B04_10m"]
    assert keys(said, "sentinel-2-l2a", "red") == ["B04_20m"]
    choice = choose(read_item(said), sensor("sentinel-2-l2a"), bands=["red"])
    assert choice.quality is not None
    assert choice.quality.key == "SCL_20m"


def test_what_a_provider_upsampled_comes_last() -> None:
    """B01 is an instrument of 60 m: the file of 20 m is nine times the bytes for the same."""
    said = item(CDSE)
    assert keys(said, "sentinel-2-l2a", "coastal") == ["B01_60m"]
    del said["assets"]["B01_60m"]
    assert keys(said, "sentinel-2-l2a", "coastal") == ["B01_20m"]


@pytest.mark.parametrize(
    ("document", "red"), [(CDSE, "B04_*"), (PLANETARY, "B04"), (EARTH_SEARCH, "red*")]
)
def test_a_picture_is_no_band(document: str, red: str) -> None:
    """A true-colour picture lists red, green and blue, with 8 bits that were stretched."""
    said = item(document)
    gone = [key for key in said["assets"] if Path(key).match(red)]
    assert gone
    for key in gone:
        del said["assets"][key]
    with pytest.raises(SceneError, match="no asset for band 'red'"):
        keys(said, "sentinel-2-l2a", "red")


def test_tiff_comes_before_jpeg_2000_and_jpeg_2000_before_nothing() -> None:
    """Earth Search lists both; 263,066 of its items have JPEG 2000 alone (earth-search#79)."""
    said = item(EARTH_SEARCH)
    assert keys(said, "sentinel-2-l2a", "red", "nir") == ["red", "nir"]
    del said["assets"]["red"]
    assert keys(said, "sentinel-2-l2a", "red", "nir") == ["red-jp2", "nir"]


def test_a_key_may_hold_the_other_format() -> None:
    """Some items list JPEG 2000 under the key of the TIFF (cirrus-earth-search#18)."""
    said = item(EARTH_SEARCH)
    assets = said["assets"]
    assets["red"], assets["red-jp2"] = assets["red-jp2"], assets["red"]
    assert keys(said, "sentinel-2-l2a", "red") == ["red-jp2"]


def test_an_unknown_key_is_found_by_its_common_name() -> None:
    """A team's own catalogue has keys of its own; what a band is stands in the item."""
    said = item(EARTH_SEARCH)
    said["assets"] = {
        "x1": said["assets"]["green"],
        "x2": said["assets"]["red"],
        "scl": said["assets"]["scl"],
        "thumbnail": {**said["assets"]["red"], "roles": ["thumbnail"]},
    }
    assert keys(said, "sentinel-2-l2a", "red", "green") == ["x2", "x1"]


def test_band_2_of_landsat_7_is_green() -> None:
    """The instruments number their bands in two ways: by number alone, blue would be green."""
    said = item(LANDSAT_7)
    assert keys(said, "landsat-c2l2-sr") == ["blue", "green", "red", "nir08", "swir16", "swir22"]
    numbers = {"SR_B1.TIF": "blue", "SR_B2.TIF": "green", "SR_B5.TIF": "swir16"}
    assets = {key: {**said["assets"][name]} for key, name in numbers.items()}
    for asset in assets.values():
        del asset["eo:bands"]
    bare = {**said, "assets": {**assets, "qa_pixel": said["assets"]["qa_pixel"]}}
    assert keys(bare, "landsat-c2l2-sr", *numbers.values()) == list(numbers)
    bare["properties"]["platform"] = "LANDSAT_8"
    assert keys(bare, "landsat-c2l2-sr", "blue", "nir08") == ["SR_B2.TIF", "SR_B5.TIF"]


def test_a_listed_common_name_wins_over_a_number() -> None:
    """The item of Landsat 7 calls its green band B2, which is what OLI calls blue."""
    said = item(LANDSAT_7)
    said["properties"]["platform"] = "LANDSAT_8"
    del said["assets"]["blue"]
    with pytest.raises(SceneError, match="no asset for band 'blue'"):
        keys(said, "landsat-c2l2-sr", "blue")
    with pytest.raises(SceneError, match="no asset for band 'coastal'"):
        keys(said, "landsat-c2l2-sr", "coastal")


@pytest.mark.parametrize("platform", ["LANDSAT_3", "LANDSAT_1"])
def test_scanners_have_no_surface_reflectance(platform: str) -> None:
    """Their green is another green, and nobody publishes their surface reflectance."""
    said = item(LANDSAT_7)
    said["properties"]["platform"] = platform
    with pytest.raises(SceneError, match="but the band table of landsat-c2l2-sr is true of"):
        keys(said, "landsat-c2l2-sr")


def _photograph(listed: int | None) -> Choice:
    """Choose of a NAIP item that lists so many bands; None: as its file has it."""
    said = item(UNDEFINED if listed is None else NAIP)
    for asset in said["assets"].values():
        if listed and "eo:bands" in asset:
            asset["eo:bands"] = asset["eo:bands"][:listed]
    return choose(read_item(said), sensor("naip"))


def test_old_photographs_have_three_bands() -> None:
    """NAIP has near infrared since 2007: before, a scene is used without it."""
    assert [each.band.name for each in _photograph(3).bands] == ["red", "green", "blue"]
    assert [each.index for each in _photograph(4).bands] == [1, 2, 3, 4]
    said = item(NAIP)
    said["assets"]["image"]["eo:bands"].pop()
    with pytest.raises(SceneError, match="no asset for band 'nir'"):
        choose(read_item(said), sensor("naip"), bands=["red", "nir"])


def test_a_band_that_the_item_cannot_describe_is_decided_by_the_file() -> None:
    """The fourth band of some items is called `undefined`, and old files have three."""
    choice = _photograph(None)
    assert [each.index for each in choice.bands] == [1, 2, 3, 4]
    kind = sensor("naip")
    assert fitting(choice, kind, {"asset": FileBands(4, None)}) == choice
    three = fitting(choice, kind, {"asset": FileBands(3, None)})
    assert [each.band.name for each in three.bands] == ["red", "green", "blue"]
    flagged = fitting(choice, kind, {"asset": FileBands(4, 4)})
    assert flagged == choice, "headers of NAIP call near infrared alpha"
    with pytest.raises(SceneError, match="'red' should be number 1 of the 0 bands"):
        fitting(choice, kind, {"asset": FileBands(0, None)})


def test_alpha_is_not_near_infrared() -> None:
    """LINZ has files of red, green, blue and alpha, and of red, green, blue and near infrared."""
    scene = read_item(item("linz/BC40_2000_2421.json"))
    kind = sensor("linz")
    choice = choose(scene, kind, bands=["red", "nir"])
    assert fitting(choice, kind, {"visual": FileBands(5, 5)}) == choice
    with pytest.raises(SceneError, match="where the file has its alpha band"):
        fitting(choice, kind, {"visual": FileBands(4, 4)})
    with pytest.raises(SceneError, match="which the file has not"):
        fitting(choice, kind, {"visual": FileBands(3, None)})
