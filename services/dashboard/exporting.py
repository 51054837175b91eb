"""Archives of cases on their way to the browser: one piece is asked for when the one before has gone out.

So a browser that is slow makes the feedback service wait, and nothing is kept for it here. What breaks on the way ends
the connection without its end mark, which a browser shows as a download that failed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from services.adapters.exportorder import ExportOrder, ExportPiece
from services.core.errors import BusyError, SightlineError
from services.dashboard.reviewing import NoFeedbackError
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class ExportPieces(Protocol):
    """The pieces of one archive."""

    def next(self) -> ExportPiece | None:
        """Wait for the next piece; None when nothing follows."""
        ...

    def cancel(self) -> None:
        """End the work, from any thread."""
        ...


class ExportService(Protocol):
    """What is needed of the export service; see ``services.adapters.exportclient``."""

    def export(self, order: ExportOrder) -> ExportPieces:
        """Begin an export."""
        ...


class Exports:
    """Begins exports, only so many at once. Used from the event loop only."""

    def __init__(self, service: ExportService | None, *, max_at_once: int) -> None:
        """Set up.

        Args:
            service: Makes the archives; None where none is set.
            max_at_once: Exports at the same time.
        """
        self._service = service
        self._max_at_once = max_at_once
        self.running = 0
        # An export occupies a thread while it waits for the next piece.
        self._pool = ThreadPoolExecutor(max_at_once, thread_name_prefix="export")

    def close(self) -> None:
        """Let go of the threads; exports that run end with their browser."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def begin(self, order: ExportOrder) -> RunningExport:
        """Begin an export and wait for its first piece, so that a refusal can still be told as one.

        Args:
            order: What it holds.

        Raises:
            NoFeedbackError: No service is set.
            BusyError: As many run as may.
            SightlineError: What the service says to it.
        """
        if self._service is None:
            raise NoFeedbackError("feedback.address must be set for exports, it is empty")
        if self.running >= self._max_at_once:
            raise BusyError(f"at most {self._max_at_once} exports may run at once, got one more")
        self.running += 1
        run = RunningExport(self, self._service.export(order))
        try:
            await run.fetch()
        except BaseException:
            run.close()
            raise
        return run

    async def ask(self, pieces: ExportPieces) -> ExportPiece | None:
        """Wait on a thread for the next piece."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, pieces.next)


class RunningExport:
    """One export, with the next piece at hand."""

    def __init__(self, exports: Exports, pieces: ExportPieces) -> None:
        self._exports = exports
        self._pieces = pieces
        self._open = True
        self.ready: ExportPiece | None = None
        """The next piece; None when nothing follows."""

    async def fetch(self) -> None:
        """Put the piece after it in its place."""
        self.ready = await self._exports.ask(self._pieces)

    def close(self) -> None:
        """End the work, done or not; idempotent."""
        if self._open:
            self._open = False
            self._exports.running -= 1
            self._pieces.cancel()


class ArchiveResponse(Response):
    """Sends an archive as it is made; ends it only where it is whole."""

    media_type = "application/zip"

    def __init__(self, run: RunningExport, filename: str, stall_s: float) -> None:
        """Set up.

        Args:
            run: The export; closed at the end, however it ends.
            filename: What the browser calls it.
            stall_s: A browser that takes nothing for this long is left.
        """
        headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{filename}"'}
        super().__init__(headers={**headers, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._run = run
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pump pieces until they end, the browser leaves or stops reading, or the service breaks off."""
        del scope
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, gone):
                task.cancel()
            self._run.close()
            await asyncio.gather(pump, gone, return_exceptions=True)
        if pump.cancelled() or (error := pump.exception()) is None:
            return
        # Without its end mark the answer is broken, and the server closes the connection.
        if isinstance(error, TimeoutError):
            LOG.info("a browser took nothing of an export for %.0f s and was disconnected", self._stall_s)
        elif isinstance(error, SightlineError):
            LOG.warning("an export broke off: %s", error, extra={"reason": error.reason})
        else:
            raise error

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while self._run.ready is not None:
            message = {"type": "http.response.body", "body": self._run.ready.data, "more_body": True}
            await asyncio.wait_for(send(message), self._stall_s)
            await self._run.fetch()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
