"""Signing in and out, what a session opens, and what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.access import Role
from services.core.errors import ForbiddenError, UnavailableError
from services.dashboard.__main__ import open_accounts
from services.dashboard.routes.sessions import safe_path
from services.dashboard.settings import DashboardSettings
from services.dashboard.signing import SigningIn
from services.runtime.lifecycle import Health, Shutdown
from tests.support.accounts import PASSWORD
from tests.unit.dashboard.reviewing import ANSWER, REVIEW_ID, UNDO_ID, UNKNOWN, reason
from tests.unit.dashboard.signing import OWN, SignedSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SignedSite]:
    made = SignedSite(tmp_path)
    yield made
    made.close()


# ---- in and out


def test_a_person_signs_in_and_sees_the_line(site: SignedSite) -> None:
    browser = site.browser()
    assert browser.get("/session").json() == {
        "sign_in": "local",
        "person": None,
        "expires_ms": None,
        "has_password": False,
        "may": [],
    }
    assert reason(browser.get("/wall")) == (401, "signed_out")
    answer = browser.sign_in("olga")
    assert answer.json()["person"] == {"name": "Olga", "role": "operator"}
    assert answer.json()["may"] == ["see", "answer", "acknowledge", "explain"]
    assert answer.json()["expires_ms"] == site.clock.now_ns // 1_000_000 + 1_800_000
    assert browser.get("/wall").status_code == 200
    assert browser.get("/session").json()["person"]["name"] == "Olga"


def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_plain_http(site: SignedSite) -> None:
    said = site.browser().sign_in("Olga").headers["set-cookie"]
    assert said.startswith("__Host-sightline=")
    for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part in said
    assert "Domain" not in said


def test_on_this_machine_plain_http_has_a_cookie_that_it_can_keep(tmp_path: Path) -> None:
    site = SignedSite(tmp_path, public_url="http://127.0.0.1:8080")
    said = site.browser(base_url="http://127.0.0.1:8080").sign_in("Olga").headers["set-cookie"]
    assert said.startswith("sightline=")
    assert "Secure" not in said
    assert "HttpOnly" in said
    site.close()


def test_what_is_said_of_a_session_is_kept_by_no_cache(site: SignedSite) -> None:
    browser = site.browser("Olga")
    answers = [browser.get("/session"), browser.sign_in("Olga"), browser.post("/session/end"), browser.get("/wall")]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


def test_a_session_is_of_no_use_after_sign_out(site: SignedSite) -> None:
    browser = site.browser("Olga")
    stolen = dict(browser.client.cookies)
    answer = browser.post("/session/end")
    assert answer.json()["person"] is None
    assert answer.headers["clear-site-data"] == '"cache"'
    assert dict(browser.client.cookies) == {}
    thief = site.browser(cookies=stolen)
    assert reason(thief.get("/wall")) == (401, "signed_out")
    assert thief.post("/session/end").status_code == 200


def test_a_browser_that_signs_in_anew_leaves_no_session_behind(site: SignedSite) -> None:
    browser = site.browser("Olga")
    before = dict(browser.client.cookies)
    browser.sign_in("Emil")
    assert site.browser(cookies=before).get("/wall").status_code == 401
    assert browser.get("/session").json()["person"]["name"] == "Emil"


def test_a_session_ends_by_itself_but_not_while_somebody_is_there(site: SignedSite) -> None:
    browser = site.browser("Olga")
    for _ in range(3):
        site.clock.pass_s(1_000)
        assert browser.get("/wall", headers={"X-Sightline-Active": "1"}).status_code == 200
    site.clock.pass_s(1_000)
    # What a page asks by itself is no sign of life.
    assert browser.get("/wall").status_code == 200
    site.clock.pass_s(1_000)
    assert reason(browser.get("/wall")) == (401, "signed_out")


@pytest.mark.parametrize("change", [{"role": Role.ADMIN}, {"disabled": True}, {"password": "another password"}])
def test_a_session_ends_with_a_change_of_its_owner(site: SignedSite, change: dict[str, Any]) -> None:
    browser = site.browser("Olga")
    site.accounts.change("Olga", **change)
    assert browser.get("/wall").status_code == 401


@pytest.mark.parametrize("token", ["", "x", "a" * 5_000, "%00", "../..", "' OR 1=1 --"])
def test_no_made_up_cookie_opens_anything(site: SignedSite, token: str) -> None:
    browser = site.browser()
    answer = browser.get("/wall", headers={"Cookie": f"__Host-sightline={token}"})
    assert answer.status_code == 401


def test_a_cookie_by_the_name_of_plain_http_opens_nothing_over_https(site: SignedSite) -> None:
    [token] = dict(site.browser("Olga").client.cookies).values()
    assert site.browser().get("/wall", headers={"Cookie": f"sightline={token}"}).status_code == 401


def test_an_unknown_name_and_a_wrong_password_are_told_apart_by_nobody(site: SignedSite) -> None:
    site.accounts.change("Emil", disabled=True)
    browser = site.browser()
    answers = [browser.sign_in("nobody"), browser.sign_in("Olga", "not the password"), browser.sign_in("Emil")]
    assert {reason(answer) for answer in answers} == {(401, "wrong_credentials")}
    assert len({answer.text for answer in answers}) == 1
    assert all("set-cookie" not in answer.headers for answer in answers)


@pytest.mark.parametrize("name", ["", "\0", "<script>", "a" * 1_000, "' OR 1=1 --", "\u202e", "%s"])
def test_hostile_names_sign_nobody_in(site: SignedSite, name: str) -> None:
    assert site.browser().sign_in(name).status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "Olga"},
        {"name": ["Olga"], "password": PASSWORD},
        {"name": "Olga", "password": "x" * 2_000},
        {"name": "Olga", "password": "\U0001f9a9" * 1_000},
        {"name": "Olga", "password": PASSWORD, "role": "admin"},
    ],
)
def test_what_is_no_sign_in_is_refused_without_repeating_it(site: SignedSite, body: dict[str, Any]) -> None:
    answer = site.browser().post("/session", body)
    assert reason(answer) == (422, "invalid_input")
    assert PASSWORD not in answer.text


# ---- guessing


def test_after_some_failures_a_name_must_wait_and_its_owner_no_longer_than_a_minute(site: SignedSite) -> None:
    browser = site.browser()
    for _ in range(5):
        assert browser.sign_in("Olga", "a wrong password").status_code == 401
    assert browser.sign_in("OLGA", "a wrong password").status_code == 429
    refused = browser.sign_in("Olga")
    assert reason(refused) == (429, "too_many_attempts")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert browser.sign_in("Emil").status_code == 200


def test_an_address_must_wait_whatever_names_it_tries(site: SignedSite) -> None:
    browser = site.browser()
    statuses = [browser.sign_in(f"name {number}").status_code for number in range(22)]
    assert statuses[:20] == [401] * 20
    assert statuses[20:] == [429, 429]


def test_a_password_is_not_guessed_through_its_change_either(site: SignedSite) -> None:
    browser = site.browser("Olga")
    for _ in range(5):
        answer = browser.post("/session/password", {"old": "a wrong password", "new": "another password"})
        assert reason(answer) == (403, "forbidden")
    assert browser.post("/session/password", {"old": PASSWORD, "new": "another password"}).status_code == 429


def test_a_changed_password_ends_all_other_sessions_and_begins_a_new_one(site: SignedSite) -> None:
    browser, other = site.browser("Olga"), site.browser("Olga")
    before = dict(browser.client.cookies)
    answer = browser.post("/session/password", {"old": PASSWORD, "new": "another password"})
    assert answer.json()["person"]["name"] == "Olga"
    assert browser.get("/wall").status_code == 200
    assert other.get("/wall").status_code == 401
    assert site.browser(cookies=before).get("/wall").status_code == 401
    assert browser.sign_in("Olga").status_code == 401


# ---- other pages


@pytest.mark.parametrize("path", ["/session", "/session/end", "/session/password", "/users", "/users/Olga"])
def test_another_page_can_neither_sign_in_nor_out(site: SignedSite, path: str) -> None:
    browser = site.browser("Ada")
    body = {"name": "Ada", "password": PASSWORD}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"X-Sightline": "0"}, {"Content-Type": "text/plain"}):
        assert reason(browser.post(path, body, headers)) == (403, "foreign_page"), headers
    assert browser.get("/session").json()["person"]["name"] == "Ada"


def test_the_guard_refuses_a_foreign_post_whatever_route_it_is_for(site: SignedSite) -> None:
    browser = site.browser("Ada")
    answer = browser.client.post("/api/v1/exports", content=b"{}")
    assert reason(answer) == (403, "foreign_page")


@pytest.mark.parametrize(
    ("back", "path"),
    [
        ("/review?line=a", "/review?line=a"),
        ("/parts/x#y", "/parts/x#y"),
        ("", "/"),
        ("review", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/%0d%0aSet-Cookie:x", "/%0d%0aSet-Cookie:x"),
        ("javascript:alert(1)", "/"),
        ("/api/v1/session", "/"),
        ("/" + "a" * 600, "/"),
        ("/\u202e", "/"),
    ],
)
def test_one_comes_back_to_a_path_of_this_page_only(back: str, path: str) -> None:
    assert safe_path(back) == path


# ---- reviews


def test_the_signed_in_name_stands_beside_an_answer(site: SignedSite) -> None:
    browser = site.browser("Olga")
    answer = {**ANSWER, "reviewer": "Olga"}
    unnamed = {name: value for name, value in answer.items() if name != "reviewer"}
    for body in (answer, unnamed):
        assert browser.post(f"/cases/{UNKNOWN}/reviews", body).status_code == 201
        assert site.feedback.asked[-1][1].reviewer == "Olga"
    assert browser.post(f"/cases/{UNKNOWN}/claim", {}).status_code == 200
    assert site.feedback.asked[-1][2] == "Olga"


@pytest.mark.parametrize("name", ["Emil", "olga", "Olga2", "\u041elga"])
def test_nobody_answers_under_another_name(site: SignedSite, name: str) -> None:
    browser = site.browser("Olga")
    posts = [
        (f"/cases/{UNKNOWN}/reviews", {**ANSWER, "reviewer": name}),
        (f"/cases/{UNKNOWN}/claim", {"reviewer": name}),
        (f"/cases/{UNKNOWN}/release", {"reviewer": name}),
        (f"/reviews/{REVIEW_ID}/undo", {"review_id": UNDO_ID, "reviewer": name}),
    ]
    for path, body in posts:
        assert reason(browser.post(path, body)) == (403, "other_person"), path
    assert site.feedback.asked == []


def test_an_operator_takes_back_their_own_and_an_engineer_anybody_s(site: SignedSite) -> None:
    for name, only_own in (("Olga", True), ("Emil", False), ("Ada", False)):
        assert site.browser(name).post(f"/reviews/{REVIEW_ID}/undo", {"review_id": UNDO_ID}).status_code == 201
        assert site.feedback.only_own is only_own
    site.feedback.error = ForbiddenError("only one's own answer may be taken back")
    answer = site.browser("Olga").post(f"/reviews/{REVIEW_ID}/undo", {"review_id": UNDO_ID})
    assert reason(answer) == (403, "forbidden")


def test_many_answers_at_once_are_those_of_whoever_is_signed_in(site: SignedSite) -> None:
    body = {"reviewer": "Ada", "action": "skip", "answers": [{"review_id": REVIEW_ID, "case_id": UNKNOWN}]}
    engineer = site.browser("Emil")
    assert reason(engineer.post("/reviews/bulk", body)) == (403, "other_person")
    assert site.feedback.asked == []
    assert engineer.post("/reviews/bulk", {**body, "reviewer": "Emil"}).status_code == 200
    assert site.feedback.asked[-1][1].reviewer == "Emil"
    assert site.audited()[-1] == ("Emil", "bulk_review", "skip of 1 cases", "done")
    assert reason(site.browser("Olga").post("/reviews/bulk", {**body, "reviewer": "Olga"})) == (403, "forbidden")


# ---- users


def test_an_admin_adds_somebody_and_turns_somebody_away(site: SignedSite) -> None:
    admin = site.browser("Ada")
    name = "Bo/b <b>"
    body = {"name": name, "role": "engineer", "password": "another password"}
    assert admin.post("/users", body).status_code == 201
    assert reason(admin.post("/users", {**body, "name": name.upper()})) == (409, "conflict")
    bob = site.browser()
    assert bob.sign_in(name, "another password").status_code == 200
    path = "/users/Bo%2Fb%20%3Cb%3E"
    assert admin.post(path, {"role": "operator"}).json()["role"] == "operator"
    assert bob.get("/wall").status_code == 401
    assert admin.post(path, {"disabled": True}).json()["disabled"] is True
    assert bob.sign_in(name, "another password").status_code == 401
    listed = {one["name"]: one for one in admin.get("/users").json()["users"]}
    assert listed[name] == listed[name] | {"role": "operator", "disabled": True, "is_local": True}
    assert "password" not in admin.get("/users").text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/users", {"name": "Bob", "role": "king", "password": PASSWORD}, 422),
        ("/users", {"name": " Bob", "role": "operator", "password": PASSWORD}, 422),
        ("/users", {"name": "..", "role": "operator", "password": PASSWORD}, 422),
        ("/users", {"name": "Bob", "role": "operator", "password": "short"}, 422),
        ("/users/nobody", {"disabled": True}, 404),
        ("/users/%00", {"disabled": True}, 404),
        ("/users/Ada", {"disabled": True}, 409),
        ("/users/Ada", {"role": "operator"}, 409),
        ("/users/Ada", {"name": "Eve"}, 422),
    ],
)
def test_what_an_admin_may_not_do_is_said(site: SignedSite, path: str, body: dict[str, Any], status: int) -> None:
    answer = site.browser("Ada").post(path, body)
    assert answer.status_code == status
    assert "short" not in answer.text or "must" in answer.text
    assert site.browser("Ada").get("/users").status_code == 200


# ---- written down


def test_every_change_is_written_down_with_who_and_what(site: SignedSite) -> None:
    olga, ada = site.browser("Olga"), site.browser("Ada")
    olga.post(f"/cases/{UNKNOWN}/claim", {})
    olga.post(f"/cases/{UNKNOWN}/reviews", {**ANSWER, "reviewer": "Olga"})
    olga.post(f"/reviews/{REVIEW_ID}/undo", {"review_id": UNDO_ID})
    olga.get("/users")
    ada.post("/users", {"name": "Bob", "role": "operator", "password": "another password"})
    ada.post("/users/Bob", {"password": "a third password", "disabled": True})
    olga.post("/session/end")
    site.browser().sign_in("Olga", "a wrong password")
    site.browser().sign_in("my password typed as a name")
    assert site.audited() == [
        ("Olga", "sign_in", "", "done"),
        ("Ada", "sign_in", "", "done"),
        ("Olga", "review", UNKNOWN, "done"),
        ("Olga", "undo", REVIEW_ID, "done"),
        ("Olga", "refused", "GET /api/v1/users", "refused"),
        ("Ada", "add_user", "Bob role=operator", "done"),
        ("Ada", "change_user", "Bob disabled=true new password", "done"),
        ("Olga", "sign_out", "", "done"),
        ("", "sign_in", "Olga", "refused"),
        ("", "sign_in", "", "refused"),
    ]


def test_the_log_says_the_same_and_no_secret(site: SignedSite, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        browser = site.browser("Ada")
        browser.post("/users", {"name": "Bob", "role": "operator", "password": "another password"})
        browser.post("/session/password", {"old": PASSWORD, "new": "a third password"})
        site.browser().sign_in("Ada", "a wrong password")
    lines = [record.__dict__["audit"] for record in caplog.records if "audit" in record.__dict__]
    assert [(line["who"], line["action"], line["outcome"]) for line in lines] == [
        ("Ada", "sign_in", "done"),
        ("Ada", "add_user", "done"),
        ("Ada", "change_password", "done"),
        ("", "sign_in", "refused"),
    ]
    told = " ".join(str(record.__dict__) for record in caplog.records)
    secrets = [PASSWORD, "another password", "a third password", "a wrong password", *browser.client.cookies.values()]
    assert [secret for secret in secrets if secret in told] == []


def test_what_fails_is_written_down_as_failed(site: SignedSite) -> None:
    site.feedback.error = UnavailableError("away")
    browser = site.browser("Olga")
    assert browser.post(f"/cases/{UNKNOWN}/reviews", {**ANSWER, "reviewer": "Olga"}).status_code == 503
    assert site.audited()[-1] == ("Olga", "review", UNKNOWN, "failed")


def test_the_audit_log_is_read_page_by_page(site: SignedSite) -> None:
    admin = site.browser("Ada")
    for number in range(5):
        site.browser().sign_in(f"x{number}")
    first = admin.get("/audit?limit=4").json()
    second = admin.get(f"/audit?limit=4&after={first['next']}").json()
    assert [one["action"] for one in first["entries"] + second["entries"]] == ["sign_in"] * 6
    assert second["next"] is None
    assert first["entries"][0]["address"] == "testclient"
    for bad in ("after=-1", "after=x", f"after={2**63}", "limit=0", "limit=201"):
        assert admin.get(f"/audit?{bad}").status_code == 422


@pytest.mark.parametrize(
    ("trusted", "told", "address"),
    [
        (0, "6.6.6.6", "testclient"),
        (1, "6.6.6.6, 10.0.0.7", "10.0.0.7"),
        (2, "6.6.6.6, 10.0.0.7, 10.0.0.8", "10.0.0.7"),
        (2, "10.0.0.7", "testclient"),
        (1, "", "testclient"),
        (1, "x" * 5_000, "x" * 64),
    ],
)
def test_an_address_is_what_trusted_proxies_say(tmp_path: Path, trusted: int, told: str, address: str) -> None:
    site = SignedSite(tmp_path, trusted_proxies=trusted)
    site.browser().sign_in("Olga", headers={"X-Forwarded-For": told})
    assert site.accounts.entries()[0].address == address
    site.close()


# ---- bad days


def test_nobody_is_let_in_while_the_accounts_are_away(site: SignedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = site.browser("Olga")

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("the accounts database must answer, got nothing")

    for name in ("session", "sign_in"):
        monkeypatch.setattr(site.accounts, name, away)
    assert reason(browser.get("/wall")) == (503, "unavailable")
    assert reason(site.browser().sign_in("Olga")) == (503, "unavailable")
    assert site.browser().client.get("/").status_code == 200


def test_an_answer_stands_when_it_cannot_be_written_down(site: SignedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = site.browser("Olga")

    def away(_: object) -> None:
        raise UnavailableError("away")

    monkeypatch.setattr(site.accounts, "append", away)
    assert browser.post(f"/cases/{UNKNOWN}/reviews", {**ANSWER, "reviewer": "Olga"}).status_code == 201


@pytest.mark.parametrize("ended", [True, False])
def test_a_stream_ends_with_the_session_that_asked_for_it(site: SignedSite, ended: bool) -> None:
    [token] = dict(site.browser("Olga").client.cookies).values()
    site.context.signing.recheck_s = 0.3
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 3 and ended:
            site.accounts.end(token)
        if len(sent) == 6 and not ended:
            site.context.stream.drain()

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/stream",
        "query_string": b"",
        "headers": [(b"host", b"wall.plant"), (b"cookie", f"__Host-sightline={token}".encode())],
        "client": ("10.0.0.9", 1),
    }

    async def follow() -> None:
        await asyncio.wait_for(site.app(scope, receive, send), 20)

    asyncio.run(follow())
    assert sent[0]["status"] == 200
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert any(b"event: bye" in message.get("body", b"") for message in sent) is not ended


@pytest.mark.parametrize("method", ["none", "local", "oidc"])
def test_the_service_opens_accounts_as_its_settings_say(tmp_path: Path, method: str) -> None:
    oidc = {"issuer": "https://id.example", "client_id": "x", "roles": {"leads": "engineer"}}
    settings = DashboardSettings(
        accounts={"url": f"sqlite:///{tmp_path / 'new' / 'accounts.db'}"},
        sign_in={"method": method, "public_url": "https://wall.plant", "oidc": oidc},
    )
    with contextlib.ExitStack() as stack:
        accounts, provider = open_accounts(settings, Health(), Shutdown(), stack)
        assert (accounts is not None, provider is not None) == (method != "none", method == "oidc")
        SigningIn(settings.sign_in, accounts, provider).close()


def test_headers_of_signing_in_are_those_of_every_answer(site: SignedSite) -> None:
    for answer in (site.browser().get("/wall"), site.browser().sign_in("x"), site.browser("Olga").get("/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert reason(site.browser("Olga").get("/nothing")) == (404, "not_found")
    assert site.browser().client.put("/api/v1/session", headers=OWN).status_code == 401
