"""A frame in a camera's outbox: what was sent of it, and how it becomes safe."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from services.core.errors import SightlineError
from services.core.types import ImageRef, RecordPosition
from services.ingest.outgoing import Outgoing


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a frame is safe."""

    spooled: bool
    image_ref: ImageRef | None = None


OnSafe = Callable[[Receipt], None]


@dataclass(eq=False, slots=True)
class Entry:
    """One frame, with the word of its part that goes ahead of it."""

    outgoing: Outgoing
    on_safe: OnSafe | None
    """Called once; None afterwards."""
    image_ref: ImageRef | None = None
    arrival: Future[RecordPosition] | None = None
    """The word of its part; None where none was sent."""
    sent_s: float = 0.0
    """0 = was not sent yet."""
    unsettled: int = 0
    """Its records that have neither arrived nor failed yet."""
    error: SightlineError | None = None
    """Why one of its records did not arrive."""

    @property
    def acknowledged(self) -> bool:
        """Whether all of its records have arrived."""
        return self.sent_s > 0 and not self.unsettled and self.error is None

    @property
    def under_way(self) -> bool:
        """Whether one of its records may arrive yet."""
        return self.unsettled > 0
