"""What the models saw in frames and cases, in the case index's database, behind the ``EmbeddingIndex`` port.

The table has everything; what is searched of it is kept in memory by model version, read when first asked for and
brought up to date with each question. Several processes may write to one table, and each keeps its own.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BindParameter, ColumnElement, Connection, Row, Select, bindparam, delete, func, insert, select

from services.adapters.caseindex_database import Database
from services.adapters.caseindex_schema import BUCKETS, CASES, EMBEDDINGS, NAMES, REVIEWER
from services.adapters.codec import decode_inspection, encode_inspection
from services.adapters.embeddingsearch import CLASS_KEYS, Rows, VersionEmbeddings, row_bytes, set_threads
from services.adapters.ports import KeptEmbedding, NearestEmbeddings, NeighbourQuery
from services.core.errors import NotFoundError
from services.core.neighbours import Candidate, Relation, predicted_class

LOG = logging.getLogger(__name__)

#: Rows of one statement; SQLite takes at most 32 766 values in one.
_CHUNK: Final = 1_000
_PAGE: Final = 4_096
#: Rows of one deletion: each has a turn of its own among the writers.
_FORGOTTEN_AT_ONCE: Final = 2_000
#: What is never found again is let go once it is such a share of what is in memory.
_DEAD_SHARE: Final = 0.2

#: By what the table of cases calls a verdict.
_CLASS_OF: Final = {verdict.value: key for verdict, key in CLASS_KEYS.items() if verdict is not None}

Version = tuple[str, int]


class SqlEmbeddingIndex:
    """An ``EmbeddingIndex`` in a database. Thread-safe.

    Args:
        database: Of the case index.
        max_per_version: Most embeddings of one model version; the oldest go, those of frames before those of cases.
        exact_up_to: So many embeddings of a version are compared one by one; with more an approximate index is asked.
        max_bytes: What all versions in memory may take; the least recently asked ones go, and of one that is larger by
            itself the newest part is searched.
        threads: Of one question, 1 or 2, and of building an inverted file.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_per_version: int = 100_000,
        exact_up_to: int = 100_000,
        max_bytes: int = 600_000_000,
        threads: int = 2,
    ) -> None:
        self._database = database
        self._max_per_version = max_per_version
        self._exact_up_to = exact_up_to
        self._max_bytes = max_bytes
        self._lengths: dict[Version, int] = {}
        self._lock = threading.Lock()
        self._versions: OrderedDict[Version, VersionEmbeddings] = OrderedDict()
        set_threads(threads)
        self._beside = ThreadPoolExecutor(1, "neighbours") if threads > 1 else None

    # ---- writing

    def put(self, embeddings: Sequence[KeptEmbedding]) -> int:
        """Keep embeddings; see ``EmbeddingIndex.put``."""
        newest: dict[str, KeptEmbedding] = {}
        for one in embeddings:
            known = newest.get(one.case_id)
            if known is None or one.expires_at_ns == 0:
                newest[one.case_id] = one
        ids = list(newest)
        left_out = 0
        if not ids:
            return 0
        with self._database.write() as connection:
            for start in range(0, len(ids), _CHUNK):
                left_out += self._put(connection, [newest[one] for one in ids[start : start + _CHUNK]])
        return left_out

    def _put(self, connection: Connection, embeddings: Sequence[KeptEmbedding]) -> int:
        wanted = select(EMBEDDINGS.c.case_id, EMBEDDINGS.c.expires_at_ns).where(
            EMBEDDINGS.c.case_id.in_([one.case_id for one in embeddings])
        )
        known = {row.case_id: row.expires_at_ns for row in connection.execute(wanted)}
        # A frame that is known stays as it is: it would only be forgotten later than it should.
        fresh = [
            one for one in embeddings if one.case_id not in known or (known[one.case_id] and not one.expires_at_ns)
        ]
        fitting = [one for one in fresh if self._fits(connection, one)]
        replaced = [one.case_id for one in fitting if one.case_id in known]
        if replaced:
            # In a new place, so that those who know the last one learn of it.
            connection.execute(delete(EMBEDDINGS).where(EMBEDDINGS.c.case_id.in_(replaced)))
        if fitting:
            connection.execute(insert(EMBEDDINGS), [_row(one) for one in fitting])
        return len(fresh) - len(fitting)

    def _fits(self, connection: Connection, one: KeptEmbedding) -> bool:
        """Whether an embedding is as long as the others of its version; the first one decides."""
        version = (one.inspection.alias, one.inspection.model_version)
        length = self._lengths.get(version)
        if length is None:
            length = _length(connection, version) or len(one.embedding)
            self._lengths[version] = length
        return len(one.embedding) == length

    def tidy(self, now_ns: int) -> int:
        """Forget what has expired and what is beyond the bound, a little at a time; see ``EmbeddingIndex.tidy``."""
        expired = (EMBEDDINGS.c.expires_at_ns > 0, EMBEDDINGS.c.expires_at_ns <= now_ns)
        forgotten = 0
        while some := self._forget(expired, EMBEDDINGS.c.expires_at_ns, _FORGOTTEN_AT_ONCE):
            forgotten += some
        with self._database.read() as connection:
            grouped = (EMBEDDINGS.c.alias, EMBEDDINGS.c.model_version)
            counts = connection.execute(select(*grouped, func.count()).group_by(*grouped)).all()
        for alias, model_version, count in counts:
            of_version = (EMBEDDINGS.c.alias == alias, EMBEDDINGS.c.model_version == model_version)
            excess = count - self._max_per_version
            for some_of, oldest in (
                ((*of_version, EMBEDDINGS.c.expires_at_ns > 0), EMBEDDINGS.c.expires_at_ns),
                (of_version, EMBEDDINGS.c.place),
            ):
                while excess > 0 and (some := self._forget(some_of, oldest, min(excess, _FORGOTTEN_AT_ONCE))):
                    excess -= some
                    forgotten += some
        return forgotten

    def _forget(self, conditions: Sequence[ColumnElement[bool]], oldest: ColumnElement[Any], most: int) -> int:
        some = select(EMBEDDINGS.c.place).where(*conditions).order_by(oldest).limit(most)
        with self._database.write() as connection:
            return connection.execute(delete(EMBEDDINGS).where(EMBEDDINGS.c.place.in_(some))).rowcount

    def forget(self, case_ids: Sequence[str]) -> None:
        """Forget the embeddings of frames; see ``EmbeddingIndex.forget``."""
        some = (EMBEDDINGS.c.case_id.in_(list(case_ids)), EMBEDDINGS.c.expires_at_ns > 0)
        with self._database.write() as connection:
            connection.execute(delete(EMBEDDINGS).where(*some))

    def forget_cases(self) -> None:
        """Forget the embeddings of cases; see ``EmbeddingIndex.forget_cases``."""
        with self._database.write() as connection:
            connection.execute(delete(EMBEDDINGS).where(EMBEDDINGS.c.expires_at_ns == 0))

    # ---- reading

    def find(self, case_id: str) -> KeptEmbedding:
        """One embedding; raises ``NotFoundError``."""
        with self._database.read() as connection:
            row = connection.execute(_KEPT.where(EMBEDDINGS.c.case_id == case_id)).one_or_none()
        if row is None:
            raise NotFoundError(f"an embedding must be in the index, got {case_id[:80]!r}")
        return _kept(row)

    def nearest(self, query: NeighbourQuery, *, most: int, now_ns: int) -> NearestEmbeddings:
        """Find what is most and least similar; see ``EmbeddingIndex.nearest``."""
        # Of one view of the table: what is found in memory is there, or was deleted before.
        with self._lock, self._database.read() as connection:
            version = self._current(connection, (query.alias, query.model_version), now_ns)
            if version is None or version.length != len(query.embedding):
                return NearestEmbeddings({}, 0, True)
            ask = (query.embedding, query.own, part_key(query.part_id))
            found, compared = version.search(*ask, most=most, now_ns=now_ns)
            kept = _look_up(connection, found)
            if any(one.place not in kept for some in found.values() for one in some):
                version.keep_only(_places(connection, (query.alias, query.model_version)))
                found, compared = version.search(*ask, most=most, now_ns=now_ns)
                kept = _look_up(connection, found)
            exact = version.exact
        answer = {
            relation: tuple((one.similarity, kept[one.place]) for one in some if one.place in kept)
            for relation, some in found.items()
        }
        return NearestEmbeddings({relation: some for relation, some in answer.items() if some}, compared, exact)

    # ---- what is in memory

    def _current(self, connection: Connection, key: Version, now_ns: int) -> VersionEmbeddings | None:
        """A version's embeddings, as they are now; None without any."""
        last_place = connection.scalar(_LAST_PLACE, _version(key))
        version = self._versions.pop(key, None)
        if version is not None and (last_place or 0) < version.last_place:
            # The newest were deleted, or the table is another one.
            version = None
        if last_place is None:
            return None
        if version is None:
            length = _length(connection, key)
            if length is None:
                return None
            version = VersionEmbeddings(length, self._exact_up_to, self._beside)
        most = self._most(version.length)
        self._add_new(connection, key, version, most)
        version.keep_newest(most, now_ns)
        if version.dead_share > _DEAD_SHARE and not version.compact():
            version = VersionEmbeddings(version.length, self._exact_up_to, self._beside)
            self._add_new(connection, key, version, most)
        version.finish()
        version.settle(*_settled(connection, key))
        self._versions[key] = version
        while len(self._versions) > 1 and sum(one.size_bytes for one in self._versions.values()) > self._max_bytes:
            gone, _ = self._versions.popitem(last=False)
            LOG.info("the embeddings of %s version %s leave memory for others", *gone)
        return version

    def _most(self, length: int) -> int:
        """So many of a version fit into memory: all compared one by one, or more than that in an inverted file."""
        compared = self._max_bytes // row_bytes(length, exact=True)
        fitting = compared if compared <= self._exact_up_to else self._max_bytes // row_bytes(length, exact=False)
        return max(1, min(self._max_per_version, fitting))

    def _add_new(self, connection: Connection, key: Version, version: VersionEmbeddings, most: int) -> None:
        after = version.last_place
        if most < self._max_per_version:
            newest = select(EMBEDDINGS.c.place).where(*_of(key)).order_by(EMBEDDINGS.c.place.desc())
            first = connection.scalar(newest.limit(1).offset(most - 1))
            after = max(after, (first or 1) - 1)
        while rows := connection.execute(_PAGE_OF, {**_version(key), "after": after}).all():
            after = rows[-1].place
            # Its writers see to it; what is of another length all the same would be read as a shifted one.
            fitting = [row for row in rows if len(row.embedding) == 2 * version.length]
            version.add(_as_arrays(fitting, version.length))


def part_key(part_id: str) -> int:
    """A digest of a part's id, 64 bits with sign."""
    return int.from_bytes(hashlib.blake2b(part_id.encode(), digest_size=8).digest(), "big", signed=True)


#: An embedding as :func:`_kept` reads it.
_KEPT: Final[Select[Any]] = select(
    EMBEDDINGS.c.place,
    EMBEDDINGS.c.case_id,
    EMBEDDINGS.c.captured_at_ns,
    EMBEDDINGS.c.expires_at_ns,
    EMBEDDINGS.c.embedding,
    EMBEDDINGS.c.inspection,
)


# What is asked with every question is built once: building it takes longer than SQLite takes to answer.
_ALIAS: Final[BindParameter[Any]] = bindparam("of_alias")
_MODEL_VERSION: Final[BindParameter[Any]] = bindparam("of_version")
_OF: Final = (EMBEDDINGS.c.alias == _ALIAS, EMBEDDINGS.c.model_version == _MODEL_VERSION)
_LAST_PLACE: Final = select(func.max(EMBEDDINGS.c.place)).where(*_OF)
_PAGE_OF: Final = (
    select(
        *(
            EMBEDDINGS.c[name]
            for name in ("place", "part_key", "captured_at_ns", "expires_at_ns", "predicted", "embedding")
        )
    )
    .where(*_OF, EMBEDDINGS.c.place > bindparam("after"))
    .order_by(EMBEDDINGS.c.place)
    .limit(_PAGE)
)
_AT: Final = _KEPT.where(EMBEDDINGS.c.place.in_(bindparam("places", expanding=True)))
#: By the names of those who answered: they are few, and a version's cases may be many.
_ANSWERED: Final = (
    select(NAMES.c.case_id)
    .where(
        NAMES.c.what == REVIEWER,
        NAMES.c.bucket_id.in_(
            select(BUCKETS.c.bucket_id).where(BUCKETS.c.alias == _ALIAS, BUCKETS.c.model_version == _MODEL_VERSION)
        ),
    )
    .distinct()
)
_SETTLED: Final = (
    select(EMBEDDINGS.c.place, CASES.c.settled_verdict)
    .join(CASES, CASES.c.case_id == EMBEDDINGS.c.case_id)
    .where(EMBEDDINGS.c.case_id.in_(_ANSWERED), CASES.c.settled_verdict.is_not(None))
    .order_by(EMBEDDINGS.c.place)
)


def _kept(row: Row[Any]) -> KeptEmbedding:
    return KeptEmbedding(
        case_id=row.case_id,
        inspection=decode_inspection(row.inspection),
        embedding=np.frombuffer(row.embedding, "<f2").astype(np.float16, copy=False),
        expires_at_ns=row.expires_at_ns,
    )


def _row(one: KeptEmbedding) -> dict[str, object]:
    seen = one.inspection
    return {
        "case_id": one.case_id,
        "alias": seen.alias,
        "model_version": seen.model_version,
        "part_key": part_key(seen.part_id),
        "captured_at_ns": seen.captured_at_ns,
        "expires_at_ns": one.expires_at_ns,
        "predicted": CLASS_KEYS[predicted_class(seen)],
        "embedding": one.embedding.astype("<f2", copy=False).tobytes(),
        "inspection": encode_inspection(seen),
    }


def _version(key: Version) -> dict[str, Any]:
    return {"of_alias": key[0], "of_version": key[1]}


def _of(key: Version) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return EMBEDDINGS.c.alias == key[0], EMBEDDINGS.c.model_version == key[1]


def _length(connection: Connection, key: Version) -> int | None:
    """Length of a version's embeddings; None without any."""
    first = select(EMBEDDINGS.c.embedding).where(*_of(key)).order_by(EMBEDDINGS.c.place).limit(1)
    data = connection.scalar(first)
    return None if data is None else len(data) // 2


def _places(connection: Connection, key: Version) -> NDArray[np.int64]:
    return np.fromiter(connection.scalars(select(EMBEDDINGS.c.place).where(*_of(key))), np.int64)


def _as_arrays(rows: Sequence[Row[Any]], length: int) -> Rows:
    return Rows(
        np.array([row.place for row in rows], np.int64),
        np.array([row.part_key for row in rows], np.int64),
        np.array([row.captured_at_ns for row in rows], np.int64),
        np.array([row.expires_at_ns for row in rows], np.int64),
        np.array([row.predicted for row in rows], np.uint8),
        np.frombuffer(b"".join(row.embedding for row in rows), "<f2").reshape(-1, length),
    )


def _settled(connection: Connection, key: Version) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Places and classes of what people settled on, of a version, by place."""
    rows = connection.execute(_SETTLED, _version(key)).all()
    places = np.array([row[0] for row in rows], np.int64)
    return places, np.array([_CLASS_OF[row[1]] for row in rows], np.uint8)


def _look_up(connection: Connection, found: dict[Relation, list[Candidate]]) -> dict[int, KeptEmbedding]:
    """What lies at the places that were found, as far as it is still that."""
    candidates = {one.place: one for some in found.values() for one in some}
    rows = connection.execute(_AT, {"places": list(candidates)})
    # A table that was made anew has other rows at the same places.
    return {row.place: _kept(row) for row in rows if row.captured_at_ns == candidates[row.place].captured_at_ns}
