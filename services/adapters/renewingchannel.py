"""A gRPC channel that takes renewed certificates: gRPC's own keeps those it was made with for good."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from services.adapters.identity import Identity, IdentityContent

_Option = tuple[str, Any]


class BearerToken(grpc.AuthMetadataPlugin):
    """Shows the token at every call; over TLS only, which gRPC itself sees to."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """Add the header."""
        del context
        token = self._identity.current().token
        callback((("authorization", f"Bearer {token}"),) if token else (), None)


class RenewingChannel:
    """Makes its channel anew once the identity's files have changed. What stubs use of ``grpc.Channel``.

    Calls in flight finish on the channel they began on.

    Args:
        address: ``host:port``.
        identity: Whose certificate and token are shown.
        options: Of the channel.
    """

    def __init__(self, address: str, identity: Identity, options: Sequence[_Option]) -> None:
        self._address = address
        self._identity = identity
        self._options = list(options)
        self._lock = threading.Lock()
        self._closed = False
        self._revision, self._channel = self._make(identity.current())

    def _make(self, content: IdentityContent) -> tuple[int, grpc.Channel]:
        if not self._identity.speaks_tls:
            return content.revision, grpc.insecure_channel(self._address, options=self._options)
        credentials = grpc.ssl_channel_credentials(content.authorities, content.key, content.certificate)
        if self._identity.files.token_file is not None:
            # Also where the token is renewed: the plug-in asks for it at every call.
            token = grpc.metadata_call_credentials(BearerToken(self._identity), name="token")
            credentials = grpc.composite_channel_credentials(credentials, token)
        # By default gRPC shares connections between channels that look alike: the old certificate would live on.
        options = [*self._options, ("grpc.use_local_subchannel_pool", 1)]
        return content.revision, grpc.secure_channel(self._address, credentials, options=options)

    @contextlib.contextmanager
    def current(self) -> Iterator[grpc.Channel]:
        """The channel of this moment, which is not closed meanwhile.

        Raises:
            ValueError: Once it was closed, as gRPC says it of a call that was made before. Asked for a method that it
                has not made yet, a closed channel of gRPC's ends the process instead.
        """
        with self._lock:
            if self._closed:
                raise ValueError("Cannot invoke RPC on closed channel!")
            content = self._identity.current()
            if content.revision != self._revision:
                self._revision, self._channel = self._make(content)
            yield self._channel

    def _calls(self, kind: str, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return _Calls(self, kind, method, args, kwargs)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """As of ``grpc.Channel``."""
        return self._calls("unary_unary", method, *args, **kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """As of ``grpc.Channel``."""
        return self._calls("unary_stream", method, *args, **kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """As of ``grpc.Channel``."""
        return self._calls("stream_unary", method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """As of ``grpc.Channel``."""
        return self._calls("stream_stream", method, *args, **kwargs)

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """As of ``grpc.Channel``; follows the channel of now."""
        with self.current() as channel:
            channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """As of ``grpc.Channel``."""
        with self.current() as channel:
            channel.unsubscribe(callback)

    def plain_token(self) -> str | None:
        """The token, where no TLS carries it: on loopback, or where a mesh encrypts."""
        return None if self._identity.speaks_tls else self._identity.current().token

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        with self._lock:
            self._closed = True
            self._channel.close()


class _Calls:
    """One method of a stub: each call goes over the channel of its moment."""

    def __init__(
        self, channel: RenewingChannel, kind: str, method: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._kind = kind
        self._method = method
        self._args = args
        self._kwargs = kwargs
        # Of the channel that it was made on; both are read and written while that is held.
        self._made: tuple[grpc.Channel, Any] | None = None

    def _callable(self) -> Any:
        with self._channel.current() as channel:
            if self._made is None or self._made[0] is not channel:
                call = getattr(channel, self._kind)(self._method, *self._args, **self._kwargs)
                self._made = (channel, call)
            return self._made[1]

    def _with_token(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        token = self._channel.plain_token()
        if token is None:
            return kwargs
        metadata = (*(kwargs.get("metadata") or ()), ("authorization", f"Bearer {token}"))
        return {**kwargs, "metadata": metadata}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable()(*args, **self._with_token(kwargs))

    def future(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable().future(*args, **self._with_token(kwargs))

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        return self._callable().with_call(*args, **self._with_token(kwargs))
