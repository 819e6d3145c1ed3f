"""A catalogue leads nowhere that is not allowed, and no signature of an address is kept."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from chipmill.errors import CatalogError, ChipmillError
from chipmill.io.store import Store
from chipmill.model.access import Access
from chipmill.model.ingest_request import IngestRequest
from chipmill.steps.estimate import estimate
from chipmill.steps.search import search_scenes
from tests.archive.ranged_server import RangedServer, serving

Recorded = Callable[[str], Any]
SCENE = "stac/earth-search-v1/sentinel-2-l2a-31UDQ-item.json"


@pytest.fixture
def item(recorded: Recorded) -> dict[str, Any]:
    """Give a recorded item."""
    return recorded(SCENE)


@pytest.fixture
def inside() -> Iterator[socket.socket]:
    """Listen where nobody outside may lead to, at another address than the catalogue's."""
    with closing(socket.create_server(("127.0.0.2", 0))) as listening:
        listening.settimeout(0)
        yield listening


@pytest.fixture
def site(tmp_path: Path, item: dict[str, Any]) -> Iterator[RangedServer]:
    """Serve a folder with a static catalogue of one item, `item.json`."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "item.json").write_text(json.dumps(item))
    (folder / "catalog.json").write_text(json.dumps(catalog_of("./item.json")))
    with serving(folder) as server:
        yield server


def catalog_of(href: str) -> dict[str, Any]:
    """Write a static catalogue of one item."""
    links = [{"rel": "root", "href": "./catalog.json"}, {"rel": "item", "href": href}]
    return {
        "type": "Catalog",
        "id": "site",
        "stac_version": "1.0.0",
        "description": "one item",
        "links": links,
    }


def ask(catalog: str) -> IngestRequest:
    """Ask for Sentinel-2 scenes of a catalogue."""
    return IngestRequest(sensor="sentinel-2-l2a", catalog=catalog)


def nobody_came(inside: socket.socket) -> bool:
    """Tell whether no connection was made."""
    with suppress(BlockingIOError):
        inside.accept()[0].close()
        return False
    return True


def test_the_host_that_was_typed_may_be_private(site: RangedServer, archive: Store) -> None:
    """Teams have catalogues in their own networks: who types the address allows it."""
    found = search_scenes(ask(f"{site.url}/catalog.json"), archive, access=Access())
    assert [scene.item for scene in found] == ["S2A_31UDQ_20230617_0_L2A"]


@pytest.mark.parametrize("kind", ["link", "file", "redirect", "redirected link"])
def test_a_link_of_a_catalogue_leads_nowhere_inside(
    site: RangedServer, inside: socket.socket, archive: Store, item: dict[str, Any], kind: str
) -> None:
    """Other people's catalogues name documents, and a document may be anything that answers."""
    hidden = f"http://127.0.0.2:{inside.getsockname()[1]}/item.json"
    secret = site.folder.parent / "secret.json"
    secret.write_text(json.dumps(item))
    links = {"link": hidden, "file": secret.as_uri()}
    catalog = catalog_of(links.get(kind, "./item.json"))
    (site.folder / "catalog.json").write_text(json.dumps(catalog))
    if kind.startswith("redirect"):
        name = "catalog.json" if kind == "redirect" else "item.json"
        site.redirects[name] = hidden
    with pytest.raises(CatalogError):
        search_scenes(ask(f"{site.url}/catalog.json"), archive, access=Access(patience=5))
    assert nobody_came(inside)
    assert list(archive.keys("")) == []


def test_an_estimate_reaches_what_a_copy_may(
    site: RangedServer, inside: socket.socket, archive: Store, item: dict[str, Any]
) -> None:
    """A dry run asks for sizes: it obeys the same rules, though nothing is copied yet."""
    for asset in item["assets"].values():
        asset["href"] = f"http://127.0.0.2:{inside.getsockname()[1]}/file.tif"
        asset.pop("file:size", None)
    (site.folder / "item.json").write_text(json.dumps(item))
    request, rules = ask(f"{site.url}/item.json"), Access(patience=5)
    found = estimate(request, search_scenes(request, archive, access=rules), archive, access=rules)
    assert found.throughput is None
    assert found.need.unknown == found.need.assets > 0
    assert nobody_came(inside)


def test_the_signature_of_an_address_is_kept_nowhere(
    site: RangedServer, archive: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """People paste signed links; tomorrow's signature must name the same search, too."""
    caplog.set_level(logging.DEBUG)
    found = [
        search_scenes(ask(f"{site.url}/item.json?sv=1&sig=SECRET{n}"), archive, access=Access())
        for n in range(2)
    ]
    assert found[0] == found[1]
    assert site.asked["item.json"] == 1
    with pytest.raises(ChipmillError) as raised:
        search_scenes(ask(f"{site.url}/none.json?sig=SECRET"), archive, access=Access())
    kept = b"".join(archive.get(key) for key in archive.keys(""))
    keys = " ".join(archive.keys(""))
    assert "SECRET" not in f"{kept!r} {keys} {caplog.text} {raised.value}"
