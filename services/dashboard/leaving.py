"""A server that is leaving lets go of its connections, so that it need not be waited for."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.dashboard.stream import LiveStream


class Leaving:
    """Plain ASGI middleware: once the streams drain, every answer is the last one of its connection.

    A browser that was told goodbye comes back within a second. On a connection that is kept alive it comes back to
    the server that is leaving, again and again, and that server waits for the browser as long as it may.
    """

    def __init__(self, app: ASGIApp, stream: LiveStream) -> None:
        self._app = app
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; close its connection behind it while the streams drain."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._stream.is_draining:
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, closing if scope["type"] == "http" else send)
