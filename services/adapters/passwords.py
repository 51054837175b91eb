"""Hashed passwords: scrypt, with the cost beside each hash so that it can grow."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from services.core.access import password_bytes

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
# More than this is no hash that was made here, and would take the memory of everything else.
_MOST_MEMORY_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What one guess costs."""

    n: int = 2**15
    r: int = 8
    p: int = 3

    @property
    def memory_bytes(self) -> int:
        """What hashing takes while it runs."""
        return 128 * self.n * self.r + 128 * self.r * (self.p + 2)


#: One of the equal choices of OWASP's password storage cheat sheet: 32 MiB and 0.3 s on a small machine.
COST: Final = ScryptCost()


class Passwords:
    """Makes and checks hashes. Thread-safe; each call takes a third of a second, without holding other threads up."""

    def __init__(self, cost: ScryptCost = COST) -> None:
        """Set up.

        Args:
            cost: Of hashes that are made from now on.
        """
        self._cost = cost
        # Whoever is unknown is checked against this, so that the time says nothing.
        self._nobody = self.hash(secrets.token_urlsafe(32))

    def hash(self, password: str) -> str:
        """What is kept in place of a password."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return _written(self._cost, salt, _scrypt(password_bytes(password), salt, self._cost))

    def matches(self, password: str, kept: str) -> bool:
        """Tell whether a password is the one that a hash was made of; takes its time whatever is given.

        Args:
            password: As it was typed.
            kept: As :meth:`hash` gave it; empty where there is none.
        """
        parsed = _read(kept)
        cost, salt, expected = parsed or _read(self._nobody) or (self._cost, b"", b"")
        found = _scrypt(password_bytes(password), salt, cost)
        return hmac.compare_digest(found, expected) and parsed is not None

    def is_outdated(self, kept: str) -> bool:
        """Tell whether a hash was made at another cost than new ones are."""
        parsed = _read(kept)
        return parsed is None or parsed[0] != self._cost


def _scrypt(password: bytes, salt: bytes, cost: ScryptCost) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=2 * cost.memory_bytes, dklen=_HASH_BYTES
    )


def _written(cost: ScryptCost, salt: bytes, hashed: bytes) -> str:
    salt_text, hash_text = (base64.b64encode(one).decode() for one in (salt, hashed))
    return f"scrypt${cost.n}${cost.r}${cost.p}${salt_text}${hash_text}"


def _read(kept: str) -> tuple[ScryptCost, bytes, bytes] | None:
    """Take a hash apart; None for what is none."""
    try:
        kind, n, r, p, salt, hashed = kept.split("$")
        cost = ScryptCost(int(n), int(r), int(p))
        parts = (cost, base64.b64decode(salt, validate=True), base64.b64decode(hashed, validate=True))
    except (ValueError, binascii.Error):
        return None
    usable = kind == "scrypt" and min(cost.n, cost.r, cost.p) > 0 and cost.memory_bytes <= _MOST_MEMORY_BYTES
    return parts if usable and len(parts[2]) == _HASH_BYTES else None
