"""Who may ask for what: the one table of all addresses under ``/api``. What is not here nobody may ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from starlette.routing import compile_path

from services.core.access import LOWEST_ROLE, Permission


@dataclass(frozen=True, slots=True)
class Rule:
    """One address, or several that begin alike."""

    method: str
    path: str
    """As the router writes it."""
    permission: Permission | None
    """None: open to everybody, signed in or not."""
    audit: str = ""
    """What the audit log calls it; empty for what changes nothing."""
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", compile_path(self.path)[0])

    @property
    def cost(self) -> int:
        """How many requests it counts for, see :data:`COSTS`."""
        return COSTS.get((self.method, self.path.removeprefix(_V1)), 1)

    @property
    def strictness(self) -> int:
        """Orders rules by how few they let through."""
        return -1 if self.permission is None else LOWEST_ROLE[self.permission].rank


_V1: Final = "/api/v1"


def _get(path: str, permission: Permission | None = Permission.SEE) -> Rule:
    return Rule("GET", _V1 + path, permission)


def _post(path: str, permission: Permission | None, audit: str) -> Rule:
    return Rule("POST", _V1 + path, permission, audit)


RULES: Final[tuple[Rule, ...]] = (
    _get("/session", None),
    # These write their own lines: only they know who it was.
    _post("/session", None, ""),
    _post("/session/end", None, ""),
    _post("/session/password", Permission.SEE, "change_password"),
    _get("/sign-in/oidc", None),
    _get("/sign-in/oidc/callback", None),
    _get("/users", Permission.USERS),
    _post("/users", Permission.USERS, "add_user"),
    _post("/users/{name:path}", Permission.USERS, "change_user"),
    _get("/audit", Permission.AUDIT),
    # The line.
    _get("/openapi.json"),
    _get("/wall"),
    _get("/stream"),
    _get("/health"),
    _get("/parts/{frame_id}"),
    _get("/frames/{frame_id}/image"),
    _get("/frames/{frame_id}/thumbnail"),
    _get("/frames/{frame_id}/explanations/{method}.png"),
    _get("/frames/{frame_id}/explain", Permission.EXPLAIN),
    _get("/explanations/legend.png"),
    # Reviewing.
    _get("/queue"),
    _get("/queue/stats"),
    _get("/reviews"),
    _get("/cases/{case_id}"),
    _get("/cases/{case_id}/image"),
    _get("/cases/{case_id}/thumbnail"),
    _get("/cases/{case_id}/explanations/{method}.png"),
    _get("/cases/{case_id}/reviews/{review_id}/mask.png"),
    # A claim ends by itself and changes no answer.
    _post("/cases/{case_id}/claim", Permission.ANSWER, ""),
    _post("/cases/{case_id}/release", Permission.ANSWER, ""),
    _post("/cases/{case_id}/reviews", Permission.ANSWER, "review"),
    # Of somebody else's answer also UNDO_OTHERS, which the route asks for.
    _post("/reviews/{review_id}/undo", Permission.ANSWER, "undo"),
    _post("/reviews/bulk", Permission.BULK, "bulk_review"),
    # What resembles a case, and what of it comes into somebody's queue.
    _get("/cases/{case_id}/neighbours"),
    _post("/cases/{case_id}/neighbours", Permission.ANSWER, "queue_neighbours"),
    _get("/cases/{case_id}/neighbours/{neighbour_id}/image"),
    _get("/cases/{case_id}/neighbours/{neighbour_id}/thumbnail"),
    # Finding cases, figures, models.
    _get("/search"),
    _get("/statistics"),
    _get("/statistics.csv"),
    _get("/shifts"),
    _get("/changes"),
    _get("/changes/{alias}/{revision}"),
    _get("/models"),
    _get("/models/{alias}/{version}"),
    # Training.
    _get("/training"),
    _get("/training/runs"),
    _get("/training/notices"),
    _get("/training/runs/{run_id}"),
    _get("/training/runs/{run_id}/progress"),
    _post("/training/runs", Permission.TRAIN, "train"),
    _post("/training/runs/{run_id}/cancel", Permission.TRAIN, "cancel_training"),
    _post("/training/runs/{run_id}/resume", Permission.TRAIN, "resume_training"),
    _post("/training/aliases/{alias}/promote", Permission.TRAIN, "promote"),
    _post("/training/aliases/{alias}/rollback", Permission.TRAIN, "roll_back"),
    # The lines and their answers.
    _get("/lines"),
    _get("/lines/{line}/outcomes"),
    _get("/lines/{line}/events"),
    _get("/parts/{part_id}/outcome"),
    _post("/lines/{line}/alarms/{alarm_id}/acknowledge", Permission.ACKNOWLEDGE, "acknowledge_alarm"),
    _post("/lines/{line}/reference-check", Permission.ACKNOWLEDGE, "begin_reference_check"),
    # What is carried away is written down, although nothing changes.
    Rule("GET", f"{_V1}/exports", Permission.EXPORT, "export"),
    _post("/exports", Permission.EXPORT, "export"),
)


#: What takes a service, a processor or a disk more than a look-up, in look-ups.
COSTS: Final[Mapping[tuple[str, str], int]] = MappingProxyType(
    {
        # A password's hash takes 32 MiB and a third of a second.
        ("POST", "/session"): 20,
        ("POST", "/session/password"): 20,
        ("POST", "/users"): 20,
        ("POST", "/users/{name:path}"): 20,
        ("GET", "/frames/{frame_id}/explain"): 20,
        ("GET", "/cases/{case_id}/neighbours"): 10,
        ("POST", "/cases/{case_id}/neighbours"): 10,
        ("POST", "/reviews/bulk"): 20,
        ("GET", "/search"): 5,
        ("GET", "/statistics"): 5,
        ("GET", "/statistics.csv"): 5,
        ("GET", "/changes/{alias}/{revision}"): 5,
        ("GET", "/parts/{frame_id}"): 5,
        ("POST", "/training/runs"): 100,
        ("GET", "/exports"): 100,
        ("POST", "/exports"): 100,
    }
)


def is_guarded(path: str) -> bool:
    """Tell whether an address shows or changes anything; the page itself and its files do not."""
    return path == "/api" or path.startswith("/api/")


def rule_for(method: str, path: str) -> Rule | None:
    """Give the rule of a request.

    Args:
        method: HTTP method.
        path: As the router gets it.

    Returns:
        The strictest of the rules that fit, so that it does not matter which of them the router means; None where
        there is none.
    """
    asked = "GET" if method == "HEAD" else method
    found = [rule for rule in RULES if rule.method == asked and rule.pattern.match(path)]
    return max(found, key=lambda rule: rule.strictness, default=None)


def target_of(rule: Rule, path: str) -> str:
    """What a request is about: the changing parts of its address."""
    found = rule.pattern.match(path)
    return "" if found is None else " ".join(found.groups())
