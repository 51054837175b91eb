"""Asks for pictures of parts that the line has triggered: says that the part is there, then asks the cameras."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from services.core.errors import SightlineError
from services.core.outcome import Arrival
from services.core.plc import TriggeredPart
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_MAX_WAITING: Final = 64
_NS_PER_MS: Final = 1_000_000

Announce = Callable[[Arrival], None]
OnRefused = Callable[[str, str], None]


class Cameras(Protocol):
    """Takes pictures of a part; ``services.adapters.ingestclient`` does."""

    def trigger(self, line_id: str, part_id: str, product: str, lot: str, triggered_at_ns: int) -> tuple[str, ...]:
        """Ask a line's cameras for a picture; raises ``SightlineError`` where none will come."""
        ...


@dataclass(frozen=True, slots=True)
class _Order:
    part: TriggeredPart
    on_refused: OnRefused


class PictureAsker:
    """Asks on a thread of its own, in order; whoever triggers is not kept waiting. Thread-safe.

    Args:
        line_id: Of all its parts.
        announce: Puts the word on record that a part is there.
        cameras: Asked for pictures; None where the cameras see the trigger themselves.
    """

    def __init__(self, line_id: str, announce: Announce, cameras: Cameras | None) -> None:
        self._line_id = line_id
        self._announce = announce
        self._cameras = cameras
        self._orders: queue.Queue[_Order | None] = queue.Queue(_MAX_WAITING)
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"ask-{line_id}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the asking, if anything did."""
        if self._failure is not None:
            raise self._failure

    def ask(self, part: TriggeredPart, on_refused: OnRefused) -> None:
        """Have pictures of a part taken; returns at once.

        Args:
            part: Triggered.
            on_refused: Told of the part, with why, where no picture will come.
        """
        self._announce(
            Arrival(
                part_id=part.part_id,
                line_id=self._line_id,
                product=part.product,
                arrived_at_ns=part.triggered_at_ns,
                cycle_time_ms=(part.deadline_at_ns - part.triggered_at_ns) // _NS_PER_MS,
                lot=part.lot,
            )
        )
        if self._cameras is None or not part.pictured:
            return
        try:
            self._orders.put_nowait(_Order(part, on_refused))
        except queue.Full:
            on_refused(part.part_id, f"at most {_MAX_WAITING} parts may wait for their pictures")

    def close(self) -> None:
        """Ask no more; idempotent."""
        self._stopping.set()
        # Where there is no room for it, an order that waits wakes the thread as well.
        with contextlib.suppress(queue.Full):
            self._orders.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        try:
            while (order := self._orders.get()) is not None and not self._stopping.is_set():
                self._ask_cameras(order)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread and raised there
            self._failure = error

    def _ask_cameras(self, order: _Order) -> None:
        part = order.part
        try:
            if self._cameras is not None:
                self._cameras.trigger(self._line_id, part.part_id, part.product, part.lot, part.triggered_at_ns)
        except SightlineError as error:
            LOG.warning("no picture of %s will come: %s", part.part_id, error, extra={"reason": error.reason})
            order.on_refused(part.part_id, str(error))
