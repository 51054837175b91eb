"""Runs of the trainer on record in the object store, and the data sets that they learnt from.

::

    training/runs/<alias>/<run_id>.json        a run, in place of what was known of it
    training/snapshots/<sha256>.json           a data set, once each
    training/learnt/<alias>.json               the answers that stood when the alias' last data set was made
    training/wishes/<run_id>.json              who wants a run to end; whoever holds the alias ends it

The JSON of a run is protobuf's own form of ``TrainingRun``. One process writes a run, whoever holds its alias; any may
read.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from typing import Final

from google.protobuf import json_format
from sightline.v1 import trainer_service_pb2

from services.adapters.codec_training import run_from_message, run_to_message
from services.adapters.ports import ObjectStat, ObjectStore
from services.core.errors import ConflictError, EventDecodeError, InvalidInputError, NotFoundError, SightlineError
from services.core.manifest import validate_alias
from services.core.training_run import TrainingRun, validate_run_id

PREFIX: Final = "training/"
_RUNS: Final = f"{PREFIX}runs/"
_SNAPSHOTS: Final = f"{PREFIX}snapshots/"
_LEARNT: Final = f"{PREFIX}learnt/"
_WISHES: Final = f"{PREFIX}wishes/"
_MAX_WISH_BYTES: Final = 4_096
_MAX_RUN_BYTES: Final = 16_000_000
_MAX_SNAPSHOT_BYTES: Final = 256_000_000
_KEY = re.compile(r"training/runs/([a-z0-9._-]{1,63})/([0-9a-f-]{36})\.json\Z", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)
# Parts of reports that are kept ready: some 20 MB.
_KEPT: Final = 20_000

Damaged = Callable[[str, SightlineError], None]
"""Told of an object that cannot be read, with its key."""
_Stamp = tuple[int, int]


class TrainingRecord:
    """Reads and writes runs. Thread-safe, as its store is.

    Args:
        store: Where they lie.
        on_damaged: Told of a run that cannot be read; the others are given all the same.
    """

    def __init__(self, store: ObjectStore, on_damaged: Damaged = lambda _key, _error: None) -> None:
        self._store = store
        self._on_damaged = on_damaged
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[_Stamp, TrainingRun]] = OrderedDict()

    # ---- runs

    def put(self, run: TrainingRun) -> None:
        """Write a run in place of what is known of it.

        Raises:
            InvalidInputError: If it is too large, or could not be read again.
            UnavailableError: If the store does not answer.
        """
        key = _key(run.alias, run.run_id)
        message = run_to_message(run)
        run_from_message(message)
        data = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=1).encode()
        if len(data) > _MAX_RUN_BYTES:
            raise InvalidInputError(f"a run on record must have at most {_MAX_RUN_BYTES} bytes, got {len(data)}")
        self._store.put(key, data, content_type="application/json")
        with self._lock:
            self._kept.pop(key, None)

    def get(self, alias: str, run_id: str) -> TrainingRun:
        """Read a run; one that was read before and has not changed is not read again.

        Raises:
            InvalidInputError: If the alias or the id is none.
            NotFoundError: If it is not on record.
            EventDecodeError: If what lies there is not that run.
            UnavailableError: If the store does not answer.
        """
        key = _key(alias, run_id)
        try:
            stamp = _stamp(self._store.stat(key))
        except NotFoundError:
            raise NotFoundError(f"a run must be on record, got {run_id} of {alias}") from None
        return self._of(key, stamp)

    def find(self, run_id: str) -> TrainingRun:
        """Read a run of whatever alias; raises as :meth:`get` does."""
        validate_run_id(run_id)
        for key, stamp in self._keys(""):
            if key.endswith(f"/{run_id}.json"):
                return self._of(key, stamp)
        raise NotFoundError(f"a run must be on record, got {run_id}")

    def newest(self, alias: str) -> Iterator[TrainingRun]:
        """Read the runs of an alias one by one, the newest first; what is damaged is told and left out.

        Args:
            alias: Of which alias; empty takes all.

        Raises:
            InvalidInputError: If the alias is none.
            UnavailableError: If the store does not answer.
        """
        yield from self._newest(self._keys(alias))

    def page(self, *, alias: str = "", author: str = "", limit: int, token: str = "") -> tuple[list[TrainingRun], str]:
        """Read some runs, the newest first; what is damaged is told and left out.

        Args:
            alias: Of which alias; empty takes all.
            author: Only those that carry answers of this person; empty takes all.
            limit: Most of them, at least 1.
            token: Of an earlier page; empty for the first.

        Returns:
            The runs, and the token of the next page; empty where nothing follows.

        Raises:
            InvalidInputError: For a token that is none, or an alias that is none.
            UnavailableError: If the store does not answer.
        """
        if token:
            try:
                validate_run_id(token)
            except InvalidInputError as error:
                raise InvalidInputError(f"page_token must be one of an earlier answer, got {token[:80]!a}") from error
        keys = [(key, stamp) for key, stamp in self._keys(alias) if not token or _run_id(key) < token]
        found: list[TrainingRun] = []
        for run in self._newest(keys):
            if author and author not in run.authors:
                continue
            if len(found) == limit:
                return found, found[-1].run_id
            found.append(run)
        return found, ""

    def aliases(self) -> tuple[str, ...]:
        """Every alias with a run on record."""
        return tuple(sorted({key[len(_RUNS) :].split("/")[0] for key, _ in self._keys("")}))

    def _newest(self, keys: list[tuple[str, _Stamp]]) -> Iterator[TrainingRun]:
        for key, stamp in keys:
            try:
                yield self._of(key, stamp)
            except (InvalidInputError, NotFoundError) as error:
                # One that is damaged keeps nobody from the others.
                self._on_damaged(key, error)

    def _keys(self, alias: str) -> list[tuple[str, _Stamp]]:
        found = self._store.list(f"{_RUNS}{validate_alias(alias)}/" if alias else _RUNS)
        keys = [(stat.key, _stamp(stat)) for stat in found if _KEY.match(stat.key)]
        return sorted(keys, key=lambda one: _run_id(one[0]), reverse=True)

    def _of(self, key: str, stamp: _Stamp) -> TrainingRun:
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == stamp:
                self._kept.move_to_end(key)
                return kept[1]
        run = self._read(key)
        # A run that goes on may change twice within the store's clock: only what has ended stays as it is.
        if run.has_ended:
            with self._lock:
                self._kept[key] = (stamp, run)
                while len(self._kept) > 1 and sum(_weight(one) for _, one in self._kept.values()) > _KEPT:
                    self._kept.popitem(last=False)
        return run

    def _read(self, key: str) -> TrainingRun:
        named = _KEY.match(key)
        if named is None:
            raise EventDecodeError(f"below {_RUNS} must lie <alias>/<run_id>.json, got {key[:200]!a}")
        data = self._store.get(key, max_bytes=_MAX_RUN_BYTES)
        try:
            # A later release may have written more, before somebody went back to this one.
            message = json_format.Parse(data, trainer_service_pb2.TrainingRun(), ignore_unknown_fields=True)
            run = run_from_message(message)
        except (json_format.ParseError, UnicodeDecodeError) as error:
            why = " ".join(str(error).split())[:200]
            raise EventDecodeError(f"{key}: an object must hold a TrainingRun as JSON: {why}") from error
        except EventDecodeError as error:
            raise EventDecodeError(f"{key}: {error}") from error
        if (run.alias, run.run_id) != named.groups():
            raise EventDecodeError(f"{key}: must hold that run, got {run.run_id} of {run.alias}")
        return run

    # ---- what they learnt from

    def put_snapshot(self, digest: str, data: bytes) -> None:
        """Keep a data set; what lies there already is not written again.

        Args:
            digest: SHA-256 of ``data``.
            data: As ``Snapshot.to_json`` gives it.

        Raises:
            InvalidInputError: If the digest is that of something else.
            UnavailableError: If the store does not answer.
        """
        key = _snapshot_key(digest)
        _check_digest(key, digest, data)
        try:
            self._store.put_new(key, data, content_type="application/json")
        except ConflictError:
            return

    def snapshot(self, digest: str) -> bytes:
        """Read a data set.

        Raises:
            InvalidInputError: If the digest is none, or what lies there is something else.
            NotFoundError: If nothing lies there.
            UnavailableError: If the store does not answer.
        """
        key = _snapshot_key(digest)
        data = self._store.get(key, max_bytes=_MAX_SNAPSHOT_BYTES)
        _check_digest(key, digest, data)
        return data

    # ---- what was learnt from last, and who wants a run to end

    def put_learnt(self, alias: str, review_ids: Collection[str]) -> None:
        """Note the answers that stood when the alias' last data set was made.

        Raises:
            UnavailableError: If the store does not answer.
        """
        data = json.dumps({"review_ids": sorted(review_ids)}).encode()
        self._store.put(f"{_LEARNT}{validate_alias(alias)}.json", data, content_type="application/json")

    def learnt(self, alias: str) -> frozenset[str]:
        """The answers that stood when the alias' last data set was made; none where there is no such note.

        Raises:
            UnavailableError: If the store does not answer.
        """
        key = f"{_LEARNT}{validate_alias(alias)}.json"
        try:
            return frozenset(str(one) for one in json.loads(self._store.get(key))["review_ids"])
        except NotFoundError:
            return frozenset()
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            # Then all answers count as new: a run too many does no harm.
            self._on_damaged(key, EventDecodeError(f"{key}: must hold review_ids as JSON, got {error}"))
            return frozenset()

    def wish_end(self, run_id: str, actor: str) -> None:
        """Note who wants a run to end.

        Raises:
            InvalidInputError: If the id is none.
            UnavailableError: If the store does not answer.
        """
        data = json.dumps({"actor": actor}).encode()
        self._store.put(_wish_key(run_id), data, content_type="application/json")

    def end_wished_by(self, run_id: str) -> str:
        """Who wants a run to end; empty where nobody does.

        Raises:
            UnavailableError: If the store does not answer.
        """
        key = _wish_key(run_id)
        try:
            return str(json.loads(self._store.get(key, max_bytes=_MAX_WISH_BYTES))["actor"])
        except NotFoundError:
            return ""
        except (ValueError, KeyError, TypeError, RecursionError, InvalidInputError) as error:
            self._on_damaged(key, EventDecodeError(f"{key}: must hold an actor as JSON, got {error}"))
            return ""

    def forget_wish(self, run_id: str) -> None:
        """Nobody wants the run to end any more; raises ``UnavailableError``."""
        self._store.delete([_wish_key(run_id)])


def _wish_key(run_id: str) -> str:
    return f"{_WISHES}{validate_run_id(run_id)}.json"


def _run_id(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".json")


def _weight(run: TrainingRun) -> int:
    return 1 + (len(run.report.flips) + len(run.report.answered) if run.report else 0)


def _stamp(stat: ObjectStat) -> _Stamp:
    return stat.size_bytes, stat.modified_ns


def _key(alias: str, run_id: str) -> str:
    return f"{_RUNS}{validate_alias(alias)}/{validate_run_id(run_id)}.json"


def _snapshot_key(digest: str) -> str:
    if _DIGEST.match(digest) is None:
        raise InvalidInputError(f"a snapshot is named by 64 lower-case hex digits, got {digest[:80]!a}")
    return f"{_SNAPSHOTS}{digest}.json"


def _check_digest(key: str, digest: str, data: bytes) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise EventDecodeError(f"{key} must hold what its SHA-256 says, got {found}")
