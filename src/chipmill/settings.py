"""Where things are and how much room there is: the only reader of the environment."""

import os
from base64 import b64encode
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
    SettingsError,
)

from chipmill.errors import RequestError
from chipmill.url import absolute_ledger, expanded, is_relative, store_url

Where = Literal["archive", "ledger", "fast"]
_PLACES: Final = ("archive", "ledger", "fast", "fsx_link")


def _url(value: object) -> object:
    return store_url(_place(value)) if isinstance(value, str | Path) else value


def _folder(value: object) -> object:
    return expanded(_place(value)) if isinstance(value, str | Path) else value


def _place(value: str | Path) -> str | Path:
    """Refuse nothing as the name of a place, which would be the folder where a process starts."""
    if not str(value).strip():
        raise ValueError("it is empty; name a place, or do not set it")
    return value


StoreUrl = Annotated[str, BeforeValidator(_url)]
Folder = Annotated[Path, BeforeValidator(_folder)]


def _words(value: object) -> object:
    """Divide a list as people write it, `a, b`."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class BucketSettings:
    """How a provider's bucket is reached, where the usual `AWS_…` variables are not for it."""

    endpoint: str | None = None
    """URL of the provider's S3 server; none: AWS."""
    region: str | None = None
    anonymous: bool = False
    """Send requests without a signature, as public buckets allow."""
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None


class Settings(BaseSettings):
    """What the team sets once, by environment variables `CHIPMILL_…` or a `.env` file.

    Credentials of stores are not here: S3 reads `AWS_…`, Prefect reads `PREFECT_…`.
    """

    model_config = SettingsConfigDict(
        env_prefix="CHIPMILL_", env_file=".env", extra="ignore", frozen=True
    )

    archive: StoreUrl = Field(default="archive", validate_default=True)
    """The team's object store: `s3://bucket/prefix`, `file:///path` or a plain path."""

    fast: Folder = Path("fast")
    """Fast storage: a directory on NVMe or FSx for Lustre."""

    budget: ByteSize = ByteSize(10**12)
    """Bytes that fast storage may hold; `2TB`, `500GiB` or a plain number."""

    form: Literal["packs", "scenes"] = "packs"
    """What lies on fast storage: `packs` of chips, or `scenes`, the archive's files as they are."""

    codec: Literal["none", "lz4", "zstd"] = "none"
    """How chip packs are compressed: `none`, `lz4` or `zstd`."""

    fsx_link: Folder | None = None
    """Where the archive lies on the FSx for Lustre file system that it is linked to; with the form
    `scenes` its files are restored there instead of copied."""

    fsx_file_system: str | None = None
    """Id of that file system, as `fs-0123456789abcdef0`: names that it lacks are imported."""

    page_cache: bool = False
    """Whether what is staged stays in memory as well: for packs that are read at once and fit."""

    free_floor: ByteSize = ByteSize(10**9)
    """Bytes that staging leaves free on the disk, whatever the budget allows."""

    scenes_at_once: int = Field(default=4, ge=1, le=64)
    """Scenes that staging cuts side by side; each takes some hundred megabytes of memory."""

    ledger: str = "sqlite:///chipmill-ledger.db"
    """SQLAlchemy URL of the ledger."""

    receiver: str = "http://127.0.0.1:8787"
    """Where the webhook receiver listens, as trainers reach it."""

    prefect_api: str = Field(
        default="http://127.0.0.1:4200/api", validation_alias="PREFECT_API_URL"
    )
    """Prefect's API, as the receiver reaches it; the same variable that Prefect reads."""

    aws_block: str | None = None
    """Name of the Prefect block AwsCredentials that runs get their `AWS_…` variables from; none:
    they have those of the worker, or its role."""

    archive_block: str | None = None
    """Name of the Prefect block S3Bucket that is the archive; none: `CHIPMILL_ARCHIVE` says."""

    notify_block: str | None = None
    """The Prefect block that messages to people go through, as `slack-webhook/operations`."""

    webhook_master: SecretStr | None = None
    """Master secret of the receiver (`whsec_…`, 24 bytes or more); run keys derive from it."""

    webhook_master_previous: SecretStr | None = None
    """The master before a rotation; still accepted."""

    webhook_key: SecretStr | None = None
    """A trainer's own run key, as `chipmill run-key RUN` prints it."""

    page_token: SecretStr | None = None
    """What signs people in on the status page; none: one is derived from the master secret, which
    `chipmill page-token` prints."""

    log_format: Literal["text", "json"] = "text"
    """The form of the receiver's log."""

    prefect_ui: str | None = Field(default=None, validation_alias="PREFECT_UI_URL")
    """Prefect's UI, as people's browsers reach it; none: that of `PREFECT_API_URL`."""

    task_runner: str = "threads"
    """Where task runs happen: `threads` of the flow's process, `dask` (a cluster of processes on
    this machine), or the address of a Dask scheduler, as `tcp://scheduler:8786`."""

    tasks_at_once: int = Field(default=8, ge=1, le=1024)
    """Task runs side by side, on threads and on a Dask cluster of this machine."""

    copies_at_once: int = Field(default=8, ge=1, le=256)
    """Assets that one process copies side by side."""

    bandwidth: ByteSize | None = None
    """Bytes a second that the copies of one process may take; none: no limit."""

    patience: float = Field(default=30, gt=0, le=600)
    """Seconds without an answer or a byte after which a connection counts as dead."""

    source_schemes: Words = ("https", "http", "s3", "gs", "az")
    """Schemes of hrefs that are followed; `file` only for a catalogue that is a local file."""

    source_hosts: Words = ()
    """Hosts that files are fetched from, with the hosts below them; empty: every public host."""

    private_hosts: Words = ()
    """Names, addresses or networks (`10.1.0.0/16`) that may be reached though they are private."""

    source_buckets: Words = ()
    """Buckets that files are fetched from; empty: every bucket."""

    local_sources: bool = False
    """Whether `file://` hrefs are followed whatever catalogue they come from."""

    requester_pays: bool = False
    """Whether places are read where the reader pays for the transfer."""

    buckets: dict[str, BucketSettings] = {}
    """Buckets with an endpoint, a region or credentials of their own, as JSON, by name."""

    signers: dict[str, str] = {
        "blob.core.windows.net": (
            "https://planetarycomputer.microsoft.com/api/sas/v1/token/{account}/{container}"
        )
    }
    """Where hrefs of a host get their signature, as JSON: the end of the host's name, and the URL
    that answers with a token. The default is that of the Planetary Computer."""

    aws_endpoint: str | None = Field(default=None, validation_alias="AWS_ENDPOINT_URL")
    """The team's own S3 server; the same variable that every S3 client reads."""

    aws_region: str | None = Field(
        default=None, validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION")
    )

    searches_at_once: int = Field(default=8, ge=1, le=64)
    """Tiles of one request that are searched side by side."""

    search_rate: float = Field(default=10, gt=0, le=1000)
    """HTTP requests a second that one search sends to catalogues at most."""

    throughput: ByteSize | None = None
    """Bytes a second that copying reaches here, for `chipmill ingest --dry-run`; measured on a
    sample where it is not set."""

    prefect_key: SecretStr | None = Field(default=None, validation_alias="PREFECT_API_KEY")
    """Key of Prefect's API, where it asks for one; the same variable that Prefect reads."""

    prefect_auth: SecretStr | None = Field(default=None, validation_alias="PREFECT_API_AUTH_STRING")
    """`user:password` of a Prefect server that asks for them; Prefect reads it too."""

    _relative: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="wrap")
    @classmethod
    def _note_relative(cls, said: dict[str, Any], make: ModelWrapValidatorHandler[Self]) -> Self:
        """Keep in mind which places were said relative to the directory of this process."""
        made = make(said)
        made._relative = frozenset(  # noqa: SLF001  its own
            name for name in _PLACES if is_relative(said.get(name) or "/")
        )
        return made

    def unsettled(self, *places: Where) -> dict[str, str]:
        """Say which places a process would look for in the directory where it starts.

        Args:
            places: Those that have to be set.

        Returns:
            `is not set` or `is relative`, by the name of the variable.
        """
        unset = {name: "is not set" for name in places if name not in self.model_fields_set}
        wrong = unset | dict.fromkeys(self._relative, "is relative")
        return {_variable(name): wrong[name] for name in _PLACES if name in wrong}

    @property
    def chosen_places(self) -> dict[str, str]:
        """The places that somebody has set, for a process that starts in another directory."""
        link = self.fsx_link
        absolute = {
            "archive": self.archive,
            "ledger": absolute_ledger(self.ledger),
            "fast": str(self.fast.absolute()),
            "fsx_link": str(link.absolute()) if link else None,
        }
        return {
            _variable(name): place
            for name, place in absolute.items()
            if place is not None and name in self.model_fields_set
        }

    @property
    def prefect_headers(self) -> dict[str, str]:
        """What a call of Prefect's API carries."""
        if self.prefect_key is not None:
            return {"authorization": f"Bearer {self.prefect_key.get_secret_value()}"}
        if self.prefect_auth is not None:
            pair = b64encode(self.prefect_auth.get_secret_value().encode()).decode()
            return {"authorization": f"Basic {pair}"}
        return {}

    @property
    def prefect_environment(self) -> dict[str, str]:
        """Where Prefect's API is and how it is entered, for a process that reads no `.env`."""
        key, auth = self.prefect_key, self.prefect_auth
        return {
            "PREFECT_API_URL": self.prefect_api,
            **({"PREFECT_API_KEY": key.get_secret_value()} if key else {}),
            **({"PREFECT_API_AUTH_STRING": auth.get_secret_value()} if auth else {}),
        }

    @property
    def has_prefect(self) -> bool:
        """Whether somebody said where Prefect's API is."""
        return "prefect_api" in self.model_fields_set

    @property
    def has_archive(self) -> bool:
        """Whether somebody said where the archive is."""
        return "archive" in self.model_fields_set

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            RequestError: A variable does not parse; the message names it.
        """
        try:
            return cls()
        except SettingsError as err:
            said = str(err).partition(" from source")[0]
            raise RequestError(f"a CHIPMILL_… variable is no JSON: {said}") from err
        except UnicodeDecodeError as err:
            raise RequestError(f"the file .env is not UTF-8 ({err}); write it anew") from err
        except ValidationError as err:
            first = err.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            message = f"setting CHIPMILL_{where.upper()} is not usable: {first['msg']}"
            raise RequestError(message) from err


def _variable(name: str) -> str:
    return f"CHIPMILL_{name.upper()}"


def child_environment(**more: str) -> dict[str, str]:
    """Give a process that is started here what `.env` says, this process's environment, and more.

    The process may start in another directory, where there is no such file.
    """
    said = DotEnvSettingsSource(Settings, case_sensitive=True).env_vars
    kept = {name: value for name, value in said.items() if value is not None}
    return {**kept, **os.environ, **more}  # noqa: TID251  this module reads it for all


def has_worker() -> bool:
    """Whether a worker of Prefect has started this process, for one flow run."""
    return "PREFECT__FLOW_RUN_ID" in os.environ  # noqa: TID251  this module reads it for all
