"""Keep signatures out of everything that is stored or said: a signed query is a secret."""

import re
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_SIGNED = re.compile(
    r"sig|signature|token|(access|auth|sas)_token|awsaccesskeyid|googleaccessid|key-pair-id"
    r"|x-amz-.*|x-goog-.*|(x-)?api[-_]?key|(.*-)?subscription-key|password",
    re.IGNORECASE,
)
"""Names in a query that is signed: Azure's SAS, S3's two versions, Google's, CloudFront's, Mapbox's
and those of data hubs that hand out bearer tokens or keys."""


def without_signature(href: str) -> str:
    """Drop a signed query string and a user's name and password; other queries stay."""
    try:
        parts = urlsplit(href)
    except ValueError:  # no URL: what is a signature in it cannot be told
        return href.partition("?")[0]
    host = parts.netloc.rpartition("@")[2]
    # Only these schemes have a password before the host; an @ elsewhere is part of a name.
    parts = parts._replace(netloc=host) if parts.scheme in ("http", "https") else parts
    if any(_SIGNED.fullmatch(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        parts = parts._replace(query="", fragment="")
    plain = urlunsplit(parts)
    return plain if plain != href else href


def said(href: str) -> str:
    """Give the form of an href that messages and logs may show: nothing after the path."""
    return without_signature(href).split("?", 1)[0].split("#", 1)[0]


def unsigned(document: object) -> Any:  # noqa: ANN401  # JSON
    """Give a JSON document with all its addresses unsigned, wherever in it they are."""
    match document:
        case str() if "://" in document:
            return without_signature(document)
        case dict():
            return {key: unsigned(value) for key, value in cast("dict[str, Any]", document).items()}
        case list():
            return [unsigned(value) for value in cast("list[Any]", document)]
        case _:
            return document
