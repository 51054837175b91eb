"""Changes of live versions on record, beside the cases: ``record/changes/<alias>/<revision>.json``.

The JSON is protobuf's own form of ``ModelChange``. One process compares, so one process writes; any may read.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Final

from google.protobuf import json_format
from sightline.v1 import changes_service_pb2

from services.adapters.caserecord import PREFIX
from services.adapters.codec_changes import change_from_message, change_to_message
from services.adapters.ports import ObjectStat, ObjectStore
from services.core.errors import EventDecodeError, InvalidInputError, NotFoundError
from services.core.manifest import validate_alias
from services.core.model_change import ModelChange

_CHANGES: Final = f"{PREFIX}changes/"
_MAX_BYTES: Final = 16_000_000
_KEY = re.compile(r"record/changes/([a-z0-9._-]{1,63})/([1-9]\d{0,17})\.json\Z", re.ASCII)
# Parts and frames that are kept ready: some 20 MB.
_KEPT: Final = 20_000

_Stamp = tuple[int, int]


class ChangeRecord:
    """Reads and writes changes. Thread-safe, as its store is.

    Args:
        store: Where they lie.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[_Stamp, ModelChange]] = OrderedDict()

    def put(self, change: ModelChange) -> None:
        """Write a change in place of what is known of it.

        Raises:
            InvalidInputError: If it is too large.
            UnavailableError: If the store does not answer.
        """
        key = _key(change.alias, change.revision)
        message = change_to_message(change)
        change_from_message(message)
        data = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=1).encode()
        if len(data) > _MAX_BYTES:
            raise InvalidInputError(f"a change on record must have at most {_MAX_BYTES} bytes, got {len(data)}")
        self._store.put(key, data, content_type="application/json")
        with self._lock:
            self._kept.pop(key, None)

    def revisions(self, alias: str = "") -> dict[str, list[int]]:
        """List the changes on record by alias, the newest first.

        Args:
            alias: Only of this one; empty lists all.

        Raises:
            InvalidInputError: If the alias is none.
            UnavailableError: If the store does not answer.
        """
        found: dict[str, list[int]] = {}
        for stat in self._store.list(f"{_CHANGES}{validate_alias(alias)}/" if alias else _CHANGES):
            key = _KEY.match(stat.key)
            if key is not None:
                found.setdefault(key.group(1), []).append(int(key.group(2)))
        return {name: sorted(revisions, reverse=True) for name, revisions in sorted(found.items())}

    def get(self, alias: str, revision: int) -> ModelChange:
        """Read a change; one that was read before and has not changed is not read again.

        Raises:
            InvalidInputError: If the alias or the revision is none.
            NotFoundError: If it is not on record.
            EventDecodeError: If what lies there is not that change.
            UnavailableError: If the store does not answer.
        """
        key = _key(alias, revision)
        try:
            stamp = _stamp(self._store.stat(key))
        except NotFoundError:
            raise NotFoundError(f"a change must be on record, got {alias} revision {revision}") from None
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == stamp:
                self._kept.move_to_end(key)
                return kept[1]
        change = self._read(key, alias, revision)
        with self._lock:
            self._kept[key] = (stamp, change)
            while len(self._kept) > 1 and sum(one.planned + 1 for _, one in self._kept.values()) > _KEPT:
                self._kept.popitem(last=False)
        return change

    def _read(self, key: str, alias: str, revision: int) -> ModelChange:
        data = self._store.get(key, max_bytes=_MAX_BYTES)
        try:
            # A later release may have written more, before somebody went back to this one.
            message = json_format.Parse(data, changes_service_pb2.ModelChange(), ignore_unknown_fields=True)
        except (json_format.ParseError, UnicodeDecodeError) as error:
            why = " ".join(str(error).split())[:200]
            raise EventDecodeError(f"{key}: an object must hold a ModelChange as JSON: {why}") from error
        try:
            change = change_from_message(message)
        except EventDecodeError as error:
            raise EventDecodeError(f"{key}: {error}") from error
        if (change.alias, change.revision) != (alias, revision):
            raise EventDecodeError(
                f"{key}: must hold {alias} revision {revision}, got {change.alias} revision {change.revision}"
            )
        return change


def _stamp(stat: ObjectStat) -> _Stamp:
    return stat.size_bytes, stat.modified_ns


def _key(alias: str, revision: int) -> str:
    if revision < 1:
        raise InvalidInputError(f"revision must be >= 1, got {revision}")
    return f"{_CHANGES}{validate_alias(alias)}/{revision}.json"
