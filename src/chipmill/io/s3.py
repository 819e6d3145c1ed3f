# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# boto3 ships no types; what leaves this module is typed.
"""What obstore does not have of S3: an answer's headers, and copies within a server."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from chipmill.errors import MissingError, StoreError, TransientError
from chipmill.io.answer import PIECE_BYTES, Answer
from chipmill.io.shared import shared
from chipmill.model.access import Access
from chipmill.settings import BucketSettings

LARGEST_COPY = 5 * 2**30
"""Bytes that one CopyObject moves at most:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/copy-object.html."""
COPY_PART = 2**30
"""Bytes of a part of a larger copy; S3 allows 10,000 parts."""
_GONE = {"NoSuchKey", "NoSuchBucket", "404", "NoSuchVersion"}
_CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}
_AGAIN = {"SlowDown", "RequestTimeout", "Throttling", "InternalError", "ServiceUnavailable"}
_BROKEN = 500
_BUSY = 429


@contextmanager
def get(
    href: str, access: Access, *, pays: bool = False, start: int = 0, etag: str | None = None
) -> Generator[Answer]:
    """Ask for an object, from a byte on.

    Raises:
        MissingError: There is none.
        TransientError: The server did not answer, is busy, or has another object now.
        StoreError: The server refuses.
    """
    asked: dict[str, str] = {"Range": f"bytes={start}-", "IfMatch": f'"{etag}"'} if start else {}
    with _translated(href):
        answer = _client(href, access).get_object(**_names(href, pays=pays), **asked)
    body = answer["Body"]
    try:
        yield Answer(
            size=int(answer["ContentLength"]) + start,
            headers=_headers(answer),
            pieces=_pieces(body, href),
            resumable="ETag" in answer,
        )
    finally:
        body.close()


def head(href: str, access: Access, *, pays: bool = False) -> Mapping[str, str]:
    """Give the headers of an object, its checksums among them; names in lower case.

    Raises:
        MissingError: There is none.
        TransientError: The server did not answer, or is busy.
        StoreError: The server refuses.
    """
    with _translated(href):
        return _headers(_client(href, access).head_object(**_names(href, pays=pays)))


def first_bytes(href: str, access: Access, *, pays: bool, count: int) -> bytes:
    """Read the beginning of an object; errors are those of `head`."""
    with _translated(href):
        asked = {**_names(href, pays=pays), "Range": f"bytes=0-{count - 1}"}
        return _client(href, access).get_object(**asked)["Body"].read(count)


def copy(href: str, target: str, access: Access, *, pays: bool, size: int, etag: str) -> None:
    """Let the server copy an object of itself; no byte of it comes here.

    Args:
        href: The object.
        target: Where to, on the same server.
        access: How the server is reached.
        pays: Whether the reader pays.
        size: Bytes of the object.
        etag: What it must still be.

    Raises:
        MissingError: There is no such object.
        TransientError: The server did not answer, is busy, or has another object now.
        StoreError: The server refuses.
    """
    from_ = _names(href, pays=pays)
    asked = {
        **_names(target, pays=pays),
        "CopySource": {"Bucket": from_["Bucket"], "Key": from_["Key"]},
        "CopySourceIfMatch": f'"{etag}"',
    }
    client = _client(target, access)
    with _translated(href):
        if size <= LARGEST_COPY:
            client.copy_object(**asked, ChecksumAlgorithm="SHA256")
        else:
            _copy_parts(client, asked, size)


def _copy_parts(client: Any, asked: dict[str, Any], size: int) -> None:  # noqa: ANN401
    names = {"Bucket": asked["Bucket"], "Key": asked["Key"]}
    upload = client.create_multipart_upload(**names)["UploadId"]
    try:
        parts: list[dict[str, object]] = []
        for number, start in enumerate(range(0, size, COPY_PART), 1):
            stop = min(start + COPY_PART, size) - 1
            place = {"UploadId": upload, "PartNumber": number}
            done = client.upload_part_copy(
                **asked, **place, CopySourceRange=f"bytes={start}-{stop}"
            )
            parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
        client.complete_multipart_upload(**names, UploadId=upload, MultipartUpload={"Parts": parts})
    except BaseException:
        client.abort_multipart_upload(**names, UploadId=upload)
        raise


def _names(href: str, *, pays: bool) -> dict[str, Any]:
    parts = urlsplit(href)
    names = {"Bucket": parts.netloc, "Key": unquote(parts.path.lstrip("/"))}
    return {**names, "RequestPayer": "requester"} if pays else names


def _headers(answer: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        name.lower(): str(value)
        for name, value in answer["ResponseMetadata"]["HTTPHeaders"].items()
    }


def _pieces(body: Any, href: str) -> Iterator[bytes]:  # noqa: ANN401
    with _translated(href):
        while piece := body.read(PIECE_BYTES):
            yield piece


@contextmanager
def _translated(href: str) -> Generator[None]:
    where = href.split("?", 1)[0]
    try:
        yield
    except ClientError as err:
        code = str(err.response.get("Error", {}).get("Code", ""))
        status = int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _GONE:
            raise MissingError(f"nothing at {where}") from err
        if code in _CHANGED:
            raise TransientError(f"{where} is another object than before") from err
        if code in _AGAIN or status >= _BROKEN or status == _BUSY:
            raise TransientError(f"{where} answered {status} ({code}); try later") from err
        raise StoreError(f"{where} answered {status} ({code}); check the access rights") from err
    except (BotoCoreError, HTTPError, OSError) as err:
        raise TransientError(f"the store of {where} did not answer ({err})") from err


def _client(href: str, access: Access) -> Any:  # noqa: ANN401
    own = access.store(urlsplit(href).netloc)
    given = own or BucketSettings(endpoint=access.endpoint, region=access.region)
    return _made(given, access.patience)


@shared
def _made(given: BucketSettings, patience: float) -> Any:  # noqa: ANN401
    session = boto3.Session()
    key, secret = given.access_key_id, given.secret_access_key
    # Public buckets are read by people who have no credentials at all.
    anonymous = given.anonymous or (key is None and session.get_credentials() is None)
    client = session.client(
        "s3",
        endpoint_url=given.endpoint,
        region_name=given.region,
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version=UNSIGNED if anonymous else None,
            connect_timeout=patience,
            read_timeout=patience,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=64,
            s3={"addressing_style": "path" if given.endpoint else "auto"},
            response_checksum_validation="when_required",
        ),
    )
    # The checksums are compared in one place, for all kinds of providers.
    for operation in ("GetObject", "HeadObject"):
        client.meta.events.register(f"before-sign.s3.{operation}", _ask_for_checksums)
    return client


def _ask_for_checksums(request: Any, **_: object) -> None:  # noqa: ANN401
    request.headers["x-amz-checksum-mode"] = "ENABLED"
