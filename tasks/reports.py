"""What people read of a run in Prefect: artifacts."""

import base64
from collections import Counter

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from chipmill.formats import layout
from chipmill.formats.export import Export
from chipmill.formats.plan import Plan
from chipmill.formats.rendering import Rendering
from chipmill.formats.statistics import DataStatistics
from chipmill.io.store import Store
from chipmill.settings import Settings
from chipmill.steps.look import look_at
from chipmill.steps.outline import outline
from chipmill.steps.reconcile import Mended
from chipmill.steps.remove import Removed
from chipmill.steps.search import Listed
from chipmill.steps.shard import Shard
from chipmill.steps.stage import Staged

MOST_ROWS = 500
"""Rows of a table that a browser still shows well."""
_MEGABYTE = 1e6


@task(name="report scenes", task_run_name="report scenes")
def report_scenes(shards: list[Shard], listed: Listed) -> None:
    """Tell how many scenes went through, and why the others did not."""
    tally = Counter[str]()
    for shard in shards:
        tally.update(shard.tally)
    findings = [finding for shard in shards for finding in shard.findings]
    through = sum(len(shard.scenes) for shard in shards)
    create_table_artifact(
        key="ingest-summary",
        description="What this ingest did.",
        table=[
            {"what": "scenes indexed", "number": through},
            {"what": "of them as they were", "number": through - tally["indexed"]},
            *(
                {"what": f"scenes {kind}", "number": sum(f.kind == kind for f in findings)}
                for kind in ("quarantined", "failed")
            ),
            {"what": "scenes over the limit", "number": listed.over_limit},
            {"what": "areas with more than was read", "number": len(listed.cut)},
            {"what": "items that cannot be read", "number": listed.unreadable},
            {"what": "assets copied", "number": tally["copied"]},
            {"what": "assets there already", "number": tally["skipped"]},
            {"what": "megabytes copied", "number": round(tally["bytes"] / _MEGABYTE, 1)},
            {"what": "chips", "number": tally["chips"]},
        ],
    )
    create_table_artifact(
        key="quarantined-scenes",
        description=_left_out(len(findings)),
        table=[
            {"scene": f"{f.collection}/{f.item}", "step": f.step, "kind": f.kind, "why": f.reason}
            for f in findings[:MOST_ROWS]
        ],
    )


def _left_out(count: int) -> str:
    if not count:
        return "No scene was left out."
    if count <= MOST_ROWS:
        return "Scenes that were left out, and why."
    return f"The first {MOST_ROWS} of {count} scenes that were left out; all are in `findings/`."


@task(name="report snapshot", task_run_name="report snapshot {snapshot}", cache_policy=NO_CACHE)
def report_snapshot(snapshot: str) -> None:
    """Show some chips of a snapshot, and say where its map lies."""
    seen = look_at(Store.open(Settings.load().archive), snapshot)
    picture = base64.b64encode(seen.thumbnail).decode()
    page = seen.map or "too many chips for one page"
    create_markdown_artifact(
        key="snapshot",
        description=f"Snapshot {snapshot}: usable chips, and the map of the index.",
        markdown=f"![usable chips](data:image/jpeg;base64,{picture})\n\n"
        f"- contact sheet: `{seen.preview}`\n"
        f"- map of all chips, a page for a browser: `{page}`\n",
    )


@task(name="report statistics", task_run_name="report statistics")
def report_statistics(found: DataStatistics) -> None:
    """Show what was measured, band by band."""
    create_table_artifact(
        key="statistics",
        description=f"Statistics {found.statistics} of snapshot {found.snapshot}: "
        f"{found.chips:,} usable chips of {found.scenes:,} scenes.",
        table=[
            {
                "collection": band.collection,
                "band": band.band,
                "unit": "dB" if band.decibels else "physical",
                "mean": band.mean,
                "std": band.std,
                "minimum": band.minimum,
                "maximum": band.maximum,
                "pixels": band.count,
            }
            for band in found.bands
        ],
    )


@task(name="report plan", task_run_name="report plan")
def report_plan(plan: Plan) -> None:
    """Show what a plan will do."""
    create_table_artifact(
        key="plan-outline",
        description=f"What plan {plan.plan} will do.",
        table=[{"what": name, "value": value} for name, value in outline(plan).items()],
    )
    create_table_artifact(
        key="plan-summary",
        description=f"Plan {plan.plan} of snapshot {plan.snapshot}, epoch {plan.epoch}: "
        f"{plan.usable} usable chips; left out: "
        + ", ".join(f"{count} for {reason}" for reason, count in plan.left_out.items()),
        table=[
            {
                "megabatch": number,
                "scenes": planned.scenes,
                "chips": planned.chips,
                "minibatches": planned.minibatches,
                "left over": planned.left_over,
                "megabytes at most": round(planned.size / _MEGABYTE, 1),
            }
            for number, planned in enumerate(plan.megabatches)
        ],
    )


@task(name="report mended", task_run_name="report mended", cache_policy=NO_CACHE)
def report_mended(found: list[Mended]) -> None:
    """Tell what was mended, and what a person should look at."""
    create_table_artifact(
        key="reconciled",
        description=_mended(found),
        table=[
            {"what": each.what, "subject": each.subject, "note": each.note}
            for each in found[:MOST_ROWS]
        ],
    )


def _mended(found: list[Mended]) -> str:
    if not found:
        return "Everything was as it should be."
    if len(found) <= MOST_ROWS:
        return "What was found on fast storage and in the ledger, and what was done about it."
    return f"The first {MOST_ROWS} of {len(found)} things that were found; the log has all."


@task(name="report storage", task_run_name="report storage")
def report_storage(staged: list[Staged], removed: Removed | None = None) -> None:
    """Tell what came onto fast storage and what went."""
    rows = [
        {
            "megabatch": each.megabatch,
            "what": "staged",
            "chips": each.chips,
            "megabytes": round(each.size / _MEGABYTE, 1),
        }
        for each in staged
    ]
    if removed:
        rows.insert(
            0,
            {
                "megabatch": removed.megabatch,
                "what": "removed",
                "chips": 0,
                "megabytes": round(removed.freed / _MEGABYTE, 1),
            },
        )
    create_table_artifact(
        key="fast-storage",
        description="What this run did on fast storage." if rows else "There was nothing to do.",
        table=rows,
    )


@task(name="report export", task_run_name="report export {whole.name}", cache_policy=NO_CACHE)
def report_export(whole: Export, renderings: list[Rendering]) -> str:
    """Tell what an export holds and how it is read; gives its URL."""
    url = Store.open(Settings.load().archive).href(layout.export_prefix(whole.name).rstrip("/"))
    create_table_artifact(
        key="export-summary",
        description=f"Export {whole.name} of plan {whole.plan.plan} is whole. Read it by "
        f"`ChipDataset({url!r})`.",
        table=[
            {
                "megabatch": number,
                "scenes": part.packs,
                "chips": planned.chips,
                "minibatches": planned.minibatches,
                "megabytes": round(part.size / _MEGABYTE, 1),
            }
            for number, (part, planned) in enumerate(
                zip(whole.megabatches, whole.plan.megabatches, strict=True)
            )
        ],
    )
    create_table_artifact(
        key="export-renderings",
        description=f"Files of export {whole.name} for other loaders."
        if renderings
        else f"Export {whole.name} has chip packs only.",
        table=[
            {
                "folder": f"{url}/{each.form}-{each.chips_per_file}",
                "files": len(each.files),
                "chips": sum(file.chips for file in each.files),
                "chips that fill no file": sum(each.left_over.values()),
                "megabytes": round(sum(file.size for file in each.files) / _MEGABYTE, 1),
            }
            for each in renderings
        ],
    )
    return url
