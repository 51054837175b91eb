"""The command by which people are let in: passwords come from the prompt or standard input alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.adapters.accounts import Accounts
from services.adapters.passwords import Passwords
from services.cli import app
from services.core.access import Role
from tests.support.accounts import CHEAP, PASSWORD

RUNNER = CliRunner()


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = f"sqlite:///{tmp_path / 'accounts.db'}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTLINE_ACCOUNTS__URL", made)
    monkeypatch.setenv("SIGHTLINE_ACTOR", "root")
    monkeypatch.setattr("services.adapters.accounts.Passwords", lambda: Passwords(CHEAP))
    return made


def opened(url: str) -> Accounts:
    return Accounts(url)


def test_the_first_admin_is_added_and_may_sign_in(url: str) -> None:
    answer = RUNNER.invoke(app, ["users", "add", "Ada", "--role", "admin"], input=f"{PASSWORD}\n")
    assert (answer.exit_code, answer.stdout) == (0, "Ada may sign in as admin\n")
    accounts = opened(url)
    found = accounts.sign_in("Ada", PASSWORD)
    assert found is not None
    assert found[1].person.role is Role.ADMIN
    [entry] = accounts.entries()
    assert (entry.who, entry.action, entry.target, entry.address) == (
        "root",
        "add_user",
        "Ada role=admin",
        "command line",
    )
    accounts.close()


def test_a_password_that_is_too_short_adds_nobody(url: str) -> None:
    answer = RUNNER.invoke(app, ["users", "add", "Ada"], input="short\n")
    assert answer.exit_code != 0
    assert "at least 12 characters" in str(answer.exception)
    assert opened(url).users() == ()


def test_no_argument_takes_a_password() -> None:
    for command in ("add", "set-password"):
        assert "--password" not in RUNNER.invoke(app, ["users", command, "--help"]).stdout


def test_somebody_is_turned_away_and_let_in_again_and_everything_is_listed(url: str) -> None:
    for name in ("Ada", "[bold]Bob"):
        RUNNER.invoke(app, ["users", "add", name, "--role", "admin"], input=f"{PASSWORD}\n")
    for arguments in (["disable", "Ada"], ["set-role", "Ada", "engineer"], ["enable", "ada"]):
        assert RUNNER.invoke(app, ["users", *arguments]).exit_code == 0
    assert RUNNER.invoke(app, ["users", "set-password", "Ada"], input="another password\n").exit_code == 0
    listed = json.loads(RUNNER.invoke(app, ["users", "list", "--json"]).stdout)
    assert [(one["name"], one["role"], one["disabled"]) for one in listed] == [
        ("[bold]Bob", "admin", False),
        ("Ada", "engineer", False),
    ]
    assert "[bold]Bob" in RUNNER.invoke(app, ["users", "list"]).stdout
    assert opened(url).sign_in("Ada", "another password") is not None


def test_the_last_admin_is_not_turned_away(url: str) -> None:
    RUNNER.invoke(app, ["users", "add", "Ada", "--role", "admin"], input=f"{PASSWORD}\n")
    answer = RUNNER.invoke(app, ["users", "disable", "Ada"])
    assert "the last admin" in str(answer.exception)
