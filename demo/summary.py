"""What the demo shows at its end: numbers, a contact sheet, a map."""

from collections.abc import Mapping
from pathlib import Path

from chipmill.io.store import Store
from chipmill.steps.map import index_map
from chipmill.steps.merge import load_snapshot
from chipmill.steps.plan import load_plan
from chipmill.steps.preview import contact_sheet

STEPS = {
    "search_scenes": "search",
    "copy_scenes": "copy",
    "rewrite_items": "rewrite",
    "index_scenes": "index",
    "merge_index": "merge",
    "plan_megabatches": "plan",
    "stage_ahead": "stage",
    "remove_megabatch": "remove",
}


def print_summary(*, archive: str, plan: str, home: Path, seconds: Mapping[str, float]) -> None:
    """Say what happened, and draw the index."""
    store = Store.open(archive)
    planned = load_plan(store, plan)
    snapshot = load_snapshot(store, planned.snapshot)
    sheet, page = home / "chips.png", home / "index.html"
    sheet.write_bytes(contact_sheet(store, snapshot))
    page.write_text(index_map(store, snapshot), encoding="utf-8")
    size = sum(path.stat().st_size for path in (home / "archive" / "assets").rglob("*.tif"))
    left_out = ", ".join(f"{count} for {why}" for why, count in planned.left_out.items() if count)
    took = ", ".join(f"{word} {seconds.get(key, 0):.1f}" for key, word in STEPS.items())
    minibatches = sum(each.minibatches for each in planned.megabatches)
    print(f"""
    scenes           {snapshot.scenes}, {size / 1e6:.1f} MB in the archive
    chips seen       {snapshot.chips} of {snapshot.chip_size} px (snapshot {snapshot.snapshot})
    chips usable     {planned.usable}; left out: {left_out}
    megabatches      {len(planned.megabatches)} of at most {planned.megabatch_scenes} scenes
    minibatches      {minibatches}, each usable chip in one of them (plan {plan})
    seconds          {took}
    contact sheet    {sheet}
    map of the index {page}""")
