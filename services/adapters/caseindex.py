"""The case index in SQL: SQLite by default, PostgreSQL by its URL.

It is a read model: the record has everything, and :meth:`SqlCaseIndex.clear` followed by adding all of the record makes
it again. What is filtered and ordered by are columns; verdicts and reviews lie beside them as the protobuf messages
that they travel as, so what is read is what was written.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    create_engine,
    delete,
    event,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from services.adapters.caseindex_tables import CASES, CLAIMS, COUNTS, REVIEWS
from services.adapters.codec import decode_inspection, encode_inspection
from services.adapters.codec_review import decode_review, encode_review
from services.adapters.ports import CaseFilter, CasePage, QueueOrder, ReviewFilter, ReviewPage, ReviewStats
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, SettingsError, UnavailableError
from services.core.review import (
    Answer,
    CaseState,
    QueuedCase,
    Review,
    case_state,
    queue_rank,
    standing_reviews,
)
from services.core.types import CaseKind, Grade, ImageRef, Verdict

_MIGRATIONS: Final = Path(__file__).parent / "caseindex_migrations"
_BUSY_MS: Final = 10_000
_AT_ONCE: Final = 500
_MAX_TOKEN: Final = 512
#: Any number: it keeps two that migrate one PostgreSQL database at once apart.
_MIGRATION_LOCK: Final = 7_265_883_410

_COUNTED: Final = tuple(column.name for column in COUNTS.primary_key.columns)
_CLAIM: Final = (CLAIMS.c.reviewer.label("claimed_by"), CLAIMS.c.until_ns.label("claimed_until_ns"))

Values: TypeAlias = dict[str, Any]


class SqlCaseIndex:
    """Implements ``services.adapters.ports.CaseIndex``; opening it brings the tables up to date.

    Args:
        url: Of the database, as SQLAlchemy takes it: ``sqlite:///folder/cases.db`` (three slashes: relative, four:
            absolute), ``sqlite://`` in memory, or ``postgresql+psycopg://...``.

    Raises:
        SettingsError: If the URL is none.
        UnavailableError: If the database does not answer, is no case index, or is of a newer release.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
        except ArgumentError as error:
            raise SettingsError("index.url must be a database's URL, got one that cannot be parsed") from error
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        # SQLite takes one writer at a time: who waits here waits shorter than one that polls the file's lock.
        self._writing = threading.RLock()
        self._in_memory = self._is_sqlite and self._url.database in (None, "", ":memory:")
        with self._told():
            self._engine = _engine(self._url, in_memory=self._in_memory)
            self._migrate()

    # ---- writing

    def add_cases(self, cases: Sequence[QueuedCase]) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        wanted = {case.case_id: case for case in cases}
        with self._write() as connection:
            for ids in _batches(sorted(wanted), _AT_ONCE):
                self._add_some(connection, [wanted[one] for one in ids])

    def _add_some(self, connection: Connection, cases: Sequence[QueuedCase]) -> None:
        ids = [case.case_id for case in cases]
        found = connection.execute(select(CASES.c.case_id, CASES.c.explained_at_ns).where(CASES.c.case_id.in_(ids)))
        known = {row.case_id: row.explained_at_ns for row in found}
        said = _by_case(connection, [one for one in ids if one not in known])
        new, counted = [], Counter[tuple[object, ...]]()
        for case in cases:
            values = _case_values(case)
            if case.case_id not in known:
                values |= _judged(said.get(case.case_id, []), case.inspection.verdict)
                new.append(values)
                counted[_count_key(values)] += 1
            elif case.explained_at_ns > known[case.case_id]:
                # Its ids, verdict and time derive from the frame and the model, and stay.
                connection.execute(update(CASES).where(CASES.c.case_id == case.case_id).values(values))
        if new:
            connection.execute(insert(CASES), new)
            _count(connection, counted)

    def add_review(self, review: Review, *, published: bool) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._write() as connection:
            # Locked first, so that two who answer one case at once see each other's answer.
            case = connection.execute(
                select(CASES).where(CASES.c.case_id == review.case_id).with_for_update()
            ).one_or_none()
            known = connection.execute(select(REVIEWS.c.review_id).where(REVIEWS.c.review_id == review.review_id))
            if known.one_or_none() is not None:
                return
            connection.execute(
                insert(REVIEWS).values(
                    review_id=review.review_id,
                    case_id=review.case_id,
                    reviewer=review.reviewer,
                    reviewed_at_ns=review.reviewed_at_ns,
                    defect_class=review.defect_class,
                    standing=False,
                    published=published,
                    review=encode_review(review),
                )
            )
            reviews = _by_case(connection, [review.case_id])[review.case_id]
            _mark_standing(connection, review.case_id, reviews)
            if case is not None:
                _rejudge(connection, case, reviews)

    def claim(self, case_id: str, reviewer: str, *, until_ns: int, now_ns: int) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._write() as connection:
            case = connection.execute(select(CASES.c.case_id).where(CASES.c.case_id == case_id).with_for_update())
            if case.one_or_none() is None:
                raise _no_case(case_id)
            held = connection.execute(select(CLAIMS).where(CLAIMS.c.case_id == case_id)).one_or_none()
            if held is None:
                connection.execute(insert(CLAIMS).values(case_id=case_id, reviewer=reviewer, until_ns=until_ns))
                return
            if held.reviewer != reviewer and held.until_ns > now_ns:
                left_s = (held.until_ns - now_ns) / 1e9
                raise ConflictError(
                    f"a case must be held by one person at a time, {held.reviewer} has this one for {left_s:.0f} s more"
                )
            connection.execute(
                update(CLAIMS).where(CLAIMS.c.case_id == case_id).values(reviewer=reviewer, until_ns=until_ns)
            )

    def release(self, case_id: str, reviewer: str) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._write() as connection:
            connection.execute(delete(CLAIMS).where(CLAIMS.c.case_id == case_id, CLAIMS.c.reviewer == reviewer))

    def set_published(self, review_ids: Sequence[str]) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._write() as connection:
            for ids in _batches(review_ids, _AT_ONCE):
                connection.execute(update(REVIEWS).where(REVIEWS.c.review_id.in_(ids)).values(published=True))

    def clear(self) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._write() as connection:
            for table in (CASES, COUNTS, REVIEWS):
                connection.execute(delete(table))

    # ---- reading

    def find_case(self, case_id: str) -> QueuedCase:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._read() as connection:
            row = connection.execute(_with_claims(None).where(CASES.c.case_id == case_id)).one_or_none()
        if row is None:
            raise _no_case(case_id)
        return _case(row)

    def find_review(self, review_id: str) -> Review:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._read() as connection:
            found = connection.execute(
                select(REVIEWS.c.review).where(REVIEWS.c.review_id == review_id)
            ).scalar_one_or_none()
        if found is None:
            raise NotFoundError(f"there must be such a review, got {review_id!a}")
        return decode_review(found)

    def reviews_of(self, case_id: str) -> tuple[Review, ...]:
        """See :class:`services.adapters.ports.CaseIndex`."""
        with self._read() as connection:
            return tuple(_by_case(connection, [case_id]).get(case_id, ()))

    def unpublished(self, limit: int) -> tuple[Review, ...]:
        """See :class:`services.adapters.ports.CaseIndex`."""
        query = (
            select(REVIEWS.c.review)
            .where(REVIEWS.c.published.is_(False))
            .order_by(REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id)
            .limit(limit)
        )
        with self._read() as connection:
            return tuple(decode_review(one) for one in connection.execute(query).scalars())

    def list_cases(
        self,
        where: CaseFilter,
        order: QueueOrder,
        *,
        limit: int,
        token: str = "",
        not_held_from: str = "",
        now_ns: int,
    ) -> CasePage:
        """See :class:`services.adapters.ports.CaseIndex`."""
        key = CASES.c.rank if order is QueueOrder.BY_GAIN else CASES.c.captured_at_ns
        query = _with_claims(now_ns).where(*_narrowed(where))
        if where.state is not None:
            query = query.where(CASES.c.state == where.state.value)
        if not_held_from:
            query = query.where(or_(CLAIMS.c.reviewer.is_(None), CLAIMS.c.reviewer == not_held_from))
        after = _read_token(token, order.value, (int, float))
        place = tuple_(key, CASES.c.case_id)
        if order is QueueOrder.OLDEST:
            query = query.order_by(key, CASES.c.case_id)
            query = query.where(place > after) if after else query
        else:
            query = query.order_by(key.desc(), CASES.c.case_id.desc())
            query = query.where(place < after) if after else query
        with self._read() as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        more = len(rows) > limit
        rows = rows[:limit]
        last = _token(order.value, getattr(rows[-1], key.name), rows[-1].case_id) if more else ""
        return CasePage(tuple(_case(row) for row in rows), last)

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "") -> ReviewPage:
        """See :class:`services.adapters.ports.CaseIndex`."""
        query = select(REVIEWS.c.review, REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id)
        if where.reviewer:
            query = query.where(REVIEWS.c.reviewer == where.reviewer)
        if where.since_ns:
            query = query.where(REVIEWS.c.reviewed_at_ns >= where.since_ns)
        if where.until_ns:
            query = query.where(REVIEWS.c.reviewed_at_ns < where.until_ns)
        if where.standing_only:
            query = query.where(REVIEWS.c.standing.is_(True))
        if where.line_id:
            query = query.join(CASES, CASES.c.case_id == REVIEWS.c.case_id).where(CASES.c.line_id == where.line_id)
        after = _read_token(token, "reviews", (int,))
        if after:
            query = query.where(tuple_(REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id) < after)
        query = query.order_by(REVIEWS.c.reviewed_at_ns.desc(), REVIEWS.c.review_id.desc()).limit(limit + 1)
        with self._read() as connection:
            rows = connection.execute(query).all()
        more = len(rows) > limit
        rows = rows[:limit]
        last = _token("reviews", rows[-1].reviewed_at_ns, rows[-1].review_id) if more else ""
        return ReviewPage(tuple(decode_review(row.review) for row in rows), last)

    def stats(self, where: CaseFilter) -> ReviewStats:
        """See :class:`services.adapters.ports.CaseIndex`."""
        # Counts are kept for what most people filter by; the rest is counted.
        kept = not (where.since_ns or where.until_ns or where.defect_class or where.reviewer)
        table = COUNTS if kept else CASES
        number = func.sum(COUNTS.c.cases) if kept else func.count()
        by = [table.c[name] for name in ("state", "verdict", "settled_verdict", "wrong_reason")]
        query = select(*by, number.label("number")).where(*_narrowed(where, table)).group_by(*by)
        with self._read() as connection:
            rows = connection.execute(query).all()

        def sum_of(**wanted: object) -> int:
            return sum(
                int(row.number) for row in rows if all(getattr(row, name) == value for name, value in wanted.items())
            )

        reviewed = CaseState.REVIEWED.value
        good, bad = Verdict.PASS.value, Verdict.FAIL.value
        false_rejects = sum_of(state=reviewed, verdict=bad, settled_verdict=good)
        escapes = sum_of(state=reviewed, verdict=good, settled_verdict=bad)
        agreed = sum(sum_of(state=reviewed, verdict=one, settled_verdict=one) for one in (good, bad))
        return ReviewStats(
            open=sum_of(state=CaseState.OPEN.value),
            reviewed=sum_of(state=reviewed),
            disputed=sum_of(state=CaseState.DISPUTED.value),
            verdict_right=agreed,
            false_rejects=false_rejects,
            escapes=escapes,
            wrong_reason=sum_of(state=reviewed, wrong_reason=True),
        )

    # ---- the database

    def close(self) -> None:
        """See :class:`services.adapters.ports.CaseIndex`."""
        self._engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self._write() as connection:
            if not self._is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            current = MigrationContext.configure(connection).get_current_revision()
            if current == scripts.get_current_head():
                return
            if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
                raise UnavailableError(
                    f"the case index must be of this release or an older one, got revision {current!a} of a newer one"
                )
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with (
            self._writing,
            self._told(),
            self._engine.connect().execution_options(sightline_writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        # In memory there is one connection, which all share.
        lock = self._writing if self._in_memory else contextlib.nullcontext()
        with lock, self._told(), self._engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the database says into the domain's error, without the URL's password."""
        try:
            yield
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            hint = ""
            if "not a database" in str(cause) or "malformed" in str(cause):
                hint = ": delete the file and run: sightline index rebuild"
            said = " ".join(str(cause).split())[:300]
            where = self._url.render_as_string(hide_password=True)
            raise UnavailableError(f"the case index at {where} must answer, got {said}{hint}") from error


def _engine(url: URL, *, in_memory: bool) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=8)
    if in_memory:
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        if url.database is not None:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # Transactions begin where this module says so, not where the driver guesses.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # The record has everything: a power cut may cost the last transactions here, never the file.
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        cursor.execute("PRAGMA cache_size=-65536")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("sightline_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


# ---- values


def _case_values(case: QueuedCase) -> Values:
    inspection, image = case.inspection, case.image_ref
    return {
        "case_id": case.case_id,
        "kind": case.kind.value,
        "frame_id": inspection.frame_id,
        "line_id": inspection.line_id,
        "camera_id": inspection.camera_id,
        "product": inspection.product,
        "verdict": inspection.verdict.value,
        "alias": inspection.alias,
        "model_version": inspection.model_version,
        "defect_class": inspection.defect_class,
        "captured_at_ns": inspection.captured_at_ns,
        "rank": queue_rank(case.gain, inspection.captured_at_ns),
        "inspection": encode_inspection(inspection),
        "image_bucket": image.bucket,
        "image_key": image.key,
        "image_size_bytes": image.size_bytes,
        "image_sha256": image.sha256,
        "image_width_px": case.image_width_px,
        "image_height_px": case.image_height_px,
        "sampling_probability": case.sampling_probability,
        "explained_at_ns": case.explained_at_ns,
        "shown_method": case.shown_method,
        "shown_grade": case.shown_grade.value if case.shown_grade is not None else "",
    }


def _case(row: Row[Any]) -> QueuedCase:
    return QueuedCase(
        case_id=row.case_id,
        kind=CaseKind(row.kind),
        inspection=decode_inspection(row.inspection),
        image_ref=ImageRef(row.image_bucket, row.image_key, row.image_size_bytes, row.image_sha256),
        image_width_px=row.image_width_px,
        image_height_px=row.image_height_px,
        sampling_probability=row.sampling_probability,
        explained_at_ns=row.explained_at_ns,
        shown_method=row.shown_method,
        shown_grade=Grade(row.shown_grade) if row.shown_grade else None,
        state=CaseState(row.state),
        settled_verdict=Verdict(row.settled_verdict) if row.settled_verdict else None,
        claimed_by=row.claimed_by or "",
        claimed_until_ns=row.claimed_until_ns or 0,
    )


def _judged(reviews: Sequence[Review], given: Verdict) -> Values:
    """The columns that say how far people are."""
    state, settled = case_state(reviews, given)
    wrong = state is CaseState.REVIEWED and any(one.reason_right is Answer.NO for one in standing_reviews(reviews))
    return {"state": state.value, "settled_verdict": settled.value if settled else "", "wrong_reason": wrong}


def _by_case(connection: Connection, case_ids: Sequence[str]) -> dict[str, list[Review]]:
    """Everything that was said of cases, in the order in which it was taken."""
    if not case_ids:
        return {}
    rows = connection.execute(
        select(REVIEWS.c.review)
        .where(REVIEWS.c.case_id.in_(case_ids))
        .order_by(REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id)
    )
    found: dict[str, list[Review]] = {}
    for data in rows.scalars():
        review = decode_review(data)
        found.setdefault(review.case_id, []).append(review)
    return found


def _mark_standing(connection: Connection, case_id: str, reviews: Sequence[Review]) -> None:
    standing = [review.review_id for review in standing_reviews(reviews)]
    own = REVIEWS.c.case_id == case_id
    connection.execute(update(REVIEWS).where(own, REVIEWS.c.review_id.not_in(standing)).values(standing=False))
    connection.execute(update(REVIEWS).where(own, REVIEWS.c.review_id.in_(standing)).values(standing=True))


def _rejudge(connection: Connection, case: Row[Any], reviews: Sequence[Review]) -> None:
    before = {column.name: getattr(case, column.name) for column in CASES.columns}
    judged = _judged(reviews, Verdict(case.verdict))
    if all(before[name] == value for name, value in judged.items()):
        return
    connection.execute(update(CASES).where(CASES.c.case_id == case.case_id).values(judged))
    _count(connection, Counter({_count_key(before): -1, _count_key(before | judged): 1}))


def _count_key(values: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(values[name] for name in _COUNTED)


def _count(connection: Connection, changes: Mapping[tuple[object, ...], int]) -> None:
    # In one order, so that two writers cannot wait for each other.
    for key in sorted(changes, key=str):
        values = dict(zip(_COUNTED, key, strict=True))
        same = [COUNTS.c[name] == value for name, value in values.items()]
        changed = connection.execute(update(COUNTS).where(*same).values(cases=COUNTS.c.cases + changes[key]))
        if not changed.rowcount:
            connection.execute(insert(COUNTS).values(**values, cases=changes[key]))


# ---- queries


def _with_claims(now_ns: int | None) -> Select[Any]:
    """Cases beside the claim that holds at a time; at any time with None."""
    joined = CLAIMS.c.case_id == CASES.c.case_id
    on = joined if now_ns is None else joined & (CLAIMS.c.until_ns > now_ns)
    return select(CASES, *_CLAIM).select_from(CASES.outerjoin(CLAIMS, on))


def _narrowed(where: CaseFilter, table: Any = CASES) -> list[ColumnElement[bool]]:
    """What a filter asks for, but for the state."""
    wanted: dict[str, object] = {
        "line_id": where.line_id,
        "camera_id": where.camera_id,
        "product": where.product,
        "verdict": where.verdict.value if where.verdict else "",
        "kind": where.kind.value if where.kind else "",
        "alias": where.alias,
        "model_version": where.model_version,
    }
    found = [table.c[name] == value for name, value in wanted.items() if value]
    if where.since_ns:
        found.append(table.c.captured_at_ns >= where.since_ns)
    if where.until_ns:
        found.append(table.c.captured_at_ns < where.until_ns)
    said = exists().where(REVIEWS.c.case_id == CASES.c.case_id, REVIEWS.c.standing.is_(True))
    if where.defect_class:
        found.append(
            or_(table.c.defect_class == where.defect_class, said.where(REVIEWS.c.defect_class == where.defect_class))
        )
    if where.reviewer:
        found.append(said.where(REVIEWS.c.reviewer == where.reviewer))
    return found


def _token(kind: str, key: float, last_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, key, last_id]).encode()).decode().rstrip("=")


def _read_token(token: str, kind: str, types: tuple[type, ...]) -> tuple[float, str] | None:
    if not token:
        return None
    rule = "page_token must be one that an earlier page of the same order gave"
    try:
        short = token[:_MAX_TOKEN]
        given, key, last_id = json.loads(
            base64.b64decode(short + "=" * (-len(short) % 4), altchars=b"-_", validate=True)
        )
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidInputError(f"{rule}, got {token[:80]!a}") from error
    if given != kind or type(key) not in types or not isinstance(last_id, str):
        raise InvalidInputError(f"{rule}, got {token[:80]!a}")
    return key, last_id


def _no_case(case_id: str) -> NotFoundError:
    return NotFoundError(f"there must be such a case, got {case_id!a}")


def _batches(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))
