# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false
# botocore ships no types; what leaves this module is typed.
"""Requests to S3: botocore signs and sends them, and whoever asks reads the answer.

A client of boto3 takes 0.15 s to be made and 3 ms of CPU for each request, and obstore tells no
headers of answers. Here a request costs little more than its bytes.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session
from botocore.response import StreamingBody
from botocore.session import Session
from botocore.utils import get_environ_proxies
from urllib3.exceptions import HTTPError

from chipmill.errors import ChipmillError, MissingError, StoreError, TransientError
from chipmill.io.shared import shared
from chipmill.model.access import Access
from chipmill.settings import BucketSettings

CONNECTIONS = 64
_GONE = {"NoSuchKey", "NoSuchBucket", "404", "NoSuchVersion"}
_CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}
_AGAIN = {"SlowDown", "RequestTimeout", "Throttling", "InternalError", "ServiceUnavailable"}
_BROKEN = 500
_BUSY = 429
_ELSEWHERE = {301, 307, 400}
"""How S3 answers who asks another region than the bucket's; a header names the right one."""
_REGION = re.compile(r"[a-z0-9-]+")
"""What may become a part of the host's name."""


class Body(Protocol):
    """The bytes of an answer."""

    def read(self, amt: int, /) -> bytes:
        """Read so many bytes, or those that are left."""
        ...


class Reply:
    """An answer of S3."""

    def __init__(self, answer: Any) -> None:  # noqa: ANN401
        """Take what botocore gives."""
        self._raw = answer.raw
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): str(value) for name, value in answer.headers.items()
        }
        self.body: Body = StreamingBody(answer.raw, None)

    def close(self) -> None:
        """Leave the connection: to the next request where all was read, else to nobody."""
        self._raw.close()


class Bucket:
    """A bucket as it is asked, by all threads."""

    def __init__(self, name: str, settings: BucketSettings, patience: float) -> None:
        """Find the credentials and the region.

        Args:
            name: Of the bucket.
            settings: How it is reached.
            patience: Seconds without an answer or a byte after which a connection counts as dead.
        """
        session = Session()
        self._name, self._endpoint = name, settings.endpoint or _endpoint(session)
        self._region = str(settings.region or session.get_config_variable("region") or "us-east-1")
        self._credentials = _credentials(settings, session)
        self._http = URLLib3Session(
            verify=session.get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(self._root()),
            timeout=(patience, patience),
            max_pool_connections=CONNECTIONS,
        )

    def ask(self, method: str, key: str, headers: Mapping[str, str]) -> Reply:
        """Send a request; where another region has the bucket, ask there, now and from now on."""
        reply = self._send(method, key, headers)
        region = reply.headers.get("x-amz-bucket-region", self._region)
        known = region == self._region or not _REGION.fullmatch(region)
        if reply.status in _ELSEWHERE and not known:
            reply.close()
            self._region = region
            reply = self._send(method, key, headers)
        return reply

    def _send(self, method: str, key: str, headers: Mapping[str, str]) -> Reply:
        url = f"{self._root()}/{quote(key, safe='/~')}"
        request = AWSRequest(method=method, url=url, headers=dict(headers), stream_output=True)
        if self._credentials:
            now = self._credentials.get_frozen_credentials()
            S3SigV4Auth(now, "s3", self._region).add_auth(request)
        return Reply(self._http.send(request.prepare()))

    def _root(self) -> str:
        """Give the URL of the bucket.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
        """
        if self._endpoint:
            return f"{self._endpoint.rstrip('/')}/{self._name}"
        end = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        if "." in self._name:  # no certificate is valid for it as a part of the host's name
            return f"https://s3.{self._region}.{end}/{self._name}"
        return f"https://{self._name}.s3.{self._region}.{end}"


@contextmanager
def asked(
    method: str, href: str, access: Access, *, pays: bool, headers: Mapping[str, str]
) -> Generator[Reply]:
    """Ask for an object, and refuse an answer that says why there is none.

    Raises:
        MissingError: There is none.
        TransientError: The server did not answer, is busy, or has another object now.
        StoreError: The server refuses.
    """
    parts = urlsplit(href)
    paying = {"x-amz-request-payer": "requester"} if pays else {}
    with translated(href):
        bucket = _opened(parts.netloc, given(href, access), access.patience)
        reply = bucket.ask(method, unquote(parts.path.lstrip("/")), {**headers, **paying})
    try:
        if reply.status not in (200, 206):
            raise meaning(_code(reply, href), reply.status, href)
        yield reply
    finally:
        reply.close()


def given(href: str, access: Access) -> BucketSettings:
    """Tell how the bucket of an object is reached."""
    own = access.store(urlsplit(href).netloc)
    return own or BucketSettings(endpoint=access.endpoint, region=access.region)


def meaning(code: str, status: int, href: str) -> ChipmillError:
    """Make an error of an answer that is one."""
    where = href.split("?", 1)[0]
    if code in _GONE:
        return MissingError(f"nothing at {where}")
    if code in _CHANGED:
        return TransientError(f"{where} is another object than before; it is copied again")
    if code in _AGAIN or status >= _BROKEN or status == _BUSY:
        return TransientError(f"{where} answered {status} ({code}); it may work in a while")
    return StoreError(f"{where} answered {status} ({code}); check the access rights")


@contextmanager
def translated(href: str) -> Generator[None]:
    """Turn the errors of botocore and of the network into chipmill's."""
    where = href.split("?", 1)[0]
    try:
        yield
    except (BotoCoreError, HTTPError, OSError) as err:
        raise TransientError(f"the store of {where} did not answer ({err})") from err
    except (ValueError, KeyError) as err:
        # The headers of an answer that was cut in them.
        raise TransientError(f"the store of {where} gave half an answer ({err})") from err


def _code(reply: Reply, href: str) -> str:
    """Find S3's word for what is wrong; an answer to HEAD has none."""
    with translated(href):
        text = reply.body.read(2**14).decode(errors="replace")
    _, _, rest = text.partition("<Code>")
    return rest.partition("</Code>")[0] or str(reply.status)


def _endpoint(session: Session) -> str | None:
    """Find another server than AWS where boto3 looks for its address."""
    profile = session.get_scoped_config()
    found = ConfiguredEndpointProvider(session.full_config, profile, "s3").provide()
    return None if found is None else str(found)


def _credentials(settings: BucketSettings, session: Session) -> Credentials | None:
    """Give what signs; public buckets are read by people who have no credentials at all."""
    if settings.anonymous:
        return None
    key, secret = settings.access_key_id, settings.secret_access_key
    if key and secret:
        return Credentials(key.get_secret_value(), secret.get_secret_value())
    return session.get_credentials()


@shared
def _opened(name: str, settings: BucketSettings, patience: float) -> Bucket:
    return Bucket(name, settings, patience)
