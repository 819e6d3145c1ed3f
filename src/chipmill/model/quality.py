"""Tell cloud and nodata from a quality band: a table of named flags over its values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from chipmill.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """What some values of a quality pixel, or of a word of its bits, mean."""

    values: tuple[int, ...]
    first: int = 0
    """Number of the lowest bit of the word; bit 0 is the lowest of the pixel."""
    width: int | None = None
    """How many bits the word has; None: the flag looks at the whole pixel."""
    aliases: tuple[str, ...] = ()
    """Other names that catalogues have for it."""

    def mask(self, values: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Tell where pixels have the flag: a mask of the same shape."""
        if self.width is None:
            return _among(values, self.values)
        if self.width == 1 and self.values == (1,):
            return (values & (1 << self.first)) != 0
        return _among((values >> self.first) & ((1 << self.width) - 1), self.values)


def _among(values: NDArray[np.integer], wanted: tuple[int, ...]) -> NDArray[np.bool_]:
    return values == wanted[0] if len(wanted) == 1 else np.isin(values, wanted)


def value(*values: int, aliases: tuple[str, ...] = ()) -> Flag:
    """Make the flag of pixels with one of these values."""
    return Flag(values=values, aliases=aliases)


def bit(number: int, *, aliases: tuple[str, ...] = ()) -> Flag:
    """Make the flag of pixels with this bit set."""
    return Flag(values=(1,), first=number, width=1, aliases=aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRule:
    """How the pixels of a quality band are read."""

    keys: tuple[str, ...]
    """Asset keys of the quality band, best first."""
    flags: Mapping[str, Flag]
    nodata: tuple[str, ...]
    """Names of the flags that mean nodata."""
    cloud: tuple[str, ...]
    """Names of the flags that count as cloud, unless the user names others."""
    always: tuple[str, ...] = ()
    """Flags of which every pixel has at least one, where the band is what the rule is for."""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Keys of bands that look alike and are not read, with the reason."""

    def masks(self, values: NDArray[np.integer]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell nodata and cloud of values (y, x): two masks of the same shape; nodata wins."""
        nodata = self._any(self.nodata, values)
        return nodata, self._any(self.cloud, values) & ~nodata

    def strange(self, values: NDArray[np.integer]) -> float:
        """Give the share of pixels that this rule cannot be meant for, in [0, 1].

        Nodata is left out: most of another product's scene may be fill, which looks alike.
        """
        data = ~self._any(self.nodata, values)
        if not self.always or not data.any():
            return 0.0
        return float((~self._any(self.always, values) & data).sum() / data.sum())

    def counting(self, cloud: Sequence[str]) -> "QualityRule":
        """Give the rule that counts these flags as cloud; none named: the rule itself.

        Raises:
            RequestError: There is no flag of such a name; the message lists those there are.
        """
        for name in cloud:
            if name not in self.flags:
                known = ", ".join(self.flags)
                raise RequestError(f"there is no cloud class {name!r}; the sensor has {known}")
        return replace(self, cloud=tuple(cloud)) if cloud else self

    def _any(self, names: tuple[str, ...], values: NDArray[np.integer]) -> NDArray[np.bool_]:
        found = np.zeros(values.shape, np.bool_)
        for name in names:
            found |= self.flags[name].mask(values)
        return found


def told_by(rule: QualityRule, asset: Mapping[str, Any]) -> tuple[QualityRule, list[str]]:
    """Take from an item's quality asset what it says of its own flags; the rest is the table's.

    Args:
        rule: The sensor's rule.
        asset: The asset as JSON; `classification:bitfields` and `classification:classes` are read
            (STAC classification extension 2.0).

    Returns:
        The rule, and one sentence for each flag that the item and the table have in other places;
        the item is right: a product changes, a table does not notice.
    """
    said = _said(asset)
    flags = dict(rule.flags)
    differing: list[str] = []
    for name, flag in rule.flags.items():
        found = next((said[each] for each in (name, *flag.aliases) if each in said), None)
        if found and (found.first, found.width, found.values) != (
            flag.first,
            flag.width,
            flag.values,
        ):
            flags[name] = replace(found, aliases=flag.aliases)
            differing.append(f"{name}: the item has {_place(found)}, the table {_place(flag)}")
    return replace(rule, flags=flags), differing


def _said(asset: Mapping[str, Any]) -> dict[str, Flag]:
    """Read the flags of an asset by name; what is not of the extension's form is passed over."""
    found: dict[str, Flag] = {}
    for each in _objects(asset.get("classification:bitfields")):
        name, first, width = each.get("name"), each.get("offset"), each.get("length")
        if isinstance(name, str) and isinstance(first, int) and width == 1:
            found[name] = bit(first)
    for each in _objects(asset.get("classification:classes")):
        name, number = each.get("name"), each.get("value")
        if isinstance(name, str) and isinstance(number, int):
            found[name] = value(number)
    return found


def _objects(given: object) -> list[Mapping[str, Any]]:
    listed = cast("list[object]", given) if isinstance(given, list) else []
    return [cast("Mapping[str, Any]", each) for each in listed if isinstance(each, dict)]


def _place(flag: Flag) -> str:
    if flag.width is None:
        return f"value {', '.join(str(each) for each in flag.values)}"
    return f"bit {flag.first}"
