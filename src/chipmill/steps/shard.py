"""A shard: scenes that one task run works through; a scene that fails, fails alone."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from chipmill.errors import ChipmillError, SceneError
from chipmill.formats import layout
from chipmill.formats.finding import Finding
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Scenes that are still in the way, and what has happened so far."""

    name: str
    scenes: tuple[SceneRef, ...]
    findings: tuple[Finding, ...] = ()
    tally: Mapping[str, int] = field(default_factory=dict[str, int])
    """What the steps counted: assets, bytes, chips."""

    def __str__(self) -> str:
        """Give the name, as task runs show it."""
        return self.name


def into_shards(scenes: Sequence[SceneRef], *, size: int) -> list[Shard]:
    """Divide scenes into shards of `size`; a shard of one scene has the scene's name."""
    count = -(-len(scenes) // size)
    return [
        Shard(
            name=str(scenes[n]) if size == 1 else f"shard {n + 1} of {count}",
            scenes=tuple(scenes[n * size : (n + 1) * size]),
        )
        for n in range(count)
    ]


def each_scene(
    shard: Shard,
    work: Callable[[SceneRef], Mapping[str, int]],
    *,
    step: str,
    archive: Store,
    chip_size: int | None = None,
) -> Shard:
    """Do one step for each scene of a shard.

    Args:
        shard: The scenes.
        work: Does the step and counts what it did.
        step: Name of the step, for findings.
        archive: Where findings are kept.
        chip_size: Edge of a chip in pixels where the step cuts chips: a finding holds for it alone.

    Returns:
        The shard with the scenes that went through, the findings of the others, and the tally.
    """
    done: list[SceneRef] = []
    findings = list(shard.findings)
    tally = dict(shard.tally)
    for scene in shard.scenes:
        try:
            counted = work(scene)
        except ChipmillError as err:
            finding = _finding(scene, step, err).model_copy(update={"chip_size": chip_size})
            key = layout.finding_key(scene.collection, scene.item)
            archive.put(key, finding.encode())
            log.warning("%s is %s: %s", scene, finding.kind, err)
            findings.append(finding)
        else:
            done.append(scene)
            for name, number in counted.items():
                tally[name] = tally.get(name, 0) + number
    return Shard(name=shard.name, scenes=tuple(done), findings=tuple(findings), tally=tally)


def clear_findings(shard: Shard, archive: Store) -> None:
    """Remove old findings of scenes that went through all steps now."""
    for scene in shard.scenes:
        archive.delete(layout.finding_key(scene.collection, scene.item))


def _finding(scene: SceneRef, step: str, err: ChipmillError) -> Finding:
    return Finding(
        collection=scene.collection,
        item=scene.item,
        step=step,
        kind="quarantined" if isinstance(err, SceneError) else "failed",
        reason=str(err),
        at=datetime.now(UTC),
    )
