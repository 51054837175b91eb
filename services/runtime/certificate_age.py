"""When the certificates of a service end, as a metric that is read from the files themselves at each scrape."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from services.adapters.watchedfile import WatchedFiles
from services.runtime import metrics
from services.runtime.logging import get_logger
from services.runtime.settings import KafkaSettings, ServiceSettings

LOG = get_logger(__name__)


class CertificateAge:
    """The end of the first certificate of a PEM file: a renewed file is read anew.

    Args:
        path: The file.
        every_s: Looks at the disk at most this often.
    """

    def __init__(self, path: Path, *, every_s: float = 1.0) -> None:
        self._path = path
        self._watch = WatchedFiles((path,), every_s=every_s)
        self._ends_s = self._read()

    def ends_s(self) -> float:
        """Seconds since the epoch; 0 where the file holds no certificate any more, as bad as one that ended."""
        if self._watch.changed():
            self._ends_s = self._read()
        return self._ends_s

    def _read(self) -> float:
        try:
            certificates = x509.load_pem_x509_certificates(self._path.read_bytes())
        except (OSError, ValueError) as error:
            LOG.error("%s must hold a certificate: %s", self._path, error)  # noqa: TRY400 - the cause is in it
            return 0.0
        return certificates[0].not_valid_after_utc.timestamp()


def watch_certificates(settings: ServiceSettings) -> None:
    """Tell of every certificate that this service shows to others.

    Args:
        settings: All that the service read.
    """
    kafka = getattr(settings, "kafka", None)
    shown = [settings.tls.certificate_file]
    if isinstance(kafka, KafkaSettings):
        shown.append(kafka.ssl_certificate_file)
    for path in shown:
        if path is not None:
            metrics.TLS_CERTIFICATE_EXPIRY.labels(str(path)).set_function(CertificateAge(path).ends_s)
