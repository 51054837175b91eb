"""The question that a container's health check asks of its own service."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.process import free_port
from services.runtime.lifecycle import Health
from services.runtime.ops import OpsServer
from services.runtime.probe import main
from services.runtime.settings import OpsSettings
from tests.support.certificates import loopback_certificate


@pytest.fixture
def served() -> Iterator[tuple[Health, dict[str, str]]]:
    health = Health()
    server = OpsServer(OpsSettings(port=0), health)
    server.start()
    yield health, {"SIGHTLINE_OPS__PORT": str(server.port)}
    server.stop()


def test_a_service_that_is_ready_is_healthy(served: tuple[Health, dict[str, str]]) -> None:
    health, environment = served
    health.set_ready(True)
    assert main([], environment) == 0


def test_a_service_that_waits_for_something_is_not_ready_and_alive(
    served: tuple[Health, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    health, environment = served
    health.set_ready(True)
    health.hold("triton", "it is away")
    assert main([], environment) == 1
    assert "it is away" in capsys.readouterr().out
    assert main(["--live"], environment) == 0


def test_a_port_that_is_bound_for_everybody_is_asked_through_loopback(served: tuple[Health, dict[str, str]]) -> None:
    health, environment = served
    health.set_ready(True)
    assert main([], environment | {"SIGHTLINE_OPS__HOST": "0.0.0.0"}) == 0


def test_a_service_that_does_not_answer_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main([], {"SIGHTLINE_OPS__PORT": str(port)}) == 1
    assert f"no answer at 127.0.0.1:{port}" in capsys.readouterr().out


def test_a_port_that_speaks_tls_is_asked_in_tls(tmp_path: Path) -> None:
    files = loopback_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = str(server.server_address[1])
    try:
        assert main([], {"SIGHTLINE_OPS__PORT": port, "SIGHTLINE_TLS__CERTIFICATE_FILE": "/tls/tls.crt"}) == 0
        assert main([], {"SIGHTLINE_OPS__PORT": port}) == 1
    finally:
        server.shutdown()
        server.server_close()


def test_another_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--ready"], {}) == 2
    assert "got '--ready'" in capsys.readouterr().err


def test_it_imports_nothing_of_ours_and_nothing_heavy() -> None:
    script = (
        "import sys\nimport services.runtime.probe\n"
        "heavy = [name for name in sys.modules if name.startswith('services.') and name != 'services.runtime'"
        " and name != 'services.runtime.probe' or name in ('pydantic', 'grpc', 'numpy')]\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
