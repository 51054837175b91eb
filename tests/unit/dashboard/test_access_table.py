"""The access table and the page on signing in against the application's own routes, each tried by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from services.core.access import Permission
from services.dashboard.access_table import RULES, is_guarded, rule_for, target_of
from tests.unit.dashboard.reviewing import REVIEW_ID, UNKNOWN
from tests.unit.dashboard.signing import OWN, SignedSite

SIGNING_IN = Path(__file__).parents[3] / "docs" / "signing-in.md"
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


WHO = ("nobody", "operator", "engineer", "admin")
NAMES = {"operator": "Olga", "engineer": "Emil", "admin": "Ada"}


def rows(first: str) -> list[dict[str, str]]:
    """The table of the page on signing in whose first column is called so, by the names of its columns."""
    lines = SIGNING_IN.read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first} |"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in takewhile(str.strip, lines[start:])]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def written_rules() -> list[tuple[str, str, str, frozenset[str]]]:
    """Method, address, permission and whom it lets in, as the page says."""
    return [
        (
            row["Method"],
            "/api/v1" + row["Address under `/api/v1`"].strip("`"),
            row["Needs"].strip("`—"),
            frozenset(who for who in WHO if row[who] == "yes"),
        )
        for row in rows("Method")
    ]


def test_the_page_lists_every_address_and_no_other() -> None:
    written = [(method, path) for method, path, _, _ in written_rules()]
    assert len(set(written)) == len(written)
    assert set(written) == {(rule.method, rule.path) for rule in RULES}


def test_the_page_says_the_same_of_a_permission_as_of_its_addresses() -> None:
    may = {row["May"].split("`")[1]: {who for who in WHO if row.get(who) == "yes"} for row in rows("May")}
    assert set(may) == {permission.value for permission in Permission}
    for method, path, needs, let_in in written_rules():
        assert let_in == (may[needs] if needs else set(WHO)), f"{method} {path}"


@pytest.mark.parametrize(("method", "path", "needs", "let_in"), written_rules())
def test_an_address_lets_in_exactly_whom_the_page_says(
    site: SignedSite, method: str, path: str, needs: str, let_in: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The live stream has no end; where it is full it says so, to whoever is let in.
    monkeypatch.setattr(site.context.stream, "open_streams", site.context.settings.web.max_streams)
    for who in WHO:
        browser = site.browser()
        if who in NAMES:
            # Without the wait of a sign-in, and anew for each: some of these end their own session.
            found = site.accounts.sign_in(NAMES[who], "correct horse battery")
            assert found is not None
            browser.client.cookies.set("__Host-sightline", found[0])
        answer = browser.client.request(method, filled(path), json=None if method == "GET" else {}, headers=OWN)
        reason = answer.json().get("error", {}).get("reason") if "json" in answer.headers["content-type"] else None
        if who in let_in:
            assert (answer.status_code, reason) not in ((401, "signed_out"), (403, "forbidden")), who
            assert not needs or answer.status_code not in (401, 403), answer.text
        else:
            assert (answer.status_code, reason) == ((401, "signed_out") if who == "nobody" else (403, "forbidden")), who


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_other_method_comes_to_anything_at_any_address(site: SignedSite, method: str) -> None:
    nobody, ada = site.browser(), site.browser("Ada")
    for path in {filled(rule.path) for rule in RULES}:
        assert nobody.client.request(method, path, headers=OWN).status_code == 401
        assert ada.client.request(method, path, headers=OWN).status_code in (404, 405)


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
