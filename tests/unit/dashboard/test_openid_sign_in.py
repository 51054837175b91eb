"""Signing in at a real OpenID provider on loopback, and everything that its answers may have wrong."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey

from services.adapters.openid import OpenIdClient, OpenIdProvider
from services.core.access import Role
from tests.support.openid import CLIENT_ID, CLIENT_SECRET, OpenIdServer
from tests.unit.dashboard.reviewing import reason
from tests.unit.dashboard.signing import Browser, SignedSite

PUBLIC = "https://wall.plant"
CALLBACK = f"{PUBLIC}/api/v1/sign-in/oidc/callback"
PEOPLE = itertools.count()
"""Nobody is the same person in two tests."""
PROVIDER = httpx.Client(follow_redirects=False)
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


@pytest.fixture(scope="module")
def running() -> Iterator[OpenIdServer]:
    server = OpenIdServer()
    yield server
    server.close()


@pytest.fixture
def server(running: OpenIdServer) -> OpenIdServer:
    """The provider as it was at first: making keys takes its time."""
    number = next(PEOPLE)
    running.claims = {"sub": str(number), "preferred_username": f"Ida {number}", "groups": ["leads", "others"]}
    running.changes, running.document, running.error, running.algorithm = {}, {}, "", "RS256"
    running.key = running.published[0]
    running.published = [running.key]
    running.asked, running.basic = [], []
    return running


def client(server: OpenIdServer, **changes: Any) -> OpenIdClient:
    values: dict[str, Any] = {
        "issuer": server.issuer,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uri": CALLBACK,
        "scopes": "openid profile",
        "name_claim": "preferred_username",
        "role_claim": "groups",
        "roles": {"leads": Role.ENGINEER, "watchers": Role.OPERATOR},
        "timeout_s": 5.0,
    }
    return OpenIdClient(**(values | changes))


def make_site(tmp_path: Path, server: OpenIdServer, **changes: Any) -> SignedSite:
    oidc = {"issuer": server.issuer, "client_id": CLIENT_ID, "roles": {"leads": "engineer"}}
    provider = OpenIdProvider(client(server, **changes))
    return SignedSite(tmp_path, provider, method="oidc", public_url=PUBLIC, oidc=oidc)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, running: OpenIdServer) -> Iterator[SignedSite]:
    made = make_site(tmp_path_factory.mktemp("static"), running)
    yield made
    made.close()


def go(browser: Browser, back: str = "/") -> httpx.Response:
    """Follow the whole way to the provider and back, as a browser does; gives the answer to the coming back."""
    sent = browser.get("/sign-in/oidc", params={"back": back})
    assert sent.status_code == 303
    at_provider = PROVIDER.get(sent.headers["location"])
    return browser.client.get(at_provider.headers["location"])


def refused_for(answer: httpx.Response) -> str:
    """Why somebody was sent back without a session."""
    assert answer.status_code == 303
    assert "sightline=" not in answer.headers.get("set-cookie", "").replace("sightline-oidc=", "")
    return parse_qs(urlsplit(answer.headers["location"]).query)["sign_in"][0]


def test_one_comes_back_signed_in_where_one_was(site: SignedSite, server: OpenIdServer) -> None:
    browser = site.browser()
    answer = go(browser, "/review?line=a")
    assert (answer.status_code, answer.headers["location"]) == (303, "/review?line=a")
    assert answer.headers["cache-control"] == "no-store"
    session = browser.get("/session").json()
    name = server.claims["preferred_username"]
    assert (session["person"], session["has_password"]) == ({"name": name, "role": "engineer"}, False)
    assert browser.get("/wall").status_code == 200
    assert server.asked[0]["code_verifier"]
    assert server.basic[0].startswith("Basic ")
    assert site.audited()[-1] == (name, "sign_in", "", "done")


def test_the_session_is_strict_and_what_comes_back_from_elsewhere_is_lax_and_gone(
    site: SignedSite, server: OpenIdServer
) -> None:
    browser = site.browser()
    sent = browser.get("/sign-in/oidc")
    assert "SameSite=lax" in sent.headers["set-cookie"]
    assert "HttpOnly" in sent.headers["set-cookie"]
    answer = browser.client.get(PROVIDER.get(sent.headers["location"]).headers["location"])
    cookies = answer.headers.get_list("set-cookie")
    assert [("SameSite=strict" in one, "Max-Age=0" in one) for one in cookies] == [(True, False), (False, True)]
    assert set(dict(browser.client.cookies)) == {"__Host-sightline"}


def test_what_is_asked_for_is_bound_to_this_browser_and_this_page(site: SignedSite, server: OpenIdServer) -> None:
    asked = parse_qs(urlsplit(site.browser().get("/sign-in/oidc").headers["location"]).query)
    assert asked["redirect_uri"] == [CALLBACK]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["openid profile"]
    assert all(len(asked[name][0]) >= 43 for name in ("state", "nonce", "code_challenge"))


def test_a_public_client_has_no_secret_to_send(tmp_path: Path, server: OpenIdServer) -> None:
    site = make_site(tmp_path, server, client_secret="")
    assert go(site.browser()).headers["location"] == "/"
    assert server.basic == [""]
    site.close()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"nonce": "another"}, "wrong_token"),
        ({"nonce": None}, "wrong_token"),
        ({"aud": "another client"}, "wrong_token"),
        ({"aud": [CLIENT_ID, "another"]}, "wrong_token"),
        ({"aud": None}, "wrong_token"),
        ({"azp": "another client"}, "wrong_token"),
        ({"iss": "https://evil.example"}, "wrong_token"),
        ({"iss": None}, "wrong_token"),
        ({"exp": 1_000}, "wrong_token"),
        ({"exp": None}, "wrong_token"),
        ({"iat": 4_000_000_000}, "wrong_token"),
        ({"nbf": 4_000_000_000}, "wrong_token"),
        ({"sub": None}, "wrong_token"),
        ({"groups": None}, "no_role"),
        ({"groups": []}, "no_role"),
        ({"groups": "Leads"}, "no_role"),
        ({"groups": {"leads": True}}, "no_role"),
        ({"groups": [["leads"], 7]}, "no_role"),
        ({"preferred_username": None}, "no_name"),
        ({"preferred_username": 7}, "no_name"),
        ({"preferred_username": "x" * 100}, "no_name"),
        ({"preferred_username": "I\u202eda"}, "no_name"),
        ({"preferred_username": "OLGA"}, "name_taken"),
    ],
)
def test_a_token_that_says_anything_wrong_lets_nobody_in(
    site: SignedSite, server: OpenIdServer, changes: dict[str, Any], why: str
) -> None:
    server.changes = changes
    browser = site.browser()
    assert refused_for(go(browser)) == why
    assert browser.get("/wall").status_code == 401
    assert site.audited()[-1][1::2] == ("sign_in", "refused")


def test_a_token_by_another_key_lets_nobody_in(site: SignedSite, server: OpenIdServer) -> None:
    server.key = OTHER_KEY
    assert refused_for(go(site.browser())) == "wrong_token"


def test_a_token_signed_with_what_both_know_lets_nobody_in(site: SignedSite, server: OpenIdServer) -> None:
    server.key = OctKey.import_key(CLIENT_SECRET, {"kid": "one"})  # type: ignore[assignment]
    server.algorithm = "HS256"
    assert refused_for(go(site.browser())) == "wrong_token"


def test_a_provider_may_change_its_keys(tmp_path: Path, server: OpenIdServer) -> None:
    now_s = [1e9]
    site = make_site(tmp_path, server)
    provider = site.context.signing.provider
    provider._clock_s = lambda: time.time() + now_s[0] - 1e9
    assert go(site.browser()).headers["location"] == "/"
    first = server.published[0]
    server.key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
    server.published = [server.key, first]
    now_s[0] += 60
    assert go(site.browser()).headers["location"] == "/"
    server.published = [first]
    site.close()


def test_roles_may_lie_deeper_and_the_highest_counts(tmp_path: Path, server: OpenIdServer) -> None:
    site = make_site(
        tmp_path, server, role_claim="realm.roles", roles={"a": Role.OPERATOR, "b": Role.ADMIN, "c": Role.ENGINEER}
    )
    server.claims["realm"] = {"roles": ["a", "b", "c"]}
    browser = site.browser()
    go(browser)
    assert browser.get("/session").json()["person"]["role"] == "admin"
    site.close()


def test_an_answer_that_was_not_asked_for_lets_nobody_in(site: SignedSite, server: OpenIdServer) -> None:
    sent = site.browser().get("/sign-in/oidc")
    location = PROVIDER.get(sent.headers["location"]).headers["location"]
    # Another browser, one that has begun a sign-in of its own, and a second time.
    assert refused_for(site.browser().client.get(location)) == "wrong_state"
    other = site.browser()
    other.get("/sign-in/oidc")
    assert refused_for(other.client.get(location)) == "wrong_state"
    browser = site.browser()
    asked = browser.get("/sign-in/oidc")
    mine = PROVIDER.get(asked.headers["location"]).headers["location"]
    jar = dict(browser.client.cookies)
    assert browser.client.get(mine).headers["location"] == "/"
    again = site.browser(cookies=jar)
    assert refused_for(again.client.get(mine)) == "provider_refused"


@pytest.mark.parametrize(
    "query", ["", "?state=", "?code=x", "?state=x&code=x", "?error=access_denied", "?state=%00&code=%00"]
)
def test_coming_back_with_rubbish_lets_nobody_in(site: SignedSite, query: str) -> None:
    browser = site.browser()
    browser.get("/sign-in/oidc")
    assert refused_for(browser.get(f"/sign-in/oidc/callback{query}")) == "wrong_state"


@pytest.mark.parametrize("cookie", ["x", "e30=", "W10=", "bnVsbA==", "eyJzdGF0ZSI6MX0=", "[" * 3_000, "\u00ff"])
def test_a_cookie_of_rubbish_lets_nobody_in(site: SignedSite, cookie: str) -> None:
    headers = [(b"cookie", f"__Host-sightline-oidc={cookie}".encode())]
    answer = site.browser().client.get("/api/v1/sign-in/oidc/callback?state=x&code=y", headers=headers)
    assert refused_for(answer) == "wrong_state"


def test_another_provider_s_answer_is_not_taken_for_this_one_s(site: SignedSite, server: OpenIdServer) -> None:
    browser = site.browser()
    sent = browser.get("/sign-in/oidc")
    location = PROVIDER.get(sent.headers["location"]).headers["location"]
    mixed = location.replace("iss=http", "iss=https")
    assert refused_for(browser.client.get(mixed)) == "wrong_state"


def test_who_says_no_at_the_provider_is_back_at_the_page(site: SignedSite, server: OpenIdServer) -> None:
    server.error = "access_denied"
    answer = go(site.browser(), "/review?line=a")
    assert refused_for(answer) == "provider_refused"
    assert answer.headers["location"].startswith("/review?line=a&sign_in=")


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example", "\nx"])
def test_nobody_is_sent_elsewhere_after_signing_in(site: SignedSite, server: OpenIdServer, back: str) -> None:
    assert go(site.browser(), back).headers["location"] == "/"


def test_whoever_is_turned_away_here_stays_out(site: SignedSite, server: OpenIdServer) -> None:
    go(site.browser())
    site.accounts.change(server.claims["preferred_username"], disabled=True)
    assert refused_for(go(site.browser())) == "turned_away"


def test_a_role_that_was_taken_away_there_ends_sessions_here(site: SignedSite, server: OpenIdServer) -> None:
    first = site.browser()
    go(first)
    server.claims["groups"] = ["watchers"]
    second = site.browser()
    go(second)
    assert second.get("/session").json()["person"]["role"] == "operator"
    assert first.get("/wall").status_code == 401


def test_nobody_signs_in_by_password_where_the_provider_vouches(site: SignedSite) -> None:
    assert reason(site.browser().sign_in("Ada")) == (404, "not_found")


def test_a_provider_that_is_away_is_said_to_be(tmp_path: Path, server: OpenIdServer) -> None:
    site = make_site(tmp_path, server, issuer="http://127.0.0.1:1", timeout_s=0.5)
    assert refused_for(site.browser().get("/sign-in/oidc", params={"back": "/review"})) == "unavailable"
    site.close()


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
def test_a_provider_that_describes_itself_wrongly_is_not_asked(
    tmp_path: Path, server: OpenIdServer, document: dict[str, Any]
) -> None:
    server.document = document
    site = make_site(tmp_path, server)
    assert refused_for(site.browser().get("/sign-in/oidc")) == "unavailable"
    site.close()
