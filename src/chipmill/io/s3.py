# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# boto3 ships no types; what leaves this module is typed.
"""What obstore does not have of S3: an answer's headers, and copies within a server."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import boto3
import obstore
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from obstore import exceptions as obx
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.store import S3Store

from chipmill.errors import ChipmillError, MissingError, StoreError, TransientError
from chipmill.formats.stated import plain_etag
from chipmill.io.answer import PIECE_BYTES, Answer
from chipmill.io.shared import shared
from chipmill.model.access import Access
from chipmill.settings import BucketSettings

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult  # of its stubs alone

_LONGEST = timedelta(hours=1)
"""A file that takes longer is taken up again where it is."""
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
    headers = {} if start else head(href, access, pays=pays)
    same = etag or plain_etag(headers.get("etag"))
    with _translated(href):
        # Compiled, and outside of Python's lock: several times as fast as a body of boto3.
        asked: GetOptions = {"range": {"offset": start}} if start else {}
        if same:
            asked["if_match"] = f'"{same}"'
        answer = obstore.get(
            _store(href, access, pays=pays), _names(href, pays=False)["Key"], options=asked
        )
        size = answer.meta["size"]
    yield Answer(
        size=size, headers=headers, pieces=_pieces(answer, href), resumable=same is not None
    )


def head(href: str, access: Access, *, pays: bool = False) -> Mapping[str, str]:
    """Give the headers of an object, its checksums among them; names in lower case.

    Raises:
        MissingError: There is none.
        TransientError: The server did not answer, or is busy.
        StoreError: The server refuses.
    """
    with _translated(href):
        headers = _headers(_client(href, access).head_object(**_names(href, pays=pays)))
        if "content-length" not in headers:
            raise KeyError("no content-length")
        return headers


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


def _pieces(answer: "GetResult", href: str) -> Iterator[bytes]:
    with _translated(href):
        for piece in answer.stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)


@contextmanager
def _translated(href: str) -> Generator[None]:
    where = href.split("?", 1)[0]
    try:
        yield
    except ClientError as err:
        raise _meaning(err, where) from err
    except FileNotFoundError as err:
        raise MissingError(f"nothing at {where}") from err
    except (obx.PermissionDeniedError, obx.UnauthenticatedError) as err:
        raise StoreError(f"access denied to {where}; check the access rights") from err
    except (BotoCoreError, obx.BaseError, OSError) as err:
        # An object that is another one than before is among them: it is fetched again.
        raise TransientError(f"the store of {where} did not answer ({_reason(err)})") from err
    except (ValueError, KeyError) as err:
        # boto3 reads the headers of an answer that was cut in them.
        raise TransientError(f"the store of {where} gave half an answer ({err})") from err


def _meaning(err: ClientError, where: str) -> ChipmillError:
    code = str(err.response.get("Error", {}).get("Code", ""))
    status = int(err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _GONE:
        return MissingError(f"nothing at {where}")
    if code in _CHANGED:
        return TransientError(f"{where} is another object than before; it is copied again")
    if code in _AGAIN or status >= _BROKEN or status == _BUSY:
        return TransientError(f"{where} answered {status} ({code}); it may work in a while")
    return StoreError(f"{where} answered {status} ({code}); check the access rights")


def _reason(err: Exception) -> str:
    return str(err).split("\n\n", 1)[0]  # what follows is a dump of obstore's internals


def _client(href: str, access: Access) -> Any:  # noqa: ANN401
    return _made(_given(href, access), access.patience)


def _given(href: str, access: Access) -> BucketSettings:
    own = access.store(urlsplit(href).netloc)
    return own or BucketSettings(endpoint=access.endpoint, region=access.region)


def _store(href: str, access: Access, *, pays: bool) -> S3Store:
    return _opened(urlsplit(href).netloc, _given(href, access), access.patience, pays)


@shared
def _opened(bucket: str, given: BucketSettings, patience: float, pays: bool) -> S3Store:  # noqa: FBT001
    session, key, secret = boto3.Session(), given.access_key_id, given.secret_access_key
    anonymous = given.anonymous or (key is None and session.get_credentials() is None)
    wait = timedelta(seconds=patience)
    config: dict[str, Any] = {"skip_signature": anonymous, "request_payer": pays}
    if given.endpoint:
        config["endpoint"] = given.endpoint
    if given.region:
        config["region"] = given.region
    if key and secret:
        config["access_key_id"] = key.get_secret_value()
        config["secret_access_key"] = secret.get_secret_value()
    elif not anonymous:
        config["credential_provider"] = Boto3CredentialProvider(session)
    return S3Store(
        bucket,
        client_options={
            "allow_http": True,
            "connect_timeout": wait,
            "read_timeout": wait,
            "timeout": _LONGEST,
        },
        **config,
    )


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
