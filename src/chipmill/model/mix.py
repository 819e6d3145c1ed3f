"""A mix of strata: how many scenes of each are used, so that their chips come in given ratios."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError
from chipmill.model.shuffle import permutation


def mixed_scenes(
    strata: NDArray[np.integer],
    counts: NDArray[np.integer],
    *,
    names: Sequence[str],
    mix: Mapping[str, float],
    key: tuple[int, int],
) -> NDArray[np.bool_]:
    """Choose scenes so that the chips of strata are in given ratios; as many as there can be.

    The stratum that is scarcest for its weight is used whole, of the others scenes at random: of
    each so many that its chips come nearest to its share, which they miss by half a scene at most;
    and one scene with usable chips at the least.

    Args:
        strata: Stratum of each scene as its index in `names`, shape (scenes,).
        counts: Usable chips of each scene, shape (scenes,).
        names: Names of the strata.
        mix: Weights of strata by name, in chips; strata that are not named are not used.
        key: Seed and epoch, so that each epoch draws other scenes.

    Returns:
        Which scenes are used, shape (scenes,).

    Raises:
        RequestError: A named stratum has no usable chip, or there is no weight above 0.
    """
    chips = np.bincount(strata, weights=counts, minlength=len(names))
    weights = np.array([mix.get(name, 0.0) for name in names], np.float64)
    missing = [name for name in mix if name not in names or not chips[names.index(name)]]
    if missing or not weights.any():
        raise RequestError(
            f"the mix names {', '.join(map(repr, missing)) or 'no weight above 0'}, where usable "
            f"chips are of {', '.join(map(repr, names))}; name these"
        )
    wanted = weights > 0
    shares = weights * (chips[wanted] / weights[wanted]).min()
    used = np.zeros(len(strata), np.bool_)
    for stratum in np.flatnonzero(wanted):
        scenes = np.flatnonzero((strata == stratum) & (counts > 0))
        drawn = scenes[permutation(len(scenes), key=("mix", *key, int(stratum)))]
        reached = np.concatenate(([0], np.cumsum(counts[drawn])))
        used[drawn[: max(1, int(np.abs(reached - shares[stratum]).argmin()))]] = True
    return used
