"""Where things are and how much room there is: the only reader of the environment."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from chipmill.errors import RequestError


def _url(value: object) -> object:
    """Give a plain path the form of a URL, so that one word names any store."""
    if isinstance(value, str | Path) and "://" not in str(value):
        return Path(value).expanduser().resolve().as_uri()
    return value


StoreUrl = Annotated[str, BeforeValidator(_url)]


class Settings(BaseSettings):
    """What the team sets once, by environment variables `CHIPMILL_…` or a `.env` file.

    Credentials of stores are not here: S3 reads `AWS_…`, Prefect reads `PREFECT_…`.
    """

    model_config = SettingsConfigDict(
        env_prefix="CHIPMILL_", env_file=".env", extra="ignore", frozen=True
    )

    archive: StoreUrl = Field(default="archive", validate_default=True)
    """The team's object store: `s3://bucket/prefix`, `file:///path` or a plain path."""

    fast: Path = Path("fast")
    """Fast storage: a directory on NVMe or FSx for Lustre."""

    budget: ByteSize = ByteSize(10**12)
    """Bytes that fast storage may hold; `2TB`, `500GiB` or a plain number."""

    ledger: str = "sqlite:///chipmill-ledger.db"
    """SQLAlchemy URL of the ledger."""

    receiver: str = "http://127.0.0.1:8787"
    """Where the webhook receiver listens, as trainers reach it."""

    prefect_api: str = Field(
        default="http://127.0.0.1:4200/api", validation_alias="PREFECT_API_URL"
    )
    """Prefect's API, as the receiver reaches it; the same variable that Prefect reads."""

    webhook_master: SecretStr | None = None
    """Master secret of the receiver (`whsec_…`, 24 bytes or more); run keys derive from it."""

    webhook_master_previous: SecretStr | None = None
    """The master before a rotation; still accepted."""

    webhook_key: SecretStr | None = None
    """A trainer's own run key, as `chipmill run-key RUN` prints it."""

    task_runner: str = "threads"
    """Where task runs happen: `threads` of the flow's process, `dask` (a cluster of processes on
    this machine), or the address of a Dask scheduler, as `tcp://scheduler:8786`."""

    tasks_at_once: int = Field(default=8, ge=1, le=1024)
    """Task runs side by side, on threads and on a Dask cluster of this machine."""

    copies_at_once: int = Field(default=8, ge=1, le=256)
    """Assets of one task that are copied side by side."""

    searches_at_once: int = Field(default=8, ge=1, le=64)
    """Tiles of one request that are searched side by side."""

    search_rate: float = Field(default=10, gt=0, le=1000)
    """HTTP requests a second that one search sends to catalogues at most."""

    throughput: ByteSize | None = None
    """Bytes a second that copying reaches here, for `chipmill ingest --dry-run`; measured on a
    sample where it is not set."""

    @property
    def has_prefect(self) -> bool:
        """Whether somebody said where Prefect's API is."""
        return "prefect_api" in self.model_fields_set

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            RequestError: A variable does not parse; the message names it.
        """
        try:
            return cls()
        except ValidationError as err:
            first = err.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            message = f"setting CHIPMILL_{where.upper()} is not usable: {first['msg']}"
            raise RequestError(message) from err
