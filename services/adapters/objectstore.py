"""An S3-compatible object store behind the ``ObjectStore`` port, over minio-py."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from services.adapters.connection import StoreConnection
from services.adapters.ports import ObjectStat
from services.adapters.tlsclient import client_context
from services.core.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    StoreFullError,
    UnavailableError,
)
from services.core.types import ImageRef

T = TypeVar("T")

_NS_PER_S = 1_000_000_000
_NOT_FOUND = frozenset({"NoSuchKey", "NoSuchBucket", "NoSuchObject", "NotFound"})
_CONFLICT = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_REFUSED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidBucketName"})
_FULL = frozenset({"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "QuotaExceeded"})
_READ_CHUNK_BYTES = 256 * 1024


class StoreRefusedError(SightlineError):
    """The store answered and said no: wrong keys, no right. Waiting does not help."""

    reason = "store_refused"


class S3ObjectStore:
    """One bucket; thread-safe.

    A small pool of connections, a deadline on each call, and one more try where no connection came about.
    """

    def __init__(self, connection: StoreConnection, *, connections: int = 8) -> None:
        """Wire it; nothing is sent.

        Args:
            connection: How to reach the store.
            connections: Most connections to keep; further callers wait for one.

        Raises:
            SettingsError: If the connection's file of authorities cannot be used.
        """
        if connection.secure:
            # urllib3 reads the file at each connection, and so takes a renewed one; one that is not there would look
            # like a store that does not answer.
            client_context(connection.ca_file, prefix="object_store.")
        timeout = urllib3.Timeout(connect=min(3.0, connection.timeout_s), read=connection.timeout_s)
        self._bucket = connection.bucket
        self._client = Minio(
            connection.endpoint,
            access_key=connection.access_key or None,
            secret_key=connection.secret_key or None,
            secure=connection.secure,
            region=connection.region,
            http_client=urllib3.PoolManager(
                timeout=timeout,
                cert_reqs="CERT_REQUIRED",
                ca_certs=str(connection.ca_file) if connection.ca_file else None,
                maxsize=connections,
                block=True,
                # Only what never reached the server; the caller decides on anything else.
                retries=urllib3.Retry(total=1, connect=1, read=0, redirect=0, status=0, other=0, backoff_factor=0.05),
            ),
        )

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self._bucket

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        """Write an object, replacing what was there."""
        return self._put(key, data, content_type, {})

    def put_new(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        """Write an object only if nothing lies there.

        Raises:
            ConflictError: If something does.
        """
        return self._put(key, data, content_type, {"If-None-Match": "*"})

    def _put(self, key: str, data: bytes, content_type: str, headers: dict[str, str]) -> ImageRef:
        self._ask(
            f"write {key}",
            # minio-py's own put_object signs no conditional headers.
            lambda: self._client._execute(  # noqa: SLF001
                "PUT",
                self._bucket,
                key,
                body=data,
                headers={"Content-Type": content_type, **headers},
                no_body_trace=True,
            ),
        )
        return ImageRef(self._bucket, key, len(data), hashlib.sha256(data).hexdigest())

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """Read an object.

        Raises:
            NotFoundError: When nothing lies there.
            InvalidInputError: When it is larger than ``max_bytes``.
        """
        return self._ask(f"read {key}", lambda: self._get(key, max_bytes))

    def _get(self, key: str, max_bytes: int | None) -> bytes:
        response = self._client.get_object(self._bucket, key)
        whole = False
        try:
            told = int(response.headers.get("Content-Length", -1))
            if max_bytes is not None and told > max_bytes:
                raise InvalidInputError(f"an object must have at most {max_bytes} bytes, got {told} in {key!r}")
            buffer = io.BytesIO()
            for chunk in response.stream(_READ_CHUNK_BYTES):
                buffer.write(chunk)
                if max_bytes is not None and buffer.tell() > max_bytes:
                    raise InvalidInputError(f"an object must have at most {max_bytes} bytes, got more in {key!r}")
            if told >= 0 and buffer.tell() != told:
                raise UnavailableError(f"store must send all {told} bytes of {key!r}, got {buffer.tell()}")
            whole = True
            return buffer.getvalue()
        finally:
            if not whole:
                # The rest of the body is still on its way: this connection is of no use to the next caller.
                response.close()
            response.release_conn()

    def stat(self, key: str) -> ObjectStat:
        """Size and age of an object."""
        found = self._ask(f"look at {key}", lambda: self._client.stat_object(self._bucket, key))
        return _stat(found)

    def exists(self, key: str) -> bool:
        """Tell whether an object lies there."""
        try:
            self.stat(key)
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object under ``prefix``, page by page, in no promised order."""
        found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        while (each := self._ask(f"list {prefix}", lambda: next(found, None))) is not None:
            yield _stat(each)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, a thousand a request; those that do not exist are no error."""
        wanted = (DeleteObject(key) for key in keys)
        failures = self._ask("delete objects", lambda: list(self._client.remove_objects(self._bucket, wanted)))
        real = [failure for failure in failures if failure.code not in _NOT_FOUND]
        if real:
            raise UnavailableError(
                f"store must delete every object, got {len(real)} left, the first: {real[0].name}: {real[0].message}"
            )

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        if self._ask("find the bucket", lambda: self._client.bucket_exists(self._bucket)):
            return
        try:
            self._ask("create the bucket", lambda: self._client.make_bucket(self._bucket))
        except SightlineError:
            # Another process may have been faster; whether it was is what counts.
            if not self._ask("find the bucket", lambda: self._client.bucket_exists(self._bucket)):
                raise

    def _ask(self, doing: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except S3Error as error:
            raise _domain_error(error, doing) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(
                f"object store must answer in time to {doing}, got {type(error).__name__}: {error}"
            ) from error


def _domain_error(error: S3Error, doing: str) -> SightlineError:
    told = f"{error.code}: {error.message}"
    if error.code in _NOT_FOUND:
        return NotFoundError(f"an object must be there to {doing}, got {told}")
    if error.code in _CONFLICT:
        return ConflictError(f"nothing must lie there to {doing}, got {told}")
    if error.code in _FULL:
        return StoreFullError(f"object store must have room to {doing}, got {told}")
    if error.code in _REFUSED:
        return StoreRefusedError(f"object store must allow to {doing}, got {told}")
    return UnavailableError(f"object store must be able to {doing}, got {told}")


def _stat(found: Any) -> ObjectStat:
    modified = found.last_modified
    modified_ns = int(modified.timestamp() * _NS_PER_S) if modified is not None else 0
    return ObjectStat(found.object_name, int(found.size or 0), modified_ns)
