"""Ask a STAC API: search, paging, and what it cannot do itself.

The paging is our own: an empty page in the middle of an answer does not end it, a chain of pages
that leads nowhere does, and a body that was cut is asked for again.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, cast
from urllib.parse import urlencode, urljoin, urlsplit

from pystac_client.conformance import ConformanceClasses

from chipmill.errors import CatalogError
from chipmill.formats.signature import said
from chipmill.io.catalog_body import Body, needed, search_parameters
from chipmill.io.catalog_query import Item, Query, has_id, matching, sides
from chipmill.io.documents import Documents, RefusedError, parsed
from chipmill.io.left_out import LeftOut
from chipmill.model.scene import BBox

log = logging.getLogger(__name__)

PAGE = 100
"""Items of a page; what is asked for more than that, servers cut, and answers grow to megabytes."""
EMPTY_PAGES = 20
"""So many pages in a row without a new item end a search: the server leads in a circle."""
_EXTENSIONS = {"filter": ConformanceClasses.FILTER, "sort": ConformanceClasses.SORT}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One page to ask for."""

    method: str
    url: str
    body: Body = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Api:
    """A STAC API; many threads may ask it at once."""

    def __init__(
        self,
        url: str,
        landing: Mapping[str, Any],
        documents: Documents,
        left_out: LeftOut,
    ) -> None:
        """Read what the API says of itself.

        Args:
            url: Of its landing page.
            landing: The landing page.
            documents: Sends the requests.
            left_out: Takes the items that cannot be judged.
        """
        self.url = said(url)
        self._documents = documents
        self._left_out = left_out
        searches = [
            link for link in _links(landing) if link.get("rel") == "search" and link.get("href")
        ]
        self._posts = not searches or any(link.get("method") == "POST" for link in searches)
        href = str(searches[0]["href"]) if searches else self.url.rstrip("/") + "/search"
        self._search = urljoin(url, href)
        classes = [str(name) for name in landing["conformsTo"]]
        self._offers = {
            name
            for name, known in _EXTENSIONS.items()
            if any(known.value in each for each in classes)
        }
        self._told = set[str]()

    @property
    def filters(self) -> bool:
        """Whether it filters by properties itself."""
        return "filter" in self._offers

    def find(self, query: Query, *, page: int = PAGE) -> Iterator[Item]:
        """Find items; what the API cannot filter is filtered here.

        Args:
            query: What is looked for.
            page: Items that a page may have.

        Raises:
            CatalogError: The API refuses, or its answer is none.
            TransientError: It does not answer, after several tries.
        """
        boxes = sides(query.bbox) if query.bbox else [None]
        items = self._told_once(query, boxes, page)
        first = list(islice(items, 1))  # with the first page comes what the API refuses
        sort = "sort" not in self._offers or len(boxes) > 1
        return matching(chain(first, items), query, self._left_out, sort=sort)

    def _told_once(self, query: Query, boxes: Sequence[Any], page: int) -> Iterator[Item]:
        # Not every server reads west > east as a box across the antimeridian: ask for its sides.
        told = set[object]()
        for box in boxes:
            asked = self._asked(query, box, page, self._offered(query))
            try:
                pages = self._pages(self._first(asked), told)
                first = next(pages)
            except RefusedError as err:
                if not asked.keys() & {"filter", "sortby"}:
                    raise
                log.warning("%s refuses a filter (%s): filtered and sorted here", self.url, err)
                self._offers.clear()
                pages = self._pages(self._first(self._asked(query, box, page, set())), told)
                first = next(pages)
            yield from first
            for items in pages:
                yield from items

    def _offered(self, query: Query) -> set[str]:
        """Tell which extensions there are, and say once what is done here instead."""
        for extension in needed(query) - self._offers - self._told:
            self._told.add(extension)
            log.info("%s has no %s extension: done here, over all items", self.url, extension)
        return self._offers

    def _asked(self, query: Query, box: BBox | None, page: int, offers: set[str]) -> Body:
        return search_parameters(
            self._search, query, box, posts=self._posts, page=page, offers=offers
        )

    def _first(self, asked: Body) -> _Request:
        if self._posts:
            return _Request(method="POST", url=self._search, body=asked)
        return _Request(method="GET", url=f"{self._search}?{urlencode(asked)}")

    def _pages(self, first: _Request, told: set[object]) -> Iterator[list[Item]]:
        """Follow the links to the next page; give of each page what was not told before."""
        asked = set[str]()
        request: _Request | None = first
        empty = 0
        while request:
            mark = json.dumps([request.method, request.url, request.body], sort_keys=True)
            if mark in asked or empty >= EMPTY_PAGES:
                raise CatalogError(
                    f"the pages of {self.url} lead in a circle after {len(told)} items; tell its "
                    "operator, or ask for a smaller area or period"
                )
            asked.add(mark)
            page = self._page(request)
            features = cast("list[object]", page["features"])
            new = [item for item in features if not has_id(item) or _name(item) not in told]
            told.update(_name(item) for item in new if has_id(item))
            empty = 0 if new else empty + 1
            yield cast("list[Item]", new)
            request = self._next(page, request)

    def _page(self, request: _Request) -> Body:
        body = request.body if request.method == "POST" else None

        def read() -> bytes:
            return self._documents.ask(
                request.method, request.url, body=body, headers=request.headers
            )

        page = parsed(request.url, read)
        if not isinstance(page, dict) or not isinstance(page.get("features"), list):  # pyright: ignore[reportUnknownMemberType]
            raise CatalogError(f"what {self.url} answers to a search is no ItemCollection")
        return cast("Body", page)

    def _next(self, page: Body, request: _Request) -> _Request | None:
        link = next((each for each in _links(page) if each.get("rel") == "next"), None)
        if link is None:
            return None
        url = urljoin(request.url, str(link.get("href", "")))
        if urlsplit(url).hostname != urlsplit(self._search).hostname:
            raise CatalogError(
                f"the next page of {self.url} lies on another host, {urlsplit(url).hostname}; "
                "ask that catalogue itself"
            )
        merged = request.body if link.get("merge") else {}
        return _Request(
            method=str(link.get("method") or "GET").upper(),
            url=url,
            body={**merged, **cast("Body", link.get("body") or {})},
            headers=cast("Mapping[str, str]", link.get("headers") or {}),
        )


def _name(item: object) -> tuple[str, object]:
    said = cast("Item", item)
    return str(said.get("collection")), said.get("id")


def _links(document: Mapping[str, Any]) -> list[Body]:
    """Give the links of a document; what is none is passed over."""
    links = document.get("links")
    listed = cast("list[object]", links) if isinstance(links, list) else []
    return [cast("Body", link) for link in listed if isinstance(link, dict)]
