"""Requests as YAML: one sentence for each error, before anything runs."""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from chipmill.errors import RequestError
from chipmill.formats.request_file import read_request
from chipmill.model.ingest_request import IngestRequest

DOCS = Path(__file__).parents[2] / "docs" / "selection.md"
WRONG = [
    ("sensr: naip", "no field sensr; did you mean sensor?"),
    ("policy: {kep: latest}", "no field policy.kep; did you mean keep?"),
    ("xyzzy: 1", "no field xyzzy; there are sensor, catalog"),
    ("bbox: [0, 10, 1, 5]", "bbox: the south 10.0 lies north of the north 5.0"),
    ("bbox: [0, 10, 1, 95]", r"bbox\[3\] is 95: input should be less than or equal to 90"),
    ("bbox: [0, 10, 1]", r"bbox\[3\] is missing"),
    ("period: 2024-02-01/2023-02-01", "period: the period .* ends before it starts; swap the two"),
    ("policy: {keep: best}", "policy.keep is 'best'; write 'everything', 'least_cloudy' or"),
    ("policy: {count: 3}", "policy: count and every have no meaning when everything is kept"),
    ("policy: {keep: latest, count: 0}", "policy.count is 0: input should be greater than"),
    ("max_cloud: 0.75", "max_cloud: 0.75 reads like a share, .* write 75"),
    ("max_nodata: 101", "max_nodata is 101: input should be less than or equal to 100"),
    ("mgrs: [33TWM, 99ZZZ]", "mgrs: '99ZZZ' is no MGRS tile"),
    ("{mgrs: [33TWM], bbox: [0, 1, 2, 3]}", "bbox and mgrs both name the area; leave one"),
    ("tiles: {column: name}", "tiles: the tiles have no file"),
    ("tiles: {file: a.gpkg, stratum: cover}", "stratum and per_stratum belong together"),
    ("tiles: {file: a.gpkg, names_are_grid_codes: true}", "needs a column that has the names"),
]


def asked(text: str) -> str:
    """Add to a request what each one needs."""
    return yaml.safe_dump({"sensor": "naip", "catalog": "x.json"} | yaml.safe_load(text))


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_one_sentence_says_what_is_wrong_and_where(text: str, said: str) -> None:
    """Nobody should have to read a dump of a validator."""
    with pytest.raises(RequestError, match=said) as raised:
        read_request(asked(text), where="r.yaml")
    message = str(raised.value)
    assert message.startswith("r.yaml: ")
    assert "\n" not in message


def test_each_error_has_its_line() -> None:
    """Who mends one error must not learn of the next only then."""
    with pytest.raises(RequestError) as raised:
        read_request("{sensr: naip, bbox: [0, 10, 1, 5]}", where="r.yaml")
    assert len(str(raised.value).splitlines()) == 4


@pytest.mark.parametrize("text", ["", "- a", "a: [", "just words"])
def test_what_is_no_request_at_all(text: str) -> None:
    """An empty file, a list, broken YAML and prose."""
    with pytest.raises(RequestError, match=r"r\.yaml is no(t YAML| request)"):
        read_request(text, where="r.yaml")


def test_the_examples_of_the_documentation_are_requests() -> None:
    """An example that does not parse is worse than none."""
    examples = DOCS.read_text().split("```yaml\n")[1:]
    assert len(examples) > 2
    for example in examples:
        read_request(example.split("```")[0], where="docs/selection.md")


def test_a_form_that_sends_every_field_is_fine() -> None:
    """The UI, the API and a dump of a request fill in what people left out."""
    request = IngestRequest(sensor="naip", catalog="x.json")
    assert IngestRequest.model_validate(request.model_dump(mode="json")) == request


def test_geojson_may_be_written_as_yaml() -> None:
    """The form of the UI shows text; a file of YAML should not need quotes and braces."""
    text = "geometry: {type: Polygon, coordinates: [[[0, 0], [1, 0], [1, 1], [0, 0]]]}"
    request = read_request(asked(text), where="r.yaml")
    assert request.geometry is not None
    assert json.loads(request.geometry)["type"] == "Polygon"


def test_limits_in_percent_are_taken_as_they_are() -> None:
    """0, 1 and 100 are percent; what lies between 0 and 1 is most likely a share."""
    for percent in (0, 1, 1.5, 75, 100):
        assert IngestRequest(sensor="s", catalog="c", max_cloud=percent).max_cloud == percent
    for share in (0.01, 0.5, 0.999):
        with pytest.raises(ValidationError, match="reads like a share"):
            IngestRequest(sensor="s", catalog="c", max_nodata=share)


def test_the_form_of_the_ui_is_flat_enough() -> None:
    """Prefect's form shows fields, groups and choices; each has a title."""
    schema = IngestRequest.model_json_schema()
    assert len(schema["$defs"]) == 2
    for fields in (
        schema["properties"],
        *(each["properties"] for each in schema["$defs"].values()),
    ):
        for name, field in fields.items():
            assert "title" in schema["$defs"].get(field.get("$ref", "").split("/")[-1], field), name
