"""The dashboard as a process with a certificate: its page over HTTPS, and a renewal while it serves."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.local.member import Member
from services.local.process import free_port
from tests.support.detector_line import wait_until
from tests.support.machine_certificates import Authority

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class EncryptedDashboard:
    """``python -m services.dashboard`` on loopback; neither Kafka nor a store is there, and its page says so."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "plant")
        pair = self.authority.sign("dashboard")
        self.web_port, ops_port = free_port(), free_port()
        settings = {
            "TLS__CERTIFICATE_FILE": str(pair.certificate),
            "TLS__KEY_FILE": str(pair.key),
            "TLS__CA_FILE": str(self.authority.file),
            "WEB__PORT": str(self.web_port),
            "KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "OBJECT_STORE__ENDPOINT": f"127.0.0.1:{free_port()}",
            "OPS__PORT": str(ops_port),
            "COMPONENTS__INTERVAL_S": "0.5",
            # A neighbour's probe over HTTPS; its own serves as well as another's.
            "COMPONENTS__URLS": json.dumps({"neighbour": f"https://127.0.0.1:{ops_port}/readyz"}),
        }
        self.service = Member("dashboard", settings, logs=folder)

    def connect(self, trusts: Authority | None = None) -> http.client.HTTPSConnection:
        """A browser's connection."""
        context = ssl.create_default_context(cafile=str((trusts or self.authority).file))
        return http.client.HTTPSConnection("127.0.0.1", self.web_port, timeout=10, context=context)

    def answers(self) -> bool:
        """Whether the page is served."""
        try:
            with closing(self.connect()) as connection:
                return _get(connection, "/")[0] == http.HTTPStatus.OK
        except OSError:
            return False

    def shown(self) -> str:
        """The certificate that a new connection is shown, PEM."""
        return ssl.get_server_certificate(("127.0.0.1", self.web_port))


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedDashboard]:
    dashboard = EncryptedDashboard(tmp_path_factory.mktemp("dashboard-tls"))
    dashboard.service.start()
    try:
        wait_until(dashboard.answers, f"the page is served; log: {dashboard.service.process.log_path}", 60)
        yield dashboard
    finally:
        dashboard.service.process.kill()


def test_a_renewed_certificate_is_shown_to_new_connections_and_the_old_ones_go_on(
    dashboard: EncryptedDashboard,
) -> None:
    before = dashboard.shown()
    with closing(dashboard.connect()) as standing:
        assert _get(standing, "/")[0] == http.HTTPStatus.OK
        dashboard.authority.sign("dashboard")
        wait_until(lambda: dashboard.shown() != before, "the renewed certificate is shown", 10)
        own = standing.sock
        assert _get(standing, "/api/v1/health")[0] == http.HTTPStatus.OK
        assert standing.sock is own, "it is still the connection from before"
        assert isinstance(own, ssl.SSLSocket)
        assert own.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(before)
    assert dashboard.answers()


def test_a_browser_that_does_not_trust_the_plant_does_not_go_on(dashboard: EncryptedDashboard, tmp_path: Path) -> None:
    connection = dashboard.connect(Authority(tmp_path, "stranger"))
    with closing(connection), pytest.raises(ssl.SSLCertVerificationError):
        _get(connection, "/")


def test_the_page_is_not_served_in_plain_text(dashboard: EncryptedDashboard) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.web_port, timeout=10)
    with closing(connection), pytest.raises((http.client.HTTPException, OSError)):
        _get(connection, "/")
    assert dashboard.answers()


def test_a_neighbour_is_asked_over_https(dashboard: EncryptedDashboard) -> None:
    def neighbour() -> str:
        with closing(dashboard.connect()) as connection:
            told = json.loads(_get(connection, "/api/v1/health")[1])
        return next(str(one["state"]) for one in told["components"] if one["name"] == "neighbour")

    wait_until(lambda: neighbour() == "up", "the neighbour is up", 20)


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()
