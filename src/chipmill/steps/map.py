"""map: the chip index as a page that opens without a server."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from bokeh.embed import file_html
from bokeh.layouts import column, gridplot
from bokeh.models import ColumnDataSource, Div, HoverTool, UIElement
from bokeh.plotting import figure
from bokeh.resources import INLINE

from chipmill.formats.snapshot import Snapshot
from chipmill.io.store import Store
from chipmill.io.tables import read_columns

COLOURS = {"usable": "#2a9d5c", "cloud": "#9aa7b4", "nodata": "#d1495b"}
"""Distinct in brightness too, for those who see colours differently."""
SIDE = 330
"""Pixels of the map of one scene."""


def index_map(
    archive: Store, snapshot: Snapshot, *, max_cloud: float = 0.30, scenes: int = 30
) -> str:
    """Draw the chips of a snapshot, a small map for each scene, coloured by what they are good for.

    Args:
        archive: Where the snapshot's files are.
        snapshot: Which chips there are.
        max_cloud: Largest share of cloud of a usable chip.
        scenes: Most scenes; the heading says how many there are.

    Returns:
        A self-contained HTML page.
    """
    table = read_columns(archive, snapshot.chip_files, _COLUMNS)
    column_of_names = table["scene"].cast(pa.string())
    shown = [str(name) for name in pc.unique(column_of_names)][:scenes]
    plots: list[UIElement | None] = [
        _scene_map(name, table.filter(pc.equal(column_of_names, pa.scalar(name))), max_cloud)
        for name in shown
    ]
    heading = Div(text=_heading(snapshot, len(shown)), width=3 * SIDE)
    page = column(heading, gridplot(plots, ncols=3, toolbar_location=None))
    return file_html(page, INLINE, title=f"chipmill snapshot {snapshot.snapshot}")


_COLUMNS = ["chip_id", "scene", "cloud_fraction", "nodata_fraction", "geometry"]


def _heading(snapshot: Snapshot, shown: int) -> str:
    keys = " ".join(
        f'<span style="background:{colour};padding:0 .7em">&nbsp;</span> {word}'
        for word, colour in COLOURS.items()
    )
    return (
        f"<h2>Snapshot {snapshot.snapshot}</h2><p>{snapshot.chips:,} chips of "
        f"{snapshot.chip_size} px in {snapshot.scenes:,} scenes; {shown} are shown. {keys}</p>"
    )


def _scene_map(name: str, chips: pa.Table, max_cloud: float) -> figure:
    """Draw one scene in longitude and latitude."""
    source = ColumnDataSource(_outlines(chips, max_cloud))
    plot = figure(
        title=name.split("/", 1)[1],
        width=SIDE,
        height=SIDE,
        tools="pan,wheel_zoom,reset",
        active_scroll="wheel_zoom",
        x_axis_label="longitude",
        y_axis_label="latitude",
    )
    plot.patches("xs", "ys", source=source, fill_color="colour", line_color="white", line_width=0.5)
    plot.add_tools(
        HoverTool(
            tooltips=[("chip", "@chip"), ("cloud", "@cloud{0.0%}"), ("nodata", "@nodata{0.0%}")]
        )
    )
    return plot


def _outlines(chips: pa.Table, max_cloud: float) -> dict[str, Any]:
    """List the outline of each polygon of each chip, with what is said of it."""
    shapes = shapely.from_wkb(chips["geometry"].to_pylist())
    parts, owners = shapely.get_parts(shapes, return_index=True)
    points = [np.asarray(part.exterior.coords) for part in parts]
    cloud = chips["cloud_fraction"].to_numpy()[owners]
    nodata = chips["nodata_fraction"].to_numpy()[owners]
    judged = np.select([nodata > 0, cloud > max_cloud], ["nodata", "cloud"], "usable")
    return {
        "xs": [outline[:, 0].tolist() for outline in points],
        "ys": [outline[:, 1].tolist() for outline in points],
        "chip": [str(chip) for chip in np.array(chips["chip_id"].to_pylist())[owners]],
        "cloud": cloud.tolist(),
        "nodata": nodata.tolist(),
        "colour": [COLOURS[word] for word in judged.tolist()],
    }
