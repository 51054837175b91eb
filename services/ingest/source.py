"""What a source of images is to ingest: something that hands out items, one after the other, on one thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from services.core.errors import UnavailableError

Cursor = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PartTrigger:
    """Word from the line that a part is before the cameras: a picture of it is wanted."""

    part_id: str
    product: str
    """Empty takes the camera's configured one."""
    lot: str
    """May be empty."""
    triggered_at_ns: int
    """When the line said so, on its clock. With the part it makes the frame's id."""
    asked_at_ns: int
    """When ingest heard of it, on its own clock."""

    @property
    def not_before_ns(self) -> int:
        """A picture taken from then on shows the part; a line's clock that is ahead does not put it off."""
        return min(self.triggered_at_ns, self.asked_at_ns)


@dataclass(frozen=True, slots=True)
class Item:
    """One image as its source gives it, encoded."""

    image: bytes
    source_item: str
    """What the source calls it. With ``pass_number`` and ``item_time_ns`` it makes the frame's id."""
    pass_number: int
    item_time_ns: int
    """Time of the item that stays the same when it is offered again (file time, position, drawing time)."""
    captured_at_ns: int
    """When the image was taken; for what is replayed, when it was offered."""
    part_text: str = ""
    """The part's name as the source knows it; empty where it does not."""
    cursor: Cursor = field(default_factory=dict)
    """Where the source goes on after this item, when it can."""
    refusal: str = ""
    """Why the image was not taken; then ``image`` is empty."""
    refusal_reason: str = ""
    trigger: PartTrigger | None = None
    """What the picture was taken for; None where the camera runs freely."""


class SourceError(UnavailableError):
    """The camera does not deliver; it is opened again later."""

    reason = "source_unavailable"


class Source(Protocol):
    """A camera, or what stands for one."""

    @property
    def repeats(self) -> bool:
        """Whether it offers the same items again, from a cursor on, after a crash."""
        ...

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever come again."""
        ...

    def open(self, cursor: Cursor) -> None:
        """Begin, or go on behind what ``cursor`` says; may be called again after an error.

        Raises:
            SourceError: When it cannot deliver now.
        """
        ...

    def read(self, timeout_s: float) -> Item | None:
        """The next item, or nothing within ``timeout_s``.

        Raises:
            SourceError: When it no longer delivers.
        """
        ...

    def safe(self, item: Item) -> None:
        """This item is safe (acknowledged or on the spool's disk); called from any thread, in order."""
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...
