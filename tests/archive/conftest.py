"""What the tests of items share: validation by the official schemas, without a network."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pyproj.datadir import get_data_dir
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

StacErrors = Callable[[Mapping[str, Any]], list[str]]
CORE = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema/item.json"
_PROJJSON = "https://proj.org/schemas/v0.7/projjson.schema.json"
_FOLDER = Path(__file__).parents[1] / "data" / "schemas"


@cache
def _schemas() -> Mapping[str, Any]:
    """Collect the schemas by their address: of the core, of extensions, of GeoJSON and PROJJSON."""
    found: dict[str, Any] = dict(get_local_schema_cache())
    for path in _FOLDER.glob("*.json"):
        schema = json.loads(path.read_text())
        found[schema["$id"].removesuffix("#")] = schema
    found[_PROJJSON] = json.loads(Path(get_data_dir(), "projjson.schema.json").read_text())
    return found


@pytest.fixture(scope="session")
def stac_errors() -> StacErrors:
    """Give a function that lists what the schemas have against an item."""
    return _errors


def _errors(item: Mapping[str, Any]) -> list[str]:
    """List what the core and every extension that the item declares have against it."""
    known = _schemas()
    empty: Any = Registry()  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    registry = empty.with_resources(
        [(address, Resource(schema, DRAFT7)) for address, schema in known.items()]
    )
    found: list[str] = []
    for address in (CORE, *item["stac_extensions"]):
        if address not in known:
            found.append(f"{address} is not among the schemas of the tests")
            continue
        validator = jsonschema.Draft7Validator(
            known[address], registry=registry, format_checker=jsonschema.FormatChecker()
        )
        found += [f"{address} {e.json_path}: {e.message}" for e in validator.iter_errors(item)]
    return found
