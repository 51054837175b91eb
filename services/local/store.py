"""An object store that speaks the S3 protocol, on this machine, for as long as it is wanted."""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3
from minio import Minio
from minio.error import MinioException
from minio.versioningconfig import ENABLED, VersioningConfig

from services.core.errors import UnavailableError
from services.local.process import LOOPBACK, ChildProcess, fetch, free_port, port_is_free
from services.local.tools import store_binary

_STARTS = 5
_REGION = "us-east-1"


class LocalStore:
    """One object store on the loopback interface; a context manager that starts and stops it.

    Args:
        directory: Where objects are kept; ``None`` takes a temporary folder that is removed at the end.
        port: S3 port; ``None`` takes a free one. The port stays the same over restarts.
        log_path: Where its output goes; ``None`` takes a file beside the data.
        volume_size_mb: Objects are packed into files of this size; the space of deleted ones is won back file by file.
    """

    #: Only the loopback interface can reach it, so the keys keep nobody out; they are there because clients sign.
    access_key = "sightline"
    secret_key = "sightline-on-this-machine-only"  # noqa: S105

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int | None = None,
        log_path: Path | None = None,
        volume_size_mb: int = 128,
    ) -> None:
        self._temporary = directory is None
        self._directory = Path(tempfile.mkdtemp(prefix="sightline-store-")) if directory is None else directory
        self._log_path = log_path or self._directory / "store.log"
        self._port = port or 0
        self._volume_size_mb = volume_size_mb
        self._child: ChildProcess | None = None
        self._master_port = 0

    @property
    def endpoint(self) -> str:
        """``host:port`` of the S3 protocol."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def directory(self) -> Path:
        """Where objects are kept."""
        return self._directory

    @property
    def child(self) -> ChildProcess:
        """The running program."""
        if self._child is None:
            raise UnavailableError("the object store must be started first")
        return self._child

    def client(self) -> Minio:
        """A client that gives up soon; for set-up and checks."""
        http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=2, read=10), retries=False)
        return Minio(
            self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=False,
            region=_REGION,
            http_client=http,
        )

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it and wait until it answers; after a stop or a kill it comes back on the same port.

        Raises:
            UnavailableError: When it does not come up.
        """
        if self._port and not port_is_free(self._port):
            raise UnavailableError(f"port {self._port} must be free for the object store, somebody listens on it")
        starts = _STARTS if self._port == 0 else 2
        for attempt in range(starts):
            port = self._port or free_port()
            child = self._launch(port)
            try:
                self._wait_until_it_answers(child, port, timeout_s)
            except UnavailableError:
                child.kill()
                if attempt + 1 == starts:
                    raise
            else:
                self._child, self._port = child, port
                return

    def _launch(self, port: int) -> ChildProcess:
        self._directory.mkdir(parents=True, exist_ok=True)
        # Each part would also open its port + 10000 for gRPC; naming those ports lets several stores share a machine.
        self._master_port = free_port()
        ports = {"s3": port, "master": self._master_port, "volume": free_port(), "filer": free_port()}
        ports["admin"] = free_port()
        parts = [
            each for part, own in ports.items() for each in (f"-{part}.port={own}", f"-{part}.port.grpc={free_port()}")
        ]
        for state in self._directory.glob("m[0-9]*"):
            # The master keeps what it can learn anew from the volumes in a folder named by its port.
            shutil.rmtree(state, ignore_errors=True)
        argv = [
            str(store_binary()),
            "-logtostderr=true",
            "mini",
            f"-dir={self._directory}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            *parts,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.autoCreateBucket=false",
            "-admin.ui=false",
            "-webdav=false",
            "-metricsPort=0",
            "-master.telemetry=false",
            f"-master.volumeSizeLimitMB={self._volume_size_mb}",
        ]
        env = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # Go collects only when its heap has doubled; from here on it works harder to stay small.
            "GOMEMLIMIT": "512MiB",
        }
        child = ChildProcess("object store", argv, log_path=self._log_path, env=env, cwd=self._directory)
        child.start()
        return child

    def _wait_until_it_answers(self, child: ChildProcess, port: int, timeout_s: float) -> None:
        was, self._port = self._port, port
        end_s = time.monotonic() + timeout_s
        error: Exception | None = None
        while time.monotonic() < end_s and child.alive:
            try:
                # The port opens before the parts behind it are there: an answer to a signed request is the proof.
                self.client().list_buckets()
            except (MinioException, urllib3.exceptions.HTTPError, OSError) as caught:
                error = caught
                time.sleep(0.05)
            else:
                return
        self._port = was
        raise UnavailableError(f"the object store must answer within {timeout_s} s: {error}\n{child.log_tail()}")

    def ensure_bucket(self, name: str, timeout_s: float = 30.0, *, versioned: bool = False) -> None:
        """Create a bucket if it is not there.

        Args:
            name: Of the bucket.
            timeout_s: Longest wait until the store can write.
            versioned: Whether what is overwritten or deleted in it stays as an earlier version.

        Raises:
            UnavailableError: When the store cannot write within ``timeout_s``.
        """
        end_s = time.monotonic() + timeout_s
        client = self.client()
        while not self._make_bucket(client, name, versioned=versioned, last_try=time.monotonic() > end_s):
            time.sleep(0.1)

    @staticmethod
    def _make_bucket(client: Minio, name: str, *, versioned: bool, last_try: bool) -> bool:
        try:
            if not client.bucket_exists(name):
                client.make_bucket(name)
            if versioned:
                client.set_bucket_versioning(name, VersioningConfig(ENABLED))
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            if last_try:
                raise UnavailableError(f"bucket {name!r} must be created in time: {error}") from error
            return False
        return True

    def reclaim(self, timeout_s: float = 300.0) -> None:
        """Give the disk space of deleted objects back; otherwise that happens long after, file by file.

        Raises:
            UnavailableError: When the store does not do it within ``timeout_s``.
        """
        status, _ = fetch(self._master_port, "/vol/vacuum?garbageThreshold=0.1", timeout_s)
        if status != http.client.OK:
            raise UnavailableError(f"the object store must reclaim deleted space within {timeout_s} s, got {status}")

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop it; idempotent. A temporary folder goes too."""
        if self._child is not None:
            self._child.stop(timeout_s)
        if self._temporary:
            shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """Kill it as ``kill -9`` does; :meth:`start` brings it back on the same port with its objects."""
        self.child.kill()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()
