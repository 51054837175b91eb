"""Files of figures: written whole or not at all, and read again by a run that goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from services.core.errors import ConflictError

SCHEMA: Final = 1


def read_rows(path: Path, conditions: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of a file that a run goes on with.

    Args:
        path: The file.
        conditions: What its figures must hold for.
        names: Fields that tell a row from all others.

    Raises:
        ConflictError: If the file holds anything else than figures of these conditions.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        known, rows = held["conditions"], list(held["rows"])
        keys = [tuple(one[name] for name in names) for one in rows]
    except (ValueError, LookupError, TypeError) as error:
        raise ConflictError(f"{path} must be new or hold figures of detectors: name another file") from error
    if held.get("schema") != SCHEMA or len(set(keys)) != len(keys):
        raise ConflictError(f"{path} must hold figures of schema {SCHEMA}, got {held.get('schema')}")
    if known != conditions:
        differing = [name for name in {**known, **conditions} if known.get(name) != conditions.get(name)]
        raise ConflictError(
            f"{path} holds figures of other conditions ({', '.join(differing)}): name another file, or remove it"
        )
    return rows


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
