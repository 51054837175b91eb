"""What the accounts promise, on SQLite in memory and on disk, and on PostgreSQL: names, sessions, and the audit log."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.accounts import Accounts, AuditEntry
from services.core.access import Role
from services.core.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from tests.support.accounts import PASSWORD, Clock, add_everybody, make_accounts


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(database_url: str, clock: Clock) -> Iterator[Accounts]:
    made = make_accounts(clock, database_url)
    add_everybody(made)
    yield made
    made.close()


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.integration)])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that several may open."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'accounts.db'}"


def token_of(accounts: Accounts, name: str = "Olga") -> str:
    found = accounts.sign_in(name, PASSWORD)
    assert found is not None
    return found[0]


# ---- users


def test_a_name_is_taken_once_however_it_is_written(accounts: Accounts) -> None:
    for name in ("Olga", "OLGA", "\uff2flga"):
        with pytest.raises(ConflictError, match="must belong to one person"):
            accounts.add(name, Role.ADMIN, PASSWORD)
    assert [user.name for user in accounts.users()] == ["Ada", "Emil", "Olga"]


@pytest.mark.parametrize("name", ["' OR 1=1 --", "<script>alert(1)</script>", "\u540d\u524d", "a" * 64])
def test_hostile_names_are_only_names(accounts: Accounts, name: str) -> None:
    accounts.add(name, Role.OPERATOR, PASSWORD)
    session = accounts.session(token_of(accounts, name))
    assert session is not None
    assert session.person.name == name


@pytest.mark.parametrize("name", ["", "\0", "\ud800", "a" * 100_000, "olga\0", "%", "_lga"])
def test_names_that_nobody_has_are_nobody(accounts: Accounts, name: str) -> None:
    assert accounts.sign_in(name, PASSWORD) is None
    with pytest.raises(NotFoundError):
        accounts.change(name, disabled=True)


def test_the_last_admin_stays(accounts: Accounts) -> None:
    for change in ({"role": Role.ENGINEER}, {"disabled": True}):
        with pytest.raises(ConflictError, match="the last admin"):
            accounts.change("Ada", **change)  # type: ignore[arg-type]
    assert accounts.find("Ada").role is Role.ADMIN
    accounts.change("Emil", role=Role.ADMIN)
    accounts.change("Ada", disabled=True)
    assert accounts.find("ada").disabled


# ---- sessions


def test_a_session_knows_who_and_until_when(accounts: Accounts, clock: Clock) -> None:
    found = accounts.sign_in("OLGA", PASSWORD)
    assert found is not None
    token, session = found
    assert (session.person.name, session.person.role) == ("Olga", Role.OPERATOR)
    assert session.expires_at_ns == clock.now_ns + 1_800_000_000_000
    assert accounts.session(token) == session
    assert len(token) >= 43
    for wrong in ("", token[:-1], token.upper(), "\ud800", "x" * 10_000):
        assert accounts.session(wrong) is None


def test_a_session_without_use_ends_and_one_in_use_goes_on(accounts: Accounts, clock: Clock) -> None:
    left, used = token_of(accounts), token_of(accounts)
    for _ in range(4):
        clock.pass_s(600)
        accounts.session(used, used=True)
        accounts.session(left)
    assert accounts.session(used) is not None
    assert accounts.session(left) is None


def test_a_session_ends_after_its_longest_time_however_it_is_used(accounts: Accounts, clock: Clock) -> None:
    token = token_of(accounts)
    for _ in range(43_200 // 600 - 1):
        clock.pass_s(600)
        assert accounts.session(token, used=True) is not None
    clock.pass_s(600)
    assert accounts.session(token, used=True) is None


def test_a_session_is_over_after_sign_out_and_others_are_not(accounts: Accounts) -> None:
    one, other = token_of(accounts), token_of(accounts)
    accounts.end(one)
    accounts.end(one)
    assert accounts.session(one) is None
    assert accounts.session(other) is not None


@pytest.mark.parametrize("change", [{"role": Role.ENGINEER}, {"disabled": True}, {"password": "another password"}])
def test_sessions_end_with_whatever_they_rested_on(accounts: Accounts, change: dict[str, object]) -> None:
    token, other = token_of(accounts), token_of(accounts, "Emil")
    accounts.change("Olga", **change)  # type: ignore[arg-type]
    assert accounts.session(token) is None
    assert accounts.session(other) is not None


def test_whoever_was_turned_away_stays_out_until_let_in_again(accounts: Accounts) -> None:
    accounts.change("Olga", disabled=True)
    assert accounts.sign_in("Olga", PASSWORD) is None
    accounts.change("Olga", disabled=False)
    assert accounts.sign_in("Olga", PASSWORD) is not None


def test_a_password_is_changed_by_whoever_knows_the_old_one(accounts: Accounts) -> None:
    with pytest.raises(ForbiddenError, match="the present password must be right"):
        accounts.change_own_password("Olga", "some wrong password", "another password")
    with pytest.raises(InvalidInputError, match="at least 12"):
        accounts.change_own_password("Olga", PASSWORD, "short")
    accounts.change_own_password("Olga", PASSWORD, "another password")
    assert accounts.sign_in("Olga", PASSWORD) is None
    assert accounts.sign_in("Olga", "another password") is not None


def test_somebody_from_elsewhere_keeps_the_name_and_gets_the_role_anew(accounts: Accounts) -> None:
    found = accounts.sign_in_subject("https://id|7", "Ida", Role.OPERATOR)
    assert found is not None
    again = accounts.sign_in_subject("https://id|7", "Ida Renamed", Role.ENGINEER)
    assert again is not None
    assert (again[1].person.name, again[1].person.role, again[1].is_local) == ("Ida", Role.ENGINEER, False)
    assert accounts.session(found[0]) is None
    accounts.change("Ida", disabled=True)
    assert accounts.sign_in_subject("https://id|7", "Ida", Role.ENGINEER) is None


def test_somebody_from_elsewhere_cannot_take_a_name_or_be_given_a_password(accounts: Accounts) -> None:
    with pytest.raises(ConflictError, match="must belong to one person"):
        accounts.sign_in_subject("https://id|8", "olga", Role.ADMIN)
    accounts.sign_in_subject("https://id|8", "Ida", Role.OPERATOR)
    for change in ({"password": PASSWORD}, {"role": Role.ADMIN}):
        with pytest.raises(InvalidInputError, match="only a local user"):
            accounts.change("Ida", **change)  # type: ignore[arg-type]
    assert accounts.sign_in("Ida", "") is None


def test_two_replicas_agree_at_once(shared_url: str, clock: Clock) -> None:
    one, other = make_accounts(clock, shared_url), make_accounts(clock, shared_url)
    add_everybody(one)
    token = token_of(one)
    assert other.session(token) is not None
    other.end(token)
    assert one.session(token) is None
    one.close()
    other.close()


def test_many_threads_at_once_are_served(shared_url: str) -> None:
    accounts = make_accounts(url=shared_url)
    add_everybody(accounts)
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(token_of(accounts))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({token for token in tokens if accounts.session(token)}) == 8
    accounts.close()


@pytest.mark.parametrize("subject", ["", "https://id|\0", "https://id|\ud800", "x" * 601])
def test_a_subject_that_no_database_keeps_is_refused(accounts: Accounts, subject: str) -> None:
    with pytest.raises(InvalidInputError, match="a subject must have 1 to 600 printable characters"):
        accounts.sign_in_subject(subject, "Ida", Role.OPERATOR)
    assert accounts.sign_in_subject("x" * 600, "Ida", Role.OPERATOR) is not None


def test_people_are_listed_in_the_same_order_whatever_the_database(accounts: Accounts) -> None:
    for name in ("\u00c5sa", "zoe", "Zo\u00eb B", "_x", "b-a", "b_b", "ba"):
        accounts.add(name, Role.OPERATOR, PASSWORD)
    listed = [user.name for user in accounts.users()]
    assert listed == ["_x", "Ada", "b-a", "b_b", "ba", "Emil", "Olga", "zoe", "Zo\u00eb B", "\u00c5sa"]


# ---- audit


def entry(clock: Clock, target: str = "") -> AuditEntry:
    return AuditEntry(clock.now_ns, "Ada", "admin", "review", target, "10.0.0.9", "done")


def test_entries_are_read_page_by_page_the_newest_first(accounts: Accounts, clock: Clock) -> None:
    for number in range(5):
        accounts.append(entry(clock, str(number)))
    first = accounts.entries(limit=2)
    second = accounts.entries(before=first[-1].entry_id, limit=10)
    assert [one.target for one in (*first, *second)] == ["4", "3", "2", "1", "0"]


def test_hostile_text_is_kept_bounded(accounts: Accounts, clock: Clock) -> None:
    for text in ("\0" * 10, "\ud800", "x" * 100_000, "'); DROP TABLE audit; --"):
        accounts.append(entry(clock, text))
    assert [len(one.target) for one in accounts.entries()] == [24, 200, 1, 10]


def test_what_is_over_or_too_old_is_swept(accounts: Accounts, clock: Clock) -> None:
    accounts.append(entry(clock, "old"))
    token_of(accounts)
    clock.pass_s(399 * 86_400)
    kept = token_of(accounts)
    accounts.append(entry(clock, "new"))
    accounts.sweep()
    assert [one.target for one in accounts.entries()] == ["new", "old"]
    assert accounts.session(kept) is not None
    clock.pass_s(2 * 86_400)
    accounts.sweep()
    assert [one.target for one in accounts.entries()] == ["new"]
    assert accounts.session(kept) is None
