"""The access table against the application's own routes, each tried by everybody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from services.core.access import LOWEST_ROLE, Permission, Role
from services.dashboard.access_table import RULES, Rule, is_guarded, rule_for, target_of
from tests.unit.dashboard.reviewing import REVIEW_ID, UNKNOWN
from tests.unit.dashboard.signing import OWN, SignedSite

PAGES = {"/", "/parts/{frame_id}", "/review", "/review/{case_id}", "/lines", "/line/{line}", "/{name}"}
FILLED = {
    "review_id": REVIEW_ID,
    "method": "rise",
    "name:path": "Olga",
    "alias": "default",
    "version": "1",
    "revision": "1",
    "run_id": UNKNOWN,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedSite]:
    made = SignedSite(tmp_path_factory.mktemp("static"))
    yield made
    made.close()


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path template that the application answers, its catch-all for what is unknown aside."""
    found = []
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if path != "/api/{rest:path}":
            found += [(method, path) for method in route.methods or {"GET"}]
    return found


def filled(path: str) -> str:
    """An address that fits a template."""
    parts = path.split("{")
    return parts[0] + "".join(
        FILLED.get(name, UNKNOWN) + rest for name, _, rest in (part.partition("}") for part in parts[1:])
    )


def test_every_route_under_api_has_an_entry_of_its_own_kind(site: SignedSite) -> None:
    routes = routes_of(site.app)
    assert len([path for _, path in routes if is_guarded(path)]) > 25
    for method, path in routes:
        if is_guarded(path) and method != "HEAD":
            rule = rule_for(method, filled(path))
            assert rule is not None, f"{method} {path} must have an entry in the access table"
            assert rule.pattern.match(filled(path))


def test_what_lies_outside_of_api_is_the_page_alone(site: SignedSite) -> None:
    outside = {path for _, path in routes_of(site.app) if not is_guarded(path)}
    static = {path for path in outside if path.startswith("/assets")}
    for path in outside - static:
        answer = site.browser().client.get(filled(path))
        assert answer.headers["content-type"].startswith("text/html"), path
    assert outside >= PAGES


def test_no_entry_is_there_twice() -> None:
    assert len({(rule.method, rule.path) for rule in RULES}) == len(RULES)


def test_only_the_session_and_the_way_to_it_are_open() -> None:
    assert {(rule.method, rule.path.removeprefix("/api/v1")) for rule in RULES if rule.permission is None} == {
        ("GET", "/session"),
        ("POST", "/session"),
        ("POST", "/session/end"),
        ("GET", "/sign-in/oidc"),
        ("GET", "/sign-in/oidc/callback"),
    }


def test_every_change_is_audited_but_for_claims_and_what_audits_itself() -> None:
    silent = {rule.path.removeprefix("/api/v1") for rule in RULES if rule.method != "GET" and not rule.audit}
    assert silent == {"/session", "/session/end", "/cases/{case_id}/claim", "/cases/{case_id}/release"}


def test_the_strictest_of_several_entries_counts() -> None:
    rule = rule_for("POST", "/api/v1/reviews/bulk")
    assert rule is not None
    assert rule.permission is Permission.BULK
    assert rule_for("HEAD", "/api/v1/wall") == rule_for("GET", "/api/v1/wall")
    for method, path in (("DELETE", "/api/v1/wall"), ("GET", "/api/v1/"), ("GET", "/api/v2/wall"), ("", "")):
        assert rule_for(method, path) is None


def test_an_entry_says_what_a_request_is_about() -> None:
    rule = rule_for("GET", f"/api/v1/cases/{UNKNOWN}/reviews/{REVIEW_ID}/mask.png")
    assert rule is not None
    assert target_of(rule, f"/api/v1/cases/{UNKNOWN}/reviews/{REVIEW_ID}/mask.png") == f"{UNKNOWN} {REVIEW_ID}"


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.permission], ids=lambda rule: f"{rule.method} {rule.path}"
)
def test_an_address_lets_in_whom_the_table_lets_in(site: SignedSite, rule: Rule) -> None:
    assert rule.permission is not None
    lowest = LOWEST_ROLE[rule.permission]
    for role, name in ((None, None), (Role.OPERATOR, "Olga"), (Role.ENGINEER, "Emil"), (Role.ADMIN, "Ada")):
        browser = site.browser()
        if name is not None:
            # Without the wait of a sign-in, and anew for each: some of these end their own session.
            found = site.accounts.sign_in(name, "correct horse battery")
            assert found is not None
            browser.client.cookies.set("__Host-sightline", found[0])
        if rule.path.endswith("/stream"):
            continue
        path = filled(rule.path)
        json = None if rule.method == "GET" else {}
        answer = browser.client.request(rule.method, path, json=json, headers=OWN)
        reason = answer.json().get("error", {}).get("reason") if "json" in answer.headers["content-type"] else None
        if role is None:
            assert (answer.status_code, reason) == (401, "signed_out")
        elif role.rank < lowest.rank:
            assert (answer.status_code, reason) == (403, "forbidden")
        else:
            assert answer.status_code not in (401, 403), answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/nothing",
        "/api/v1/wall/",
        "/api/v1//wall",
        "/api/%2e",
    ],
)
def test_what_is_in_no_table_is_closed(site: SignedSite, path: str) -> None:
    assert site.browser().client.get(path).status_code == 401
    assert site.browser("Ada").client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/API/v1/wall", "//api/v1/wall", "/x/../api/v1/wall", "/%61pi/v1/wall", "/api%2fv1/wall"]
)
def test_no_other_spelling_comes_around_the_guard(site: SignedSite, path: str) -> None:
    answer = site.browser().client.get(path)
    assert answer.status_code in (401, 404)
    assert "lines" not in answer.text


def test_a_stream_is_for_whoever_is_signed_in(site: SignedSite) -> None:
    assert site.browser().get("/stream").status_code == 401
