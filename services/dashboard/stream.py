"""The live stream: server-sent events, batched, resumable, and bounded whatever a browser does.

Nothing is queued per browser. Each holds a cursor into the model's bounded log of accepted verdicts: one that is slow
gets larger batches less often, one that falls out of the log gets a fresh snapshot, one that takes nothing at all is
disconnected after ``send_timeout_s``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex
from services.dashboard.lines import Lines
from services.dashboard.live import LiveModel
from services.dashboard.settings import LiveSettings
from services.dashboard.views import Json, components_json, encode, inspection_json, stats_json, wall_json
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_RETRY_MS = 1_000
_NEW_POINTS = 3
_ANSWERS_EVERY_S = 1.0
_LINES_EVERY_S = 5.0
_CACHED = 16


class LiveStream:
    """Turns the model's changes into events. Used from the event loop only, :meth:`drain` aside."""

    def __init__(
        self,
        model: LiveModel,
        board: ComponentBoard,
        explanations: ExplanationIndex,
        lines: Lines,
        settings: LiveSettings,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._model = model
        self._board = board
        self._explanations = explanations
        self._lines = lines
        self._settings = settings
        self._clock_ns = clock_ns
        self._epoch = secrets.token_hex(6)
        self.open_streams = 0
        self.by_person: Counter[str] = Counter()
        self._draining = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        # Browsers at the same place get the same bytes, encoded once.
        self._cache: OrderedDict[tuple[object, ...], tuple[int, bytes]] = OrderedDict()

    def wall(self, line_id: str | None) -> Json:
        """The whole wall with the health of the line's parts."""
        now_ns = self._clock_ns()
        body = wall_json(
            self._model.wall(now_ns, line_id),
            at_ns=now_ns,
            epoch=self._epoch,
            stale_s=self._settings.stale_s,
            max_parts=self._settings.max_snapshot_parts,
        )
        body["components"] = components_json(self._board.read())
        return body

    async def events(self, last_event_id: str, line_id: str | None, who: str = "") -> AsyncGenerator[bytes, None]:
        """Yield events for one browser until it leaves or the service drains.

        Args:
            last_event_id: As the browser sends it on a reconnect; anything unknown gets a snapshot.
            line_id: Only this line.
            who: The person, whose streams are counted; empty where nobody signs in.
        """
        self._loop = asyncio.get_running_loop()
        yield f"retry: {_RETRY_MS}\n\n".encode()
        self.open_streams += 1
        self.by_person[who] += 1
        metrics.DASHBOARD_CLIENTS.set(self.open_streams)
        try:
            async for chunk in self._follow(self._cursor(last_event_id), line_id):
                yield chunk
            yield b"event: bye\ndata: {}\n\n"
        finally:
            self.open_streams -= 1
            self.by_person[who] -= 1
            if not self.by_person[who]:
                del self.by_person[who]
            metrics.DASHBOARD_CLIENTS.set(self.open_streams)

    async def _follow(self, cursor: int | None, line_id: str | None) -> AsyncIterator[bytes]:
        next_stats_s = 0.0
        state = answers = -1
        lines_told_s = time.monotonic()
        # A page that was away asks for its part anew, so nothing is caught up on here.
        explained = self._explanations.revision
        while not self._draining.is_set():
            cursor, chunk = self._changes(cursor, line_id)
            if chunk:
                yield chunk
            if explained != self._explanations.revision:
                explained, announced = self._announce(explained)
                yield announced
            if self._lines.is_offered:
                # A light or an alarm is told at once; answers that come many times a second need not be, and ages and
                # counts of a line on which nothing happens are told now and then.
                now_s = time.monotonic()
                answered = answers != self._lines.book.revision and now_s - lines_told_s >= _ANSWERS_EVERY_S
                if state != self._lines.state_revision or answered or now_s - lines_told_s >= _LINES_EVERY_S:
                    state, answers, told = self._tell_lines()
                    lines_told_s = now_s
                    yield told
            if time.monotonic() >= next_stats_s:
                yield self._stats(line_id)
                next_stats_s = time.monotonic() + self._settings.stats_interval_s
            await self._pause()

    @property
    def is_draining(self) -> bool:
        """Whether every browser is told to come back later."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Tell every browser to come back later, and end the streams; callable from any thread."""
        if self._loop is None:
            self._draining.set()
        else:
            self._loop.call_soon_threadsafe(self._draining.set)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self._draining.wait(), self._settings.batch_interval_s)
        except TimeoutError:
            return

    def _cursor(self, last_event_id: str) -> int | None:
        epoch, _, revision = last_event_id.partition("-")
        if epoch != self._epoch or not (revision.isascii() and revision.isdigit() and len(revision) < 20):
            return None
        return int(revision)

    def _changes(self, cursor: int | None, line_id: str | None) -> tuple[int, bytes]:
        if cursor is None:
            # Never from the cache: a quiet line keeps its revision while the figures age.
            return self._encode_changes(cursor, line_id)
        if cursor == self._model.revision:
            return cursor, b""
        key = ("changes", cursor, line_id, self._model.revision)
        cached = self._cache.get(key)
        if cached is None:
            cached = self._encode_changes(cursor, line_id)
            self._remember(key, cached)
        return cached

    def _encode_changes(self, cursor: int | None, line_id: str | None) -> tuple[int, bytes]:
        fresh = None if cursor is None else self._model.since(cursor, line_id)
        if fresh is None:
            body = self.wall(line_id)
            return body["revision"], self._event("snapshot", body["revision"], encode(body))
        revision, inspections = fresh
        if not inspections:
            # Only other lines moved; the cursor moves without a word.
            return revision, b""
        newest = inspections[-self._settings.max_snapshot_parts :]
        body = {"at_ms": self._clock_ns() // 1_000_000, "verdicts": [inspection_json(one) for one in newest]}
        return revision, self._event("batch", revision, encode(body))

    def _announce(self, cursor: int) -> tuple[int, bytes]:
        """Say whose explanations have come; ``null`` instead of ids when there were too many to name."""
        key = ("explained", cursor, self._explanations.revision)
        cached = self._cache.get(key)
        if cached is None:
            revision, frame_ids = self._explanations.since(cursor)
            cached = (revision, b"event: explained\ndata: " + encode({"frame_ids": frame_ids}) + b"\n\n")
            self._remember(key, cached)
        return cached

    def _tell_lines(self) -> tuple[int, int, bytes]:
        """Say how every line is, with its newest answer."""
        state, answers = self._lines.state_revision, self._lines.book.revision
        key = ("lines", state, answers, int(time.monotonic() / _ANSWERS_EVERY_S))
        cached = self._cache.get(key)
        if cached is None:
            cached = (0, b"event: lines\ndata: " + encode(self._lines.view()) + b"\n\n")
            self._remember(key, cached)
        return state, answers, cached[1]

    def _stats(self, line_id: str | None) -> bytes:
        # All browsers share one computation per interval.
        slot = int(time.monotonic() / self._settings.stats_interval_s)
        key = ("stats", line_id, slot)
        cached = self._cache.get(key)
        if cached is None:
            now_ns = self._clock_ns()
            body = stats_json(self._model.wall(now_ns, line_id, _NEW_POINTS), at_ns=now_ns)
            body["components"] = components_json(self._board.read())
            cached = (0, b"event: stats\ndata: " + encode(body) + b"\n\n")
            self._remember(key, cached)
        return cached[1]

    def _remember(self, key: tuple[object, ...], value: tuple[int, bytes]) -> None:
        self._cache[key] = value
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)

    def _event(self, name: str, revision: int, data: bytes) -> bytes:
        return f"id: {self._epoch}-{revision}\nevent: {name}\ndata: ".encode() + data + b"\n\n"


class EventStreamResponse(Response):
    """Sends events as they come; gives up on a browser that does not take them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], send_timeout_s: float) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pump events until they end, the browser leaves or stops reading."""
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pump, gone):
                task.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
            await self._events.aclose()
        if pump.done() and not pump.cancelled() and (error := pump.exception()) is not None:
            if not isinstance(error, TimeoutError):
                raise error
            LOG.info("a browser took no data for %.0f s and was disconnected", self._send_timeout_s)

    async def _pump(self, send: Send) -> None:
        async for chunk in self._events:
            message = {"type": "http.response.body", "body": chunk, "more_body": True}
            await asyncio.wait_for(send(message), self._send_timeout_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
