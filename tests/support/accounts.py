"""Accounts in memory whose passwords cost little, with a clock that a test sets."""

from __future__ import annotations

from services.adapters.accounts import Accounts, Lifetimes
from services.adapters.passwords import Passwords, ScryptCost
from services.core.access import Role

START_NS = 1_790_000_000_000_000_000
PASSWORD = "correct horse battery"
CHEAP = ScryptCost(n=16, r=1, p=1)


class Clock:
    """The present, as a test says."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * 1e9)


def make_accounts(clock: Clock | None = None, url: str = "sqlite://", **lifetimes: float) -> Accounts:
    """Accounts without anybody."""
    return Accounts(url, lifetimes=Lifetimes(**lifetimes), passwords=Passwords(CHEAP), clock_ns=clock or Clock())


def add_everybody(accounts: Accounts) -> None:
    """One person of each role, by the names Olga, Emil and Ada."""
    for name, role in (("Olga", Role.OPERATOR), ("Emil", Role.ENGINEER), ("Ada", Role.ADMIN)):
        accounts.add(name, role, PASSWORD)
