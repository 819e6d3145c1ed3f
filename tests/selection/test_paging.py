"""Conversations with STAC APIs: recorded ones, and those of servers in trouble."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import pytest

from chipmill.errors import CatalogError, TransientError
from chipmill.io.catalog import Query, find_items, open_catalog
from chipmill.io.catalog_api import Api
from chipmill.io.documents import Documents
from chipmill.io.left_out import LeftOut

Recorded = Callable[[str], Any]
Answer = Callable[..., object]
Json = dict[str, Any]


class Asked(Protocol):
    """A request as it came."""

    method: str
    path: str
    body: Json


class Server(Protocol):
    """The server of `serve`."""

    url: str
    asked: list[Asked]
    conforms: tuple[str, ...]

    def landing(self) -> Json:
        """Give its landing page."""
        ...


Serve = Callable[[Callable[[Asked], object]], Server]
PAGES = {
    "earth-search": "earth-search-v1/search-mixed-collections",
    "planetary-computer-naip": "planetary-computer/naip-search-2pages",
}
BOX = (-73.21, 43.99, -73.12, 44.05)


def item(name: str, cloud: float | None = None) -> Json:
    """Write a small item."""
    properties = {"datetime": "2024-05-06T07:08:09Z", "eo:cloud_cover": cloud}
    return {"type": "Feature", "id": name, "properties": properties, "assets": {}, "links": []}


def page(*items: Json, **link: object) -> Json:
    """Write a page, with a link to the next where one is given."""
    links = [{"rel": "next", **link}] if link else []
    return {"type": "FeatureCollection", "features": list(items), "links": links}


def replay(recorded: Recorded, serve: Serve, answer: Answer, name: str, host: str) -> Server:
    """Serve recorded pages, one for each request."""
    pages = iter([recorded(f"stac/{PAGES[name]}/page-{n}.json") for n in (1, 2)])

    def reply(asked: Asked) -> object:
        text = json.dumps(next(pages, page()))
        return answer(json.loads(text.replace(host, api.url)))

    api = serve(reply)
    return api


def asked_as_recorded(api: Server, recorded: Recorded, name: str, host: str) -> list[Json]:
    """Give the recorded requests, at the address of the replay."""
    requests = [recorded(f"requests/{name}-page-{n}.json") for n in (1, 2)]
    assert all(one["method"] == two.method for one, two in zip(requests, api.asked, strict=False))
    urls = [str(request["url"]).replace(host, api.url) for request in requests]
    paths = [urlsplit(url).path for url in urls]
    assert [asked.path for asked in api.asked[1:2]] == paths[1:]
    return [request["body"] for request in requests]


def test_a_token_is_sent_as_recorded(recorded: Recorded, serve: Serve, answer: Answer) -> None:
    """The Planetary Computer's pages by POST: each request is the one that it was once asked."""
    name, host = "planetary-computer-naip", "https://planetarycomputer.microsoft.com"
    api = replay(recorded, serve, answer, name, host)
    with Documents(rate=1000) as documents:
        opened = Api(api.url, api.landing(), documents, LeftOut())
        found = list(opened.find(Query(collections=("naip",), bbox=BOX), page=10))
    expected = asked_as_recorded(api, recorded, name, host)
    assert [asked.body for asked in api.asked[:2]] == expected
    given = [
        i["id"] for n in (1, 2) for i in recorded(f"stac/{PAGES[name]}/page-{n}.json")["features"]
    ]
    assert [each["id"] for each in found] == given


def test_a_body_is_not_merged_where_the_link_says_so(
    recorded: Recorded, serve: Serve, answer: Answer
) -> None:
    """Earth Search's next page is asked for by a token alone, without filter and limit."""
    name, host = "earth-search", "https://earth-search.aws.element84.com"
    api = replay(recorded, serve, answer, name, host)
    api.conforms = ("filter",)
    with Documents(rate=1000) as documents:
        opened = Api(api.url, api.landing(), documents, LeftOut())
        found = list(opened.find(Query(max_cloud=40), page=10))
    first, second = asked_as_recorded(api, recorded, name, host)
    assert api.asked[1].body == second
    # The recorded filter left out scenes without a cloud cover, as those of radar, which we keep.
    known = {"op": "<=", "args": first["filter"]["args"]}
    silent = {"op": "isNull", "args": first["filter"]["args"][:1]}
    assert api.asked[0].body == {
        "filter": {"op": "or", "args": [known, silent]},
        "filter-lang": first["filter-lang"],
        "limit": 10,
    }
    given = [i for n in (1, 2) for i in recorded(f"stac/{PAGES[name]}/page-{n}.json")["features"]]
    clear = [i["id"] for i in given if i["properties"].get("eo:cloud_cover", 0) <= 40]
    assert [each["id"] for each in found] == clear
    assert any(i["collection"] == "sentinel-1-grd" for i in found)


def test_links_are_merged_and_followed_by_get(serve: Serve, answer: Answer) -> None:
    """The three forms of a next link; an empty page in the middle ends nothing, at the end all."""

    def reply(asked: Asked) -> object:
        query = parse_qs(urlsplit(asked.path).query)
        if asked.method == "GET":
            assert query == {"token": ["c"]}
            return answer(page(item("d")))
        match asked.body.get("token"):
            case None:
                link = {"method": "POST", "href": "search", "merge": True, "body": {"token": "a"}}
                return answer(page(item("a"), item("b"), **link))
            case "a":
                assert asked.body["limit"] == 100
                link = {"method": "POST", "href": "search", "merge": True, "body": {"token": "b"}}
                return answer(page(**link))
            case _:
                return answer(page(item("c"), item("a"), href="search?token=c"))

    api = serve(reply)
    assert [each["id"] for each in find_items(api.url, Query())] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("grows", [False, True])
def test_pages_that_lead_in_a_circle_are_left(serve: Serve, answer: Answer, *, grows: bool) -> None:
    """A server that gives its first page for ever must not keep a worker for ever."""

    def reply(asked: Asked) -> object:
        token = asked.body.get("token", 0) + grows
        return answer(page(item("a"), method="POST", href="search", body={"token": token}))

    api = serve(reply)
    with pytest.raises(CatalogError, match="lead in a circle after 1 items"):
        list(find_items(api.url, Query()))
    assert len(api.asked) < 30


def test_a_next_page_of_another_host_is_refused(serve: Serve, answer: Answer) -> None:
    """A link in an answer must not send this process about in the network."""
    api = serve(lambda _: answer(page(item("a"), href="http://169.254.169.254/latest")))
    with pytest.raises(CatalogError, match=r"on another host, 169\.254"):
        list(find_items(api.url, Query()))


def test_retry_after_is_heeded(serve: Serve, answer: Answer) -> None:
    """Who comes before the time that a busy server names is what makes it busy."""
    opens: list[float] = []
    early: list[float] = []

    def reply(asked: Asked) -> object:
        now = time.monotonic()
        if not opens:
            opens.append(now + 1)
            return answer({}, status=429, headers={"Retry-After": "1"})
        if now < opens[0]:
            early.append(now)
            return answer({}, status=429, headers={"Retry-After": "1"})
        return answer(page(item("a")))

    api = serve(reply)
    assert [each["id"] for each in find_items(api.url, Query())] == ["a"]
    assert early == []
    assert len(api.asked) == 2


def test_troubles_that_pass_are_waited_for(serve: Serve, answer: Answer) -> None:
    """503, a body that is cut, and text that is cut, one after the other."""
    troubles = [
        answer({}, status=503, headers={"Retry-After": "0"}),
        answer(page(item("lost")), missing=20),
        answer({}, status=502, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    ]
    api = serve(lambda _: troubles.pop() if troubles else answer(page(item("a"))))
    assert [each["id"] for each in find_items(api.url, Query())] == ["a"]
    assert troubles == []


def test_a_server_that_stays_away_is_named(serve: Serve, answer: Answer) -> None:
    """A wait of an hour is not waited for; the flow's own retries come later."""
    api = serve(lambda _: answer({}, status=503, headers={"Retry-After": "3600"}))
    with pytest.raises(TransientError, match="cannot be reached: it answered 503"):
        list(find_items(api.url, Query()))
    assert len(api.asked) == 1


def test_a_refused_filter_is_done_here(
    serve: Serve, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers say that they filter and then do not know a property; the result is the same."""

    def reply(asked: Asked) -> object:
        if "filter" in asked.body or "sortby" in asked.body:
            return answer({"description": "unknown property"}, status=400)
        return answer(page(item("a", 50), item("b", 30), item("c"), item("d", 10)))

    api = serve(reply)
    api.conforms = ("filter", "sort")
    found = find_items(api.url, Query(max_cloud=40, least_cloudy_first=True))
    assert [each["id"] for each in found] == ["d", "b", "c"]
    assert "filtered and sorted here" in caplog.text


def test_a_server_sorts_where_it_can(
    serve: Serve, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """Then reading stops as soon as there is enough; else all is read, and the log says so."""
    caplog.set_level(logging.INFO)
    clouds = [70, 20, 90, 10, 50, 30]

    def reply(asked: Asked) -> object:
        start = asked.body.get("start", 0)
        order = sorted(clouds) if "sortby" in asked.body else clouds
        link = {"method": "POST", "href": "search", "merge": True, "body": {"start": start + 2}}
        items = [item(f"c{cloud}", cloud) for cloud in order[start : start + 2]]
        return answer(page(*items, **(link if start < 4 else {})))

    for conforms, pages in (((), 3), (("sort",), 1)):
        api = serve(reply)
        api.conforms = conforms
        found = find_items(api.url, Query(least_cloudy_first=True, max_items=2))
        assert [each["id"] for each in found] == ["c10", "c20"]
        assert len(api.asked) == pages
    assert "has no sort extension" in caplog.text


def test_a_server_without_post_is_asked_by_get(serve: Serve, answer: Answer) -> None:
    """A search link without a method is one for GET."""
    api = serve(lambda _: answer(page(item("a"))))
    landing = api.landing()
    del landing["links"][0]["method"]
    with Documents(rate=1000) as documents:
        opened = Api(api.url, landing, documents, LeftOut())
        query = Query(
            collections=("x", "y"), ids=("a", "b"), bbox=(1, 2, 3, 4), period="2024-01-01/.."
        )
        list(opened.find(query))
    (asked,) = api.asked
    assert asked.method == "GET"
    assert parse_qs(urlsplit(asked.path).query) == {
        "limit": ["100"],
        "bbox": ["1.0,2.0,3.0,4.0"],
        "collections": ["x,y"],
        "ids": ["a,b"],
        "datetime": ["2024-01-01T00:00:00Z/.."],
    }


def test_an_answer_that_is_no_item_collection_says_so(serve: Serve, answer: Answer) -> None:
    """A login page and a list of errors are valid JSON too."""
    api = serve(lambda _: answer({"message": "hello"}))
    with (
        Documents() as documents,
        pytest.raises(CatalogError, match="answers to a search is no ItemCollection"),
    ):
        list(open_catalog(api.url, documents).find(Query()))
