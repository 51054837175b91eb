"""An OpenID provider that vouches for people: authorization code with PKCE, and an ID token that is checked in full."""

from __future__ import annotations

import hmac
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from services.core.access import Role
from services.core.errors import SightlineError, UnavailableError

with warnings.catch_warnings():
    # Authlib would rather have httpx2, and says so on standard error, where nothing but our log belongs. Its own filter
    # is set first, so that this one counts.
    from authlib.deprecate import AuthlibDeprecationWarning  # type: ignore[import-untyped]

    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
    from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-untyped]

_KEEP_S: Final = 3_600.0
_REFETCH_S: Final = 30.0
_LEEWAY_S: Final = 60
_MAX_BYTES: Final = 1_000_000
# Signed with a private key; "none", and what is made with our own secret, prove nothing here.
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_KEY_TYPES: Final[dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}


class OpenIdRefusedError(SightlineError):
    """Somebody is not let in on what the provider says, or did not say.

    Args:
        message: Why, for the log.
        reason: Short stable token, for example ``no_role``.
    """

    def __init__(self, message: str, reason: str = "provider_refused") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class OpenIdClient:
    """What the provider and the dashboard know of each other."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str
    scopes: str
    name_claim: str
    role_claim: str
    roles: Mapping[str, Role]
    """Group to role."""
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Transaction:
    """One sign-in under way; the browser keeps it until it is back."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for."""

    subject: str
    """Issuer and subject, which never change."""
    name: str
    role: Role


class OpenIdProvider:
    """Talks to one provider. Thread-safe; calls wait for it, and raise ``UnavailableError`` when it is away."""

    def __init__(self, client: OpenIdClient, clock_s: Callable[[], float] = time.time) -> None:
        """Set up; nothing is asked yet.

        Args:
            client: What the two know of each other.
            clock_s: The present, seconds since the epoch.
        """
        self._client = client
        self._clock_s = clock_s
        # Reading the authorities' certificates takes longer than a sign-in's questions.
        self._tls = httpx.create_ssl_context()
        self._lock = Lock()
        self._document: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def begin(self) -> tuple[str, Transaction]:
        """Give the address to send a browser to, and what it must bring back."""
        transaction = Transaction(*(secrets.token_urlsafe(32) for _ in range(3)))
        with self._session() as session:
            url, _ = session.create_authorization_url(
                self._discovered()["authorization_endpoint"],
                state=transaction.state,
                nonce=transaction.nonce,
                code_verifier=transaction.verifier,
            )
        return str(url), transaction

    def finish(self, answer: Mapping[str, str], transaction: Transaction | None) -> Identity:
        """Take what the browser brought back.

        Args:
            answer: The parameters of the address it came back to.
            transaction: What it was sent away with; None where it was not, or has forgotten.

        Raises:
            OpenIdRefusedError: When anything does not fit, or the person has no role.
        """
        if transaction is None:
            raise OpenIdRefusedError("a sign-in must have begun in this browser, got none", "wrong_state")
        if not hmac.compare_digest(answer.get("state", "").encode(), transaction.state.encode()):
            raise OpenIdRefusedError("state must be the one that was sent, got another one", "wrong_state")
        # RFC 9207: the answer of another provider must not be taken for this one's.
        if answer.get("iss", self._client.issuer) != self._client.issuer:
            raise OpenIdRefusedError("iss must be the provider that was asked, got another one", "wrong_state")
        if "error" in answer:
            raise OpenIdRefusedError(f"the provider must agree, got {answer['error'][:80]!a}")
        if not answer.get("code"):
            raise OpenIdRefusedError("the provider must give a code, got none")
        claims = self._checked(self._id_token(answer["code"], transaction), transaction.nonce)
        return self._identity(claims)

    # ---- the way to the ID token

    def _session(self) -> OAuth2Client:
        known = self._client
        return OAuth2Client(
            client_id=known.client_id,
            client_secret=known.client_secret or None,
            token_endpoint_auth_method="client_secret_basic" if known.client_secret else "none",
            scope=" ".join(dict.fromkeys(["openid", *known.scopes.split()])),
            redirect_uri=known.redirect_uri,
            code_challenge_method="S256",
            timeout=known.timeout_s,
            follow_redirects=False,
            verify=self._tls,
        )

    def _id_token(self, code: str, transaction: Transaction) -> str:
        try:
            with self._session() as session:
                token = session.fetch_token(
                    self._discovered()["token_endpoint"], code=code, code_verifier=transaction.verifier
                )
        except OAuthError as error:
            raise OpenIdRefusedError(f"the provider must take the code, got {error.error!a}") from error
        except httpx.HTTPError as error:
            raise UnavailableError(f"the OpenID provider must answer, got {type(error).__name__}") from error
        except ValueError as error:
            raise OpenIdRefusedError("the provider must answer a code with JSON, got something else") from error
        found = token.get("id_token")
        if not isinstance(found, str):
            raise OpenIdRefusedError("the provider must give an ID token, got none", "wrong_token")
        return found

    def _checked(self, id_token: str, nonce: str) -> dict[str, Any]:
        token = None
        for fresh in (False, True):
            try:
                token = jwt.decode(id_token, self._signing_keys(fresh=fresh), algorithms=list(_ALGORITHMS))
                break
            except (JoseError, ValueError) as error:
                # Its keys may have been changed since they were read.
                if fresh:
                    raise OpenIdRefusedError(
                        f"the ID token must be signed by the provider, got {type(error).__name__}", "wrong_token"
                    ) from error
        claims: dict[str, Any] = token.claims if token is not None else {}
        wanted = {
            "iss": {"essential": True, "value": self._client.issuer},
            "aud": {"essential": True, "value": self._client.client_id},
            "sub": {"essential": True},
            "exp": {"essential": True},
            "iat": {"essential": True},
        }
        registry = jwt.JWTClaimsRegistry(now=lambda: int(self._clock_s()), leeway=_LEEWAY_S, **wanted)  # type: ignore[arg-type]
        try:
            registry.validate(claims)
        except JoseError as error:
            raise OpenIdRefusedError(f"the ID token must be for this sign-in, got {error}", "wrong_token") from error
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        party = claims.get("azp", self._client.client_id if len(audiences) == 1 else None)
        if party != self._client.client_id:
            raise OpenIdRefusedError("the ID token must be meant for this client, got another one", "wrong_token")
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise OpenIdRefusedError("nonce must be the one that was sent, got another one", "wrong_token")
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name = claims.get(self._client.name_claim)
        if not isinstance(name, str) or not claims["sub"]:
            raise OpenIdRefusedError(f"the claim {self._client.name_claim} must name the person, got none", "no_name")
        found: Any = claims
        for part in self._client.role_claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        groups = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        roles = [self._client.roles[one] for one in groups if isinstance(one, str) and one in self._client.roles]
        if not roles:
            raise OpenIdRefusedError(
                f"the claim {self._client.role_claim} must hold a group with a role, got {len(groups)} without",
                "no_role",
            )
        return Identity(f"{self._client.issuer}|{claims['sub']}", name.strip(), max(roles, key=lambda one: one.rank))

    # ---- what the provider says of itself

    def _discovered(self) -> dict[str, Any]:
        with self._lock:
            kept = self._document
        if kept is not None and 0 <= self._clock_s() - kept[0] < _KEEP_S:
            return kept[1]
        document = self._get(self._client.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self._client.issuer:
            raise UnavailableError(
                f"the provider must call itself {self._client.issuer}, got {str(document.get('issuer'))[:200]!a}"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            self._require_safe(name, document.get(name))
        with self._lock:
            self._document = (self._clock_s(), document)
        return document

    def _signing_keys(self, *, fresh: bool) -> KeySet:
        with self._lock:
            kept = self._keys
        longest_s = _REFETCH_S if fresh else _KEEP_S
        if kept is not None and 0 <= self._clock_s() - kept[0] < longest_s:
            return kept[1]
        told = self._get(self._discovered()["jwks_uri"]).get("keys")
        found = map(_public_key, told if isinstance(told, list) else [])
        keys: list[OctKey | RSAKey | ECKey | OKPKey] = [key for key in found if key is not None]
        with self._lock:
            self._keys = (self._clock_s(), KeySet(keys))
            return self._keys[1]

    def _get(self, url: str) -> dict[str, Any]:
        try:
            with httpx.Client(timeout=self._client.timeout_s, follow_redirects=False, verify=self._tls) as client:
                response = client.get(url)
            found = response.json() if response.status_code == 200 and len(response.content) <= _MAX_BYTES else None
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"the OpenID provider must answer at {url}, got {type(error).__name__}") from error
        if not isinstance(found, dict):
            raise UnavailableError(f"the OpenID provider must answer at {url}, got HTTP {response.status_code}")
        return found

    def _require_safe(self, name: str, url: object) -> None:
        # A provider at https has all of its addresses there.
        scheme = urlsplit(url).scheme if isinstance(url, str) else ""
        if scheme != "https" and scheme != urlsplit(self._client.issuer).scheme:
            raise UnavailableError(f"the provider's {name} must be an https URL, got {str(url)[:200]!a}")


def _public_key(told: Any) -> RSAKey | ECKey | OKPKey | None:
    """One of the provider's keys; None for what signs nothing, or is of a kind that we do not know."""
    kind = _KEY_TYPES.get(str(told.get("kty"))) if isinstance(told, dict) else None
    if kind is None or told.get("use", "sig") != "sig":
        return None
    try:
        return kind.import_key(told)
    except (JoseError, ValueError, KeyError):
        return None
