"""What a backup holds, and in which order it is read and written.

Whatever names something else is read first and written last: a case is written after its picture, a review after its
case, an alias points to a version after that lies in the store. So what a backup that was taken from a running system
has read names only what was there already; and as nothing of the record is ever removed, it is still there when its
turn comes. A restore goes the other way, so that nobody ever finds a name without what it names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.core.topics import LINE_EVENTS, MODELS

#: Prefixes of the record, those first whose objects name others.
RECORD: Final = (
    "training/",
    "record/changes/",
    "record/reviews/",
    "record/cases/",
    "record/masks/",
    "record/images/",
    "models/",
)

#: Pictures that expire; only on demand.
EXPIRING: Final = ("cases/", "frames/")

#: Of a process that lives, not of the record: whoever comes after a restore must not wait for it.
LEFT_OUT: Final = ("training/leases/",)

#: Topics that lie nowhere else, those last that name objects.
TOPICS: Final = (LINE_EVENTS, MODELS)

ACCOUNTS: Final = "accounts"
COUNTS: Final = "counts"

#: Says in the bucket that a restore was begun and is not done.
MARKER: Final = "restore/unfinished.json"


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much was saved or restored."""

    name: str
    """Of the backup."""
    objects: int
    object_bytes: int
    moved_objects: int
    """Those that were not there already."""
    moved_bytes: int
    records: int
    rows: int
    gone: tuple[str, ...] = ()
    """Keys that were listed and could not be read any more."""
