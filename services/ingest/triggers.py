"""Parts that wait for their picture: a bounded queue for each triggered camera, and the desk that asks a line's."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from services.core.errors import BusyError, NotFoundError
from services.ingest.source import PartTrigger
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

#: Parts that may wait for their picture at one camera.
MAX_WAITING: Final = 8
#: Parts that a camera remembers, so that one that is asked for again gets no second picture.
MAX_REMEMBERED: Final = 1_000
#: A picture that is read so long after the trigger shows the part, whatever the clock says: it may have been set back.
_SURELY_LATER_S: Final = 2.0
_NS_PER_MS: Final = 1_000_000


class TriggerQueue:
    """The parts that one camera must take a picture of, in the order of their triggers. Thread-safe."""

    def __init__(self, camera_id: str, line_id: str) -> None:
        self.camera_id = camera_id
        self.line_id = line_id
        self._condition = threading.Condition(threading.Lock())
        self._waiting: deque[tuple[float, PartTrigger]] = deque()
        self._remembered: OrderedDict[str, None] = OrderedDict()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether no more pictures will be taken."""
        with self._condition:
            return self._ended

    @property
    def first(self) -> PartTrigger | None:
        """The part whose turn it is; it stays in the queue until its picture is there."""
        with self._condition:
            return self._waiting[0][1] if self._waiting else None

    def has_room(self, part_id: str) -> bool:
        """Whether the part can be put; one that is remembered needs no room."""
        with self._condition:
            return part_id in self._remembered or len(self._waiting) < MAX_WAITING

    def put(self, trigger: PartTrigger) -> None:
        """Add a part at the end; one that is remembered is not added again.

        Raises:
            BusyError: When as many wait as may.
        """
        with self._condition:
            if trigger.part_id in self._remembered:
                self._count("repeated")
                return
            if len(self._waiting) >= MAX_WAITING:
                raise _busy([self.camera_id])
            self._waiting.append((time.monotonic(), trigger))
            self._remembered[trigger.part_id] = None
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
            self._condition.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until a part is there, at most ``timeout_s``; tells whether one is."""
        with self._condition:
            return self._condition.wait_for(lambda: bool(self._waiting), timeout_s)

    def wants(self, captured_at_ns: int) -> bool:
        """Whether a picture that was taken then shows the part whose turn it is.

        Args:
            captured_at_ns: On this machine's clock, nanoseconds since the epoch.
        """
        with self._condition:
            if not self._waiting:
                return False
            since_s, trigger = self._waiting[0]
            return captured_at_ns >= trigger.not_before_ns or time.monotonic() - since_s > _SURELY_LATER_S

    def give_up_before(self, captured_at_ns: int, within_ms: int) -> None:
        """Give up parts that have moved on: a picture taken now would show another part under their name.

        Args:
            captured_at_ns: When the picture was taken, nanoseconds since the epoch.
            within_ms: A part is before the camera for this long after its trigger; 0 gives up none.
        """
        if not within_ms:
            return
        passed: list[PartTrigger] = []
        with self._condition:
            while self._waiting and captured_at_ns - self._waiting[0][1].triggered_at_ns > within_ms * _NS_PER_MS:
                passed.append(self._waiting.popleft()[1])
        for trigger in passed:
            self._count("lost")
            LOG.warning(
                "a part gets no picture: it has moved on before the camera delivered",
                extra={"camera": self.camera_id, "part": trigger.part_id},
            )

    def take(self) -> PartTrigger | None:
        """The part whose turn it is, whose picture is there; None when nobody waits."""
        with self._condition:
            return self._waiting.popleft()[1] if self._waiting else None

    def end(self) -> None:
        """No more pictures will be taken; parts that wait get none. Idempotent."""
        with self._condition:
            self._ended = True
            left = [trigger.part_id for _, trigger in self._waiting]
            self._waiting.clear()
            self._condition.notify_all()
        for part_id in left:
            self._count("lost")
            LOG.warning("a part gets no picture: the camera stopped", extra={"camera": self.camera_id, "part": part_id})

    def taken(self, trigger: PartTrigger, cycle_time_ms: int) -> None:
        """Tell of a picture that was taken, and whether it was late.

        Args:
            trigger: What it was taken for.
            cycle_time_ms: The line's answer is due this long after the trigger; 0 = no deadline.
        """
        late_ms = (time.time_ns() - trigger.triggered_at_ns) / 1e6
        if not cycle_time_ms or late_ms <= cycle_time_ms:
            self._count("taken")
            return
        # Taken all the same: a late answer is put right on record, a part without a picture never is.
        self._count("late")
        LOG.warning(
            "a part's picture is later than its answer is due: %.0f of %d ms",
            late_ms,
            cycle_time_ms,
            extra={"camera": self.camera_id, "part": trigger.part_id},
        )

    def refused(self) -> None:
        """Count a part that found no room."""
        self._count("busy")

    def _count(self, outcome: str) -> None:
        metrics.INGEST_TRIGGERS.labels(self.camera_id, outcome).inc()


class TriggerDesk:
    """Asks the triggered cameras of a line: all of them, or none. Thread-safe."""

    def __init__(self, queues: Iterable[TriggerQueue]) -> None:
        """Wire it.

        Args:
            queues: One for each triggered camera, of any lines.
        """
        self._queues = tuple(queues)
        self._lock = threading.Lock()

    def trigger(self, line_id: str, trigger: PartTrigger) -> tuple[str, ...]:
        """Ask for one picture of a part from each triggered camera of its line.

        Args:
            line_id: The line.
            trigger: The part; one of the last 1000 is answered alike and gets no second picture.

        Returns:
            The cameras that were asked, in the order of the settings.

        Raises:
            NotFoundError: When the line has no triggered camera that still takes pictures.
            BusyError: When too many parts wait at one of them; then none was asked.
        """
        # Held over both looks at the queues: meanwhile they can only become emptier.
        with self._lock:
            queues = [queue for queue in self._queues if queue.line_id == line_id and not queue.ended]
            if not queues:
                raise NotFoundError(f"a line must have triggered cameras to be triggered, got {line_id} without one")
            full = [queue for queue in queues if not queue.has_room(trigger.part_id)]
            for queue in full:
                queue.refused()
            if full:
                raise _busy(queue.camera_id for queue in full)
            for queue in queues:
                queue.put(trigger)
        return tuple(queue.camera_id for queue in queues)


def _busy(camera_ids: Iterable[str]) -> BusyError:
    return BusyError(
        f"at most {MAX_WAITING} parts may wait for their picture at a camera, got one more at {', '.join(camera_ids)}"
    )
