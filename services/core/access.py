"""Who may do what: the roles, the one table of their permissions, and the rules of names and passwords."""

from __future__ import annotations

import enum
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from services.core.errors import ForbiddenError, InvalidInputError
from services.core.review import validate_reviewer

#: Shortest password, in characters.
MIN_PASSWORD_LENGTH: Final = 12
#: Longest password, in bytes of UTF-8.
MAX_PASSWORD_BYTES: Final = 1_024


class Role(enum.Enum):
    """What somebody is at the line; each may do all that the one before may."""

    OPERATOR = "operator"
    ENGINEER = "engineer"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Orders roles; the higher may do more."""
        return _RANKS[self]

    def may(self, permission: Permission) -> bool:
        """Tell whether the role has a permission."""
        return self.rank >= LOWEST_ROLE[permission].rank


class Permission(enum.Enum):
    """Something that not everybody may do."""

    SEE = "see"
    """Everything that the pages show: parts, cases, pictures, reviews, statistics, models."""
    ANSWER = "answer"
    """Claim and answer cases, and take one's own answers back."""
    ACKNOWLEDGE = "acknowledge"
    """Acknowledge a line's alarms, and begin its check with reference parts."""
    EXPLAIN = "explain"
    """Have a map made."""
    UNDO_OTHERS = "undo_others"
    """Take somebody else's answer back."""
    BULK = "bulk"
    """Answer many cases at once."""
    EXPORT = "export"
    """Carry cases, pictures and reviews away."""
    TRAIN = "train"
    """Start and end training runs, and change which model version decides."""
    USERS = "users"
    """Add people, change their roles, turn them away."""
    AUDIT = "audit"
    """Read who did what."""


_RANKS: Final = {role: rank for rank, role in enumerate(Role)}

#: The lowest role that has a permission. Whatever is not here, nobody may.
LOWEST_ROLE: Final[Mapping[Permission, Role]] = MappingProxyType(
    {
        Permission.SEE: Role.OPERATOR,
        Permission.ANSWER: Role.OPERATOR,
        Permission.ACKNOWLEDGE: Role.OPERATOR,
        Permission.EXPLAIN: Role.OPERATOR,
        Permission.UNDO_OTHERS: Role.ENGINEER,
        Permission.BULK: Role.ENGINEER,
        Permission.EXPORT: Role.ENGINEER,
        Permission.TRAIN: Role.ENGINEER,
        Permission.USERS: Role.ADMIN,
        Permission.AUDIT: Role.ADMIN,
    }
)


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever is signed in."""

    name: str
    role: Role

    def require(self, permission: Permission) -> None:
        """Refuse what this person may not do.

        Raises:
            ForbiddenError: With what is missing.
        """
        if not self.role.may(permission):
            raise ForbiddenError(
                f"this needs the role {LOWEST_ROLE[permission].value} or a higher one, got {self.role.value}"
            )


def validate_name(value: str) -> str:
    """Let a person's name through only if it may stand beside an answer.

    Raises:
        InvalidInputError: If it is anything else, with the rule.
    """
    if value in (".", ".."):
        # No address can name them.
        raise InvalidInputError(f"a name must be more than dots, got {value!r}")
    try:
        return validate_reviewer(value)
    except InvalidInputError as error:
        raise InvalidInputError(str(error).replace("reviewer", "a name", 1)) from None


def name_key(name: str) -> str:
    """What two names share that a person would take for the same one: width and case do not tell people apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def password_bytes(password: str) -> bytes:
    """What is hashed of a password: two keyboards may compose the same letter differently.

    Raises:
        InvalidInputError: If it is no text, or longer than is hashed. Says nothing of what is in it.
    """
    try:
        given = unicodedata.normalize("NFKC", password).encode()
    except (UnicodeEncodeError, TypeError):
        raise InvalidInputError("a password must be text, got something else") from None
    if len(given) > MAX_PASSWORD_BYTES:
        raise InvalidInputError(f"a password must have at most {MAX_PASSWORD_BYTES} bytes, got more")
    return given


def check_new_password(password: str) -> None:
    """Refuse a password that is too easily guessed; what it is made of is free.

    Raises:
        InvalidInputError: With the rule. Says nothing of what is in it.
    """
    password_bytes(password)
    if len(password) < MIN_PASSWORD_LENGTH:
        raise InvalidInputError(f"a password must have at least {MIN_PASSWORD_LENGTH} characters, got fewer")
    if len(set(password)) == 1:
        raise InvalidInputError("a password must be more than one character repeated, got only that")
