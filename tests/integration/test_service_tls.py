"""A service as a process whose every connection is encrypted: who is answered, and what changes without a restart."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from services.adapters.connection import StoreConnection
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.grpcpeer import show_identity
from services.adapters.identity import Identity, IdentityFiles
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.ports import CaseFilter, CasePage, QueueOrder
from services.core.errors import ForbiddenError, UnavailableError
from services.local.broker import LocalBroker
from services.local.member import Member, metric_total
from services.local.process import free_port
from services.local.token_commands import issue, revoke
from services.runtime.settings import KafkaSettings
from tests.support.detector_line import wait_until
from tests.support.machine_certificates import Authority
from tests.support.tls_relay import TlsRelay

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


class EncryptedFeedback:
    """``python -m services.feedback`` with a certificate, callers' certificates and tokens, and what it needs."""

    def __init__(self, folder: Path, store: StoreConnection) -> None:
        self.folder = folder
        self.authority = Authority(folder, "plant")
        self.pair = self.authority.sign("feedback")
        self.kafka_relay = TlsRelay(self.authority.sign("broker"))
        self.store_relay = TlsRelay(self.authority.sign("store"), store.endpoint)
        self.broker = LocalBroker(log_path=folder / "broker.log", advertised_port=self.kafka_relay.port)
        self.tokens = folder / "tokens.yaml"
        self.reader = self.issued("reader", "feedback.read")
        self.grpc_port = free_port()
        settings = {
            "TLS__CERTIFICATE_FILE": str(self.pair.certificate),
            "TLS__KEY_FILE": str(self.pair.key),
            "TLS__CA_FILE": str(self.authority.file),
            "GRPC__PORT": str(self.grpc_port),
            "GRPC__TOKENS_FILE": str(self.tokens),
            "KAFKA__BOOTSTRAP_SERVERS": self.kafka_relay.address,
            "KAFKA__SECURITY_PROTOCOL": "SSL",
            "KAFKA__SSL_CA_FILE": str(self.authority.file),
            "KAFKA__FETCH_WAIT_MS": str(LocalBroker.FETCH_WAIT_MS),
            "KAFKA__SESSION_TIMEOUT_MS": str(LocalBroker.SESSION_TIMEOUT_MS),
            "OBJECT_STORE__ENDPOINT": self.store_relay.address,
            "OBJECT_STORE__SECURE": "true",
            "OBJECT_STORE__CA_FILE": str(self.authority.file),
            "OBJECT_STORE__BUCKET": store.bucket,
            "OBJECT_STORE__ACCESS_KEY": store.access_key,
            "OBJECT_STORE__SECRET_KEY": store.secret_key,
            "INDEX__URL": f"sqlite:///{folder / 'cases.db'}",
        }
        self.service = Member("feedback", settings, logs=folder)
        self.handshakes_before = 0

    def start(self) -> None:
        """Start it behind what it needs, and wait until its own probe says that it is ready."""
        self.kafka_relay.target = self.broker.bootstrap_servers
        kafka = KafkaSettings(
            bootstrap_servers=self.kafka_relay.address, security_protocol="SSL", ssl_ca_file=self.authority.file
        )
        ensure_topics(kafka.connection(), standard_topics(partitions=1))
        self.handshakes_before = self.kafka_relay.handshakes
        self.service.start()
        wait_until(lambda: self.probe() == 0, f"ready; log: {self.folder / 'feedback.log'}", 60)

    def probe(self, *arguments: str) -> int:
        """What its container's health check says."""
        environment = {
            **os.environ,
            "SIGHTLINE_OPS__PORT": str(self.service.ops_port),
            "SIGHTLINE_TLS__CERTIFICATE_FILE": str(self.pair.certificate),
        }
        command = [sys.executable, "-m", "services.runtime.probe", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, timeout=30, check=False).returncode

    def issued(self, machine: str, scope: str) -> Path:
        """A new token's file, as the command writes it."""
        out = self.folder / f"{machine}.token"
        issue(machine, self.tokens, [scope], days=2, out=out)
        return out

    @contextmanager
    def caller(self, token: Path | None, *, certificate: bool = True) -> Iterator[FeedbackClient]:
        """A client with that token; its identity is its process's, which this one takes back at once."""
        pair = self.authority.sign("caller") if certificate else None
        files = IdentityFiles(pair and pair.certificate, pair and pair.key, self.authority.file, token)
        show_identity(Identity(files))
        try:
            client = FeedbackClient(f"127.0.0.1:{self.grpc_port}")
        finally:
            show_identity(Identity(IdentityFiles()))
        with closing(client):
            yield client

    def metrics(self) -> str:
        """Its metrics, from whom a scraper of the plant trusts."""
        trusted = ssl.create_default_context(cafile=str(self.authority.file))
        url = f"https://127.0.0.1:{self.service.ops_port}/metrics"
        with urllib.request.urlopen(url, context=trusted, timeout=10) as answer:
            return str(answer.read().decode())

    @property
    def log(self) -> str:
        """All that it logged."""
        return (self.folder / "feedback.log").read_text()


@pytest.fixture(scope="module")
def feedback(
    tmp_path_factory: pytest.TempPathFactory, object_store_connection: StoreConnection
) -> Iterator[EncryptedFeedback]:
    if object_store_connection.secure:
        pytest.skip("the store of this run speaks TLS by itself")
    feedback = EncryptedFeedback(tmp_path_factory.mktemp("feedback-tls"), object_store_connection)
    with ExitStack() as stack:
        for each in (feedback.broker, feedback.kafka_relay, feedback.store_relay):
            stack.enter_context(each)
        stack.callback(feedback.service.process.kill)
        feedback.start()
        yield feedback


def _ask(client: FeedbackClient) -> CasePage:
    return client.list_queue(CaseFilter(), QueueOrder.NEWEST, limit=10, timeout_s=10)


def test_a_machine_with_a_certificate_and_a_token_is_answered(feedback: EncryptedFeedback) -> None:
    with feedback.caller(feedback.reader) as client:
        assert _ask(client).cases == ()
    assert feedback.reader.read_text().strip() not in feedback.log


def test_a_machine_without_a_token_is_forbidden(feedback: EncryptedFeedback) -> None:
    with feedback.caller(None) as client, pytest.raises(ForbiddenError, match="must carry 'authorization: Bearer"):
        _ask(client)


def test_a_machine_whose_token_is_for_something_else_is_forbidden(feedback: EncryptedFeedback) -> None:
    with feedback.caller(feedback.issued("trigger", "ingest.trigger")) as client:
        # Until the service has read the new token it is an unknown one.
        wait_until(lambda: "scope feedback.read" in _refusal(client), "forbidden for its scope", 10)


def test_a_machine_without_a_certificate_is_not_spoken_to(feedback: EncryptedFeedback) -> None:
    with feedback.caller(feedback.reader, certificate=False) as client, pytest.raises(UnavailableError):
        _ask(client)


def test_a_revoked_token_is_refused_within_seconds_and_without_a_restart(feedback: EncryptedFeedback) -> None:
    pid = feedback.service.process.pid
    with feedback.caller(feedback.issued("press-7", "feedback.read")) as client:
        wait_until(lambda: _refusal(client) == "", "the new token is let in", 10)
        revoke("press-7", feedback.tokens)
        wait_until(lambda: "known here" in _refusal(client), "the revoked token is refused", 5)
    with feedback.caller(feedback.reader) as other:
        assert _ask(other).cases == ()
    assert feedback.service.process.alive
    assert feedback.service.process.pid == pid


def test_its_health_check_is_answered_over_https(feedback: EncryptedFeedback) -> None:
    assert feedback.probe() == 0
    assert feedback.probe("--live") == 0


def test_its_metrics_tell_when_its_certificate_ends_and_who_was_refused(feedback: EncryptedFeedback) -> None:
    with feedback.caller(None) as client:
        assert "authorization" in _refusal(client)
    told = feedback.metrics()
    shown = x509.load_pem_x509_certificate(feedback.pair.certificate.read_bytes()).not_valid_after_utc.timestamp()
    assert metric_total(told, "sightline_tls_certificate_expiry_timestamp_seconds") == shown
    refused = re.search(r'^sightline_grpc_refused_calls_total\{reason="no_token"\} (\S+)', told, re.MULTILINE)
    assert refused is not None
    assert float(refused[1]) >= 1


def test_what_it_reads_and_writes_elsewhere_is_encrypted_too(feedback: EncryptedFeedback) -> None:
    # It is ready before it has joined its groups.
    wait_until(lambda: feedback.kafka_relay.handshakes > feedback.handshakes_before, "Kafka is connected", 20)
    wait_until(lambda: feedback.store_relay.handshakes > 0, "the store is connected", 20)


def _refusal(client: FeedbackClient) -> str:
    """What the service says to who is forbidden; empty for an answer."""
    try:
        _ask(client)
    except ForbiddenError as error:
        return str(error)
    return ""
