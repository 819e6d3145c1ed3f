# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# boto3 ships no types; what leaves this module is typed.
"""Copies within an S3 server: no byte of an object comes here."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from chipmill.io.s3_asking import CONNECTIONS, given, meaning, translated
from chipmill.io.shared import shared
from chipmill.model.access import Access
from chipmill.settings import BucketSettings

LARGEST_COPY = 5 * 2**30
"""Bytes that one CopyObject moves at most:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/copy-object.html."""
COPY_PART = 2**30
"""Bytes of a part of a larger copy; S3 allows 10,000 parts."""


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
    client = _made(given(target, access), access.patience)
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


@contextmanager
def _translated(href: str) -> Generator[None]:
    with translated(href):
        try:
            yield
        except ClientError as err:
            code = str(err.response.get("Error", {}).get("Code", ""))
            status = int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise meaning(code, status, href) from err


@shared
def _made(settings: BucketSettings, patience: float) -> Any:  # noqa: ANN401
    session = boto3.Session()
    key, secret = settings.access_key_id, settings.secret_access_key
    # Public buckets are read by people who have no credentials at all.
    anonymous = settings.anonymous or (key is None and session.get_credentials() is None)
    return session.client(
        "s3",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version=UNSIGNED if anonymous else None,
            connect_timeout=patience,
            read_timeout=patience,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": "path" if settings.endpoint else "auto"},
        ),
    )
