"""The accounts' file, their schema, and what is kept of a password."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from services.adapters.accounts import Accounts
from services.adapters.accounts_schema import ACCOUNTS, METADATA
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_database import Database, migrations
from services.adapters.passwords import Passwords, ScryptCost
from services.core.access import Role
from services.core.errors import UnavailableError
from tests.support.accounts import CHEAP, PASSWORD, Clock, add_everybody, make_accounts


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(clock: Clock) -> Accounts:
    made = make_accounts(clock)
    add_everybody(made)
    return made


def token_of(accounts: Accounts, name: str = "Olga") -> str:
    found = accounts.sign_in(name, PASSWORD)
    assert found is not None
    return found[0]


def test_the_migrations_lead_to_the_tables_that_the_code_knows() -> None:
    database = Database("sqlite://", ACCOUNTS)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": ACCOUNTS.version_table})
        assert compare_metadata(context, METADATA) == []
    config = migrations(ACCOUNTS)
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == [ACCOUNTS.version_table]
    database.close()


def test_accounts_and_case_index_may_share_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'both.db'}"
    for _ in range(2):
        SqlCaseIndex(url).close()
        make_accounts(url=url).close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(UnavailableError, match=r"accounts database .* must be a whole SQLite database"):
        make_accounts(url=f"sqlite:///{tmp_path / 'x.db'}")


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    accounts = make_accounts(url=f"sqlite:///{tmp_path / 'new' / 'accounts.db'}")
    add_everybody(accounts)
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "new").iterdir()} == {0}
    accounts.close()


# ---- passwords


def test_a_hash_is_salted_and_says_its_cost() -> None:
    passwords = Passwords(CHEAP)
    first, second = passwords.hash(PASSWORD), passwords.hash(PASSWORD)
    assert first != second
    assert first.startswith("scrypt$16$1$1$")
    assert passwords.matches(PASSWORD, first)
    assert not passwords.matches(PASSWORD + "x", first)


@pytest.mark.parametrize("kept", ["", "scrypt$16$1$1", "md5$1$1$1$AA==$AA==", "scrypt$x$1$1$AA==$AA==", "scrypt$" * 9])
def test_nothing_matches_what_is_no_hash(kept: str) -> None:
    passwords = Passwords(CHEAP)
    assert not passwords.matches(PASSWORD, kept)
    assert passwords.is_outdated(kept)


def test_a_hash_of_absurd_cost_is_not_computed() -> None:
    assert not Passwords(CHEAP).matches(PASSWORD, f"scrypt${2**30}$8$1$AAAA${'A' * 43}=")


def test_an_unknown_name_costs_a_hash_like_a_known_one(monkeypatch: pytest.MonkeyPatch, accounts: Accounts) -> None:
    hashed: list[int] = []
    monkeypatch.setattr(
        "services.adapters.passwords._scrypt", lambda password, salt, cost: hashed.append(cost.n) or b"\0" * 32
    )
    for name in ("Olga", "nobody"):
        hashed.clear()
        assert accounts.sign_in(name, "a wrong password") is None
        assert hashed == [16]


def test_a_password_is_hashed_anew_when_the_cost_has_grown(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'accounts.db'}"
    old = make_accounts(url=url)
    old.add("Olga", Role.OPERATOR, PASSWORD)
    old.close()
    new = Accounts(url, passwords=Passwords(ScryptCost(n=32, r=1, p=1)))
    for _ in range(2):
        assert new.sign_in("Olga", PASSWORD) is not None
    new.close()
    kept = sqlite3.connect(tmp_path / "accounts.db").execute("SELECT password_hash FROM users").fetchone()[0]
    assert kept.startswith("scrypt$32$")


# ---- sessions


def test_the_database_does_not_hold_what_opens_a_session(tmp_path: Path) -> None:
    accounts = make_accounts(url=f"sqlite:///{tmp_path / 'accounts.db'}")
    add_everybody(accounts)
    token = token_of(accounts)
    accounts.close()
    kept = "\n".join(sqlite3.connect(tmp_path / "accounts.db").iterdump())
    assert token not in kept
    assert PASSWORD not in kept
