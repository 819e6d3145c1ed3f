"""A shard: scenes that one task run works through; a scene that fails, fails alone."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from chipmill.errors import ChipmillError, SceneError, TransientError
from chipmill.formats import layout
from chipmill.formats.finding import Finding
from chipmill.io.store import Store
from chipmill.model.scene import SceneRef

log = logging.getLogger(__name__)

Work = Callable[[SceneRef], Mapping[str, int]]
"""Does a step for a scene and counts what it did."""

EACH_SEEN = 50
"""Up to so many scenes each is a task run of its own, so that people can see it."""
MANY = 20
SHARDS = 300
"""A task run costs Prefect's server about 35 ms: some hundred a step are little."""
WAITS = (5.0, 20.0)
"""Seconds before scenes that may work in a while are tried again, beside a step's own retries."""


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


def shard_size(scenes: int) -> int:
    """Say how many scenes one task run takes: one where each can still be seen, else more."""
    return 1 if scenes <= EACH_SEEN else max(MANY, -(-scenes // SHARDS))


def into_shards(scenes: Sequence[SceneRef], *, size: int | None = None) -> list[Shard]:
    """Divide scenes into shards; a shard of one scene has the scene's name.

    Args:
        scenes: All of them.
        size: Scenes of a shard; None: one where each can still be seen, else as many as keep the
            number of shards at a few hundred.
    """
    size = size or shard_size(len(scenes))
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
    work: Work,
    *,
    step: str,
    archive: Store,
    chip_size: int | None = None,
    waits: Sequence[float] = WAITS,
) -> Shard:
    """Do one step for each scene of a shard; a scene that fails, fails alone.

    Scenes whose error may pass are tried again when the others are through. What nobody foresaw is
    a finding too, and its traceback goes to the log: one strange file must not stop thousands.

    Args:
        shard: The scenes.
        work: Does the step and counts what it did.
        step: Name of the step, for findings.
        archive: Where findings are kept.
        chip_size: Edge of a chip in pixels where the step cuts chips: a finding holds for it alone.
        waits: Seconds before each further round.

    Returns:
        The shard with the scenes that went through, the findings of the others, and the tally.
    """
    tally = Counter(shard.tally)
    failed = _round(shard.scenes, work, tally)
    for wait in waits:
        again = [scene for scene, err in failed.items() if isinstance(err, TransientError)]
        if not again:
            break
        log.info("%s: %d scenes are tried again in %g s", shard, len(again), wait)
        time.sleep(wait)
        failed |= dict.fromkeys(again)
        failed |= _round(again, work, tally)
    findings = [
        _finding(scene, step, err).model_copy(update={"chip_size": chip_size})
        for scene, err in failed.items()
        if err
    ]
    for finding in findings:
        archive.put(layout.finding_key(finding.collection, finding.item), finding.encode())
        log.warning(
            "%s/%s is %s: %s", finding.collection, finding.item, finding.kind, finding.reason
        )
    done = tuple(scene for scene in shard.scenes if not failed.get(scene))
    return Shard(name=shard.name, scenes=done, findings=(*shard.findings, *findings), tally=tally)


def _round(
    scenes: Sequence[SceneRef], work: Work, tally: Counter[str]
) -> dict[SceneRef, Exception | None]:
    """Do the step for each scene; gives the errors of those that failed."""
    failed: dict[SceneRef, Exception | None] = {}
    for scene in scenes:
        try:
            tally.update(work(scene))
        except ChipmillError as err:
            failed[scene] = err
        except Exception as err:
            log.exception("%s: an error that chipmill does not foresee; please report it", scene)
            failed[scene] = err
    return failed


def clear_findings(shard: Shard, archive: Store) -> None:
    """Remove old findings of scenes that went through all steps now."""
    for scene in shard.scenes:
        archive.delete(layout.finding_key(scene.collection, scene.item))


def _finding(scene: SceneRef, step: str, err: Exception) -> Finding:
    foreseen = isinstance(err, ChipmillError)
    return Finding(
        collection=scene.collection,
        item=scene.item,
        step=step,
        kind="quarantined" if isinstance(err, SceneError) else "failed",
        reason=str(err) if foreseen else f"unforeseen {type(err).__name__} ({err}); see the log",
        at=datetime.now(UTC),
    )
