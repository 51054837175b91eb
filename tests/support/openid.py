"""A small OpenID provider on loopback that issues real signed tokens, with switches for what can be wrong with them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID = "sightline"
CLIENT_SECRET = "the client's secret"


class OpenIdServer:
    """The provider.

    Attributes:
        claims: What the next ID token says beside what it has to.
        changes: What it says otherwise; None leaves a claim out.
        key: What it is signed with.
        published: The keys that it tells of.
        algorithm: By which it is signed.
        asked: The addresses of its token endpoint's callers, as they were sent.
    """

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.published = [self.key]
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {"sub": "7", "preferred_username": "Ida", "groups": ["leads", "others"]}
        self.changes: dict[str, Any] = {}
        self.document: dict[str, Any] = {}
        self.error = ""
        self.asked: list[dict[str, str]] = []
        self.basic: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def authorize(self, asked: dict[str, str]) -> str:
        """What the person does at the provider: gives the address that the browser comes back to."""
        if self.error:
            back = {"error": self.error, "state": asked["state"]}
        else:
            code = f"code-{len(self._codes)}"
            self._codes[code] = asked
            back = {"code": code, "state": asked["state"], "iss": self.issuer}
        return f"{asked['redirect_uri']}?{urlencode(back)}"

    def token(self, form: dict[str, str]) -> dict[str, Any] | None:
        """The token of a code; None when the code, the redirection or the verifier is wrong."""
        self.asked.append(form)
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or form.get("redirect_uri") != asked["redirect_uri"]:
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return None
        now_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": asked["client_id"],
            "iat": now_s,
            "exp": now_s + 300,
            "nonce": asked["nonce"],
            **self.claims,
            **self.changes,
        }
        said = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": self.key.kid}
        id_token = jwt.encode(header, said, self.key, algorithms=[self.algorithm])
        return {"access_token": "x", "token_type": "Bearer", "id_token": id_token}

    def _handler(server) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path == "/.well-known/openid-configuration":
                    self._json(
                        200,
                        {
                            "issuer": server.issuer,
                            "authorization_endpoint": f"{server.issuer}/authorize",
                            "token_endpoint": f"{server.issuer}/token",
                            "jwks_uri": f"{server.issuer}/keys",
                            **server.document,
                        },
                    )
                elif parts.path == "/keys":
                    self._json(200, {"keys": [key.as_dict(private=False) for key in server.published]})
                elif parts.path == "/authorize":
                    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                    self.send_response(302)
                    self.send_header("Location", server.authorize(asked))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._json(404, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                server.basic.append(self.headers.get("Authorization", ""))
                found = server.token({name: values[0] for name, values in parse_qs(body).items()})
                self._json(*((200, found) if found else (400, {"error": "invalid_grant"})))

            def _json(self, status: int, body: object) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
