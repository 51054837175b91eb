from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.core.access import (
    LOWEST_ROLE,
    MAX_PASSWORD_BYTES,
    Permission,
    Person,
    Role,
    check_new_password,
    name_key,
    password_bytes,
    validate_name,
)
from services.core.errors import ForbiddenError, InvalidInputError


def test_every_permission_has_a_lowest_role() -> None:
    assert set(LOWEST_ROLE) == set(Permission)


def test_a_higher_role_may_all_that_a_lower_one_may() -> None:
    for permission in Permission:
        allowed = [role.may(permission) for role in (Role.OPERATOR, Role.ENGINEER, Role.ADMIN)]
        assert allowed == sorted(allowed)
        assert Role.ADMIN.may(permission)


def test_an_operator_sees_answers_acknowledges_and_explains_and_no_more() -> None:
    may = {permission for permission in Permission if Role.OPERATOR.may(permission)}
    assert may == {Permission.SEE, Permission.ANSWER, Permission.ACKNOWLEDGE, Permission.EXPLAIN}
    assert not Role.ENGINEER.may(Permission.USERS)
    assert not Role.ENGINEER.may(Permission.AUDIT)


def test_what_is_missing_is_said() -> None:
    Person("Emil", Role.ENGINEER).require(Permission.EXPORT)
    with pytest.raises(ForbiddenError, match="needs the role admin or a higher one, got engineer"):
        Person("Emil", Role.ENGINEER).require(Permission.USERS)


@pytest.mark.parametrize(
    "pair", [("Ada", "ADA"), ("Stra\u00dfe", "STRASSE"), ("\uff21da", "ada"), ("e\u0301", "\u00e9")]
)
def test_names_that_look_alike_are_one(pair: tuple[str, str]) -> None:
    assert name_key(pair[0]) == name_key(pair[1])


@pytest.mark.parametrize("name", ["", " ", " Ada", "Ada\n", "a" * 65, "A\u202eda", "A\x00", "\ud800"])
def test_a_name_that_no_answer_may_carry_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="a name must"):
        validate_name(name)


def test_a_password_is_long_and_otherwise_free() -> None:
    check_new_password("aaaa bbbb cc")
    check_new_password("\U0001f9a9" + "x" * 11)
    for short in ("", "eleven char", "a" * 40):
        with pytest.raises(InvalidInputError, match="a password must"):
            check_new_password(short)
    with pytest.raises(InvalidInputError, match="at most 1024 bytes, got more"):
        check_new_password("ab" * MAX_PASSWORD_BYTES)
    with pytest.raises(InvalidInputError, match="must be text"):
        check_new_password("\ud800" * 20)


def test_the_same_letters_are_the_same_password_however_they_are_composed() -> None:
    assert password_bytes("cafe\u0301 cafe\u0301") == password_bytes("caf\u00e9 caf\u00e9")


def test_a_refused_password_is_not_repeated() -> None:
    with pytest.raises(InvalidInputError) as refused:
        check_new_password("secretsauce")
    assert "secret" not in str(refused.value)


def test_the_table_of_the_documentation_is_the_one_of_the_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "signing-in.md").read_text()
    rows = re.findall(r"^\| `(\w+)`: [^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$", page, re.MULTILINE)
    told = {name: [cell.strip() == "yes" for cell in cells] for name, *cells in rows}
    assert told == {one.value: [role.may(one) for role in Role] for one in Permission}
