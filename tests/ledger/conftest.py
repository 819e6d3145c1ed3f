"""New ledgers on both databases."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.schema import CreateSchema


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of a ledger of SQLite, `ledger.db`, that is not there yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def new_schema(postgres: str) -> Callable[[], str]:
    """Give a function that makes an empty schema of PostgreSQL and gives the URL of its ledger."""

    def make() -> str:
        name = f"ledger_{secrets.token_hex(8)}"
        engine = create_engine(postgres)
        with engine.begin() as connection:
            connection.execute(CreateSchema(name))
        engine.dispose()
        url = make_url(postgres).update_query_dict({"options": f"-csearch_path={name}"})
        return url.render_as_string(hide_password=False)

    return make


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.xdist_group("postgres"))]
)
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Give a function that gives the URL of a ledger that is not there yet, on each database."""
    if request.param == "postgres":
        make: Callable[[], str] = request.getfixturevalue("new_schema")
        return make
    return lambda: f"sqlite:///{tmp_path / secrets.token_hex(8)}.db"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    """Give the URL of a ledger that is not there yet, on each database."""
    return new_url()
