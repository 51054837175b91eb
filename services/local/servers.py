"""The servers under a line: a broker, an object store and a Triton, our own or those that are named.

``SIGHTLINE_TEST_KAFKA=host:port``, ``SIGHTLINE_TEST_S3=http://key:secret@host:port`` and
``SIGHTLINE_TEST_TRITON=host:port`` name servers to use instead of starting a stand-in. A named Triton must see the
model repository folder of this machine, named by ``SIGHTLINE_TEST_TRITON_REPOSITORY``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.core.errors import SettingsError, SightlineError
from services.local.broker import LocalBroker
from services.local.store import LocalStore
from services.local.triton import LocalTriton

BUCKET = "sightline"
_PARTITIONS = 4

Timed = dict[str, float]


class Servers:
    """Starts what is not named, in parallel where one does not need the other.

    Args:
        data: Folder for everything that they keep.
        engine: ``memory`` forgets records when the broker ends; ``durable`` keeps them in the object store.
        environ: Where the names of other servers are looked for.
    """

    def __init__(
        self, data: Path, *, engine: Literal["memory", "durable"], environ: Mapping[str, str] = os.environ
    ) -> None:
        self._logs = data / "logs"
        self._engine = engine
        self._kafka = environ.get("SIGHTLINE_TEST_KAFKA", "")
        self._s3 = environ.get("SIGHTLINE_TEST_S3", "")
        self._triton = environ.get("SIGHTLINE_TEST_TRITON", "")
        repository = environ.get("SIGHTLINE_TEST_TRITON_REPOSITORY", "")
        if self._triton and not repository:
            raise SettingsError(
                "SIGHTLINE_TEST_TRITON needs SIGHTLINE_TEST_TRITON_REPOSITORY, the folder that this Triton reads its "
                "models from"
            )
        self.repository = Path(repository) if repository else data / "triton" / "models"
        self.store = None if self._s3 else LocalStore(data / "store", log_path=self._logs / "store.log")
        keeper = self.store if engine == "durable" else None
        self.broker = None if self._kafka else LocalBroker(keeper, log_path=self._logs / "broker.log")
        self.triton = None if self._triton else LocalTriton(self.repository, work=data / "triton")
        self.timings_s: Timed = {}

    def start(self) -> None:
        """Start them and make bucket and topics.

        Raises:
            SightlineError: From the first that does not come up; what was started goes with :meth:`stop`.
        """
        with ThreadPoolExecutor(2) as pool:
            started = [pool.submit(self._start_events), pool.submit(self._start_triton)]
        for each in started:
            each.result()

    def _start_events(self) -> None:
        if self.store is not None:
            self._timed("object store", self.store.start)
            self.store.ensure_bucket(BUCKET, versioned=True)
        if self.broker is not None:
            self._timed("broker", self.broker.start)
        self._timed("topics", self.make_topics)

    def _start_triton(self) -> None:
        if self.triton is not None:
            self._timed("triton", self.triton.start)

    def _timed(self, name: str, call: Callable[[], object]) -> None:
        since_s = time.monotonic()
        call()
        self.timings_s[name] = time.monotonic() - since_s

    def make_topics(self) -> None:
        """Create the topics that do not exist."""
        ensure_topics(self.kafka, standard_topics(partitions=_PARTITIONS))

    @property
    def kafka(self) -> KafkaConnection:
        """How to reach the broker."""
        return KafkaConnection(self._kafka or (self.broker.bootstrap_servers if self.broker else ""))

    @property
    def objects(self) -> StoreConnection:
        """How to reach the object store."""
        if self.store is not None:
            return StoreConnection(self.store.endpoint, BUCKET, self.store.access_key, self.store.secret_key)
        url = urlsplit(self._s3 if "//" in self._s3 else f"http://{self._s3}")
        port = url.port or (443 if url.scheme == "https" else 80)
        return StoreConnection(
            f"{url.hostname}:{port}", BUCKET, url.username or "", url.password or "", secure=url.scheme == "https"
        )

    @property
    def triton_url(self) -> str:
        """``host:port`` of Triton's gRPC."""
        return self._triton or (self.triton.grpc_url if self.triton else "")

    def settings(self) -> dict[str, str]:
        """What every service is told of them, as settings without the prefix."""
        objects = self.objects
        kafka = {"KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers}
        if self.broker is not None:
            kafka["KAFKA__FETCH_WAIT_MS"] = str(self.broker.FETCH_WAIT_MS)
            kafka["KAFKA__SESSION_TIMEOUT_MS"] = str(self.broker.SESSION_TIMEOUT_MS)
        return {
            **kafka,
            "OBJECT_STORE__ENDPOINT": objects.endpoint,
            "OBJECT_STORE__BUCKET": objects.bucket,
            "OBJECT_STORE__ACCESS_KEY": objects.access_key,
            "OBJECT_STORE__SECRET_KEY": objects.secret_key,
            "OBJECT_STORE__SECURE": str(objects.secure).lower(),
            "TRITON__URLS": self.triton_url,
        }

    def revive(self) -> list[str]:
        """Start what has died again, on the same ports; tells what that was.

        A broker that keeps records in memory comes back without any: whoever calls this starts the services anew.

        Raises:
            SightlineError: When one does not come up.
        """
        revived = []
        if self.store is not None and not self.store.child.alive:
            self.store.start()
            revived.append("object store")
        if self.broker is not None and not self.broker.child.alive:
            self.broker.start()
            if self._engine == "memory":
                self.make_topics()
            revived.append("broker")
        if self.triton is not None and not self.triton.running:
            self.triton.start()
            revived.append("Triton")
        return revived

    def stop(self) -> None:
        """Stop what was started here, the broker before the store that it may write to; idempotent."""
        with ThreadPoolExecutor(2) as pool:
            if self.triton is not None:
                pool.submit(self.triton.stop)
            pool.submit(self._stop_events)

    def _stop_events(self) -> None:
        if self.broker is not None:
            self.broker.stop()
        if self.store is not None:
            self.store.stop()

    def __enter__(self) -> Self:
        """Start them; stop what came up when one does not."""
        try:
            self.start()
        except (SightlineError, KeyboardInterrupt):
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop them."""
        self.stop()
