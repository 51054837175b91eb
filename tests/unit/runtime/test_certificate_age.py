"""The end of a service's certificates is told as the files say it now."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.runtime.certificate_age import CertificateAge, watch_certificates
from services.runtime.settings import ServiceSettings, TlsSettings
from tests.support.certificates import loopback_certificate

DAY_S = 86_400


def test_the_end_is_that_of_the_certificate(tmp_path: Path) -> None:
    files = loopback_certificate(tmp_path)
    assert CertificateAge(files.certificate).ends_s() == pytest.approx(time.time() + DAY_S, abs=60)


def test_a_file_that_is_renewed_or_broken_is_read_anew(tmp_path: Path) -> None:
    files = loopback_certificate(tmp_path)
    good = files.certificate.read_bytes()
    age = CertificateAge(files.certificate, every_s=0)
    files.certificate.write_bytes(b"no certificate")
    assert age.ends_s() == 0
    files.certificate.write_bytes(good)
    assert age.ends_s() > time.time()
    files.certificate.unlink()
    assert age.ends_s() == 0


def test_a_service_tells_of_the_certificate_that_it_shows(tmp_path: Path) -> None:
    files = loopback_certificate(tmp_path)
    watch_certificates(ServiceSettings(tls=TlsSettings(certificate_file=files.certificate, key_file=files.key)))
    labels = {"file": str(files.certificate)}
    found = REGISTRY.get_sample_value("sightline_tls_certificate_expiry_timestamp_seconds", labels)
    assert found == pytest.approx(time.time() + DAY_S, abs=60)
