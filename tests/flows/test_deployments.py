"""deployments/prefect.yaml: what `prefect deploy` makes of it is what runs."""

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect import Flow

ROOT = Path(__file__).parents[2]
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "deployments" / "prefect.yaml").read_text()
)["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda entry: str(entry["name"]))
def test_each_entry_names_a_flow_by_its_module(deployment: dict[str, Any]) -> None:
    """A misspelt entrypoint would fail at night on a worker; a path would load a second copy."""
    module, _, name = str(deployment["entrypoint"]).rpartition(".")
    flow = getattr(import_module(module), name)
    assert isinstance(flow, Flow)
    assert cast("Flow[..., Any]", flow).name == deployment["name"]


def test_the_receiver_starts_deployments_that_exist() -> None:
    """The outbox names `cleanup/cleanup` and `stage/stage`; a renamed flow must not break it."""
    assert {"cleanup", "stage"} <= {entry["name"] for entry in DEPLOYMENTS}


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda entry: str(entry["name"]))
def test_parameters_are_typed_forms(deployment: dict[str, Any]) -> None:
    """Every parameter has a type in the schema, or the UI's form would be a bare text field."""
    module, _, name = str(deployment["entrypoint"]).rpartition(".")
    schema = getattr(import_module(module), name).parameters.model_dump()
    assert schema["properties"]
    for parameter in schema["properties"].values():
        assert parameter.keys() & {"type", "$ref", "anyOf", "allOf"}, parameter
        assert parameter["description"]
