"""A refining map on request: the explainer service's answers as server-sent events.

A map asked for here belongs to the browser that asked: it is neither kept nor written. A browser that leaves ends the
work at the service, and only so many may ask at once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from services.adapters.explainerclient import ExplainCall
from services.core.errors import BusyError, SightlineError, UnavailableError
from services.core.types import Explanation
from services.dashboard.overlays import explanation_png
from services.dashboard.views import Json, encode, error_json, explanation_json
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class Answers(Protocol):
    """The answers to one call."""

    def next(self) -> tuple[Explanation, bool] | None:
        """Wait for the next map; None when nothing follows."""
        ...

    def cancel(self) -> None:
        """End the call, from any thread."""
        ...


class Explainer(Protocol):
    """What is needed of the explainer service."""

    def explain(self, call: ExplainCall, timeout_s: float) -> Answers:
        """Begin to explain one image."""
        ...


class OnDemand:
    """Hands refining maps through. Used from the event loop only."""

    def __init__(self, explainer: Explainer | None, *, timeout_s: float, max_at_once: int) -> None:
        """Set up.

        Args:
            explainer: The service; None where none is set.
            timeout_s: Longest stream.
            max_at_once: Streams at the same time.
        """
        self._explainer = explainer
        self._timeout_s = timeout_s
        self._max_at_once = max_at_once
        self._running = 0
        # A stream occupies a thread for as long as it waits for the next map.
        self._pool = ThreadPoolExecutor(max_at_once, thread_name_prefix="explain")

    @property
    def is_available(self) -> bool:
        """Whether an explainer service is set at all."""
        return self._explainer is not None

    def close(self) -> None:
        """Let go of the threads; streams that run end with their call."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def events(self, call: ExplainCall) -> AsyncGenerator[bytes, None]:
        """Yield ``step`` events and at last ``end``, or ``failed`` with the reason.

        Args:
            call: What to explain.
        """
        try:
            async with contextlib.aclosing(self._steps(call)) as steps:
                async for explanation, final in steps:
                    picture = await asyncio.to_thread(_png, explanation)
                    body = {"explanation": explanation_json(explanation), "png": picture, "final": final}
                    yield _event("step", body)
        except SightlineError as error:
            metrics.DASHBOARD_EXPLAIN.labels(error.reason).inc()
            LOG.info("no map could be made on request: %s", error, extra={"frame_id": call.frame_id})
            yield _event("failed", error_json(error.reason, str(error)))
        else:
            metrics.DASHBOARD_EXPLAIN.labels("answered").inc()
            yield _event("end", {})

    async def _steps(self, call: ExplainCall) -> AsyncGenerator[tuple[Explanation, bool], None]:
        if self._explainer is None:
            raise UnavailableError("explainer.address must be set for maps on request, it is empty")
        if self._running >= self._max_at_once:
            raise BusyError(f"at most {self._max_at_once} maps may be made at once, got one more")
        self._running += 1
        answers: Answers | None = None
        try:
            answers = self._explainer.explain(call, self._timeout_s)
            loop = asyncio.get_running_loop()
            while True:
                step = await loop.run_in_executor(self._pool, answers.next)
                if step is None:
                    return
                yield step
                if step[1]:
                    return
        finally:
            if answers is not None:
                answers.cancel()
            self._running -= 1


def _png(explanation: Explanation) -> str:
    return base64.b64encode(explanation_png(explanation)).decode() if explanation.map.size else ""


def _event(name: str, body: Json) -> bytes:
    return f"event: {name}\ndata: ".encode() + encode(body) + b"\n\n"
