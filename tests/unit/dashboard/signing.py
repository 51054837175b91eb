"""A dashboard that asks people to sign in, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from fastapi.testclient import TestClient

from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher, MemoryTopicReader
from services.adapters.openid import OpenIdProvider
from services.core import topics
from services.dashboard.app import make_app, make_context
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.live import LiveModel
from services.dashboard.settings import DashboardSettings
from tests.support.accounts import PASSWORD, Clock, add_everybody, make_accounts
from tests.unit.dashboard.reviewing import Feedback

OWN = {"X-Sightline": "1", "Content-Type": "application/json"}


class SignedSite:
    def __init__(
        self, static_dir: Path, provider: OpenIdProvider | None = None, requests_per_s: float = 100.0, **sign_in: Any
    ) -> None:
        (static_dir / "index.html").write_text("<!doctype html><title>Sightline</title>")
        self.clock = Clock()
        self.accounts = make_accounts(self.clock)
        add_everybody(self.accounts)
        self.feedback = Feedback()
        broker = MemoryBroker()
        self.context = make_context(
            DashboardSettings(
                web={"mode": "network", "requests_per_s": requests_per_s}, sign_in={"method": "local", **sign_in}
            ),
            model=LiveModel(),
            board=ComponentBoard(["kafka"]),
            store=MemoryObjectStore(),
            fetcher=MemoryRecordFetcher(broker),
            open_reader=lambda: MemoryTopicReader(broker, [topics.VERDICTS]),
            explanations=ExplanationIndex(max_cases=10, max_bytes=1_000_000),
            open_explained=lambda: MemoryTopicReader(broker, [topics.EXPLAINED]),
            feedback=self.feedback,
            accounts=self.accounts,
            provider=provider,
            version="1.2.3",
            static_dir=static_dir,
            clock_ns=self.clock,
        )
        self.app = make_app(self.context)

    def close(self) -> None:
        self.context.picture_pool.shutdown()
        self.context.reviewing.close()
        self.context.signing.close()
        self.accounts.close()

    def browser(self, name: str | None = None, **more: Any) -> Browser:
        """A browser, signed in as somebody if a name is given."""
        made = Browser(self, **more)
        if name is not None:
            assert made.sign_in(name).status_code == 200
        return made

    def audited(self) -> list[tuple[str, str, str, str]]:
        """The audit log, the oldest first, without times and addresses."""
        return [(one.who, one.action, one.target, one.outcome) for one in reversed(self.accounts.entries(limit=200))]


class Browser:
    def __init__(self, site: SignedSite, base_url: str = "https://wall.plant", **more: Any) -> None:
        self.client = TestClient(site.app, base_url=base_url, follow_redirects=False, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(f"/api/v1{path}", **more)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.client.post(f"/api/v1{path}", json=body or {}, headers=OWN | (headers or {}))

    def sign_in(self, name: str, password: str = PASSWORD, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.post("/session", {"name": name, "password": password}, headers)
