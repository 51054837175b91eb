"""Files read as items, bounded before they are read."""

from __future__ import annotations

import os
from pathlib import Path

from services.core.errors import ImageTooLargeError
from services.ingest.source import Cursor, Item

UNREADABLE = "file_unreadable"


def read_item(
    path: Path, name: str, *, pass_number: int, cursor: Cursor, max_bytes: int, captured_at_ns: int | None = None
) -> Item | None:
    """Read one file; its bytes are not looked into, so that a bad image gets its verdict like any other.

    Args:
        path: The file.
        name: What the source calls it.
        pass_number: How often the source has offered the folder before.
        cursor: Where the source goes on behind it.
        max_bytes: A larger file is not read; the item says so.
        captured_at_ns: When it was offered; ``None`` takes the file's own time.

    Returns:
        The item, or ``None`` when the file is gone.
    """
    image, refusal, reason = b"", "", ""
    modified_ns = 1
    try:
        stat = path.stat()
        modified_ns = max(1, stat.st_mtime_ns)
        if stat.st_size > max_bytes:
            reason = ImageTooLargeError.reason
            refusal = f"an image must have at most {max_bytes} bytes, got {stat.st_size} in {name}"
        else:
            image = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        reason, refusal = UNREADABLE, f"a file must be readable, got {error.strerror} for {name}"
    return Item(
        image=image,
        source_item=name,
        pass_number=pass_number,
        item_time_ns=modified_ns,
        captured_at_ns=modified_ns if captured_at_ns is None else captured_at_ns,
        part_text=path.stem,
        cursor=cursor,
        refusal=refusal,
        refusal_reason=reason,
    )


def printable(name: str) -> str:
    """A file name as text that any protocol takes; bytes that are no UTF-8 are shown as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
