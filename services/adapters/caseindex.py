"""Cases and what people said of them, in SQLite or PostgreSQL, behind the ``CaseIndex`` port.

A read model: the record in the object store has everything, and this can be built anew from it at any time.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    exists,
    false,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import (
    case as sql_case,
)

from services.adapters.caseindex_database import Database, remove_file
from services.adapters.caseindex_parts import add_parts, part_statement
from services.adapters.caseindex_query import CaseQueue, count_statements, review_statement
from services.adapters.caseindex_schema import (
    BUCKET_KEY,
    BUCKETS,
    CASE_PARTS,
    CASES,
    CLAIMS,
    CLASS,
    FILLS,
    NAMES,
    REVIEWER,
    REVIEWS,
)
from services.adapters.caseindex_token import case_position, case_token, review_position, review_token
from services.adapters.codec import decode_inspection, encode_inspection
from services.adapters.codec_review import decode_review, encode_review
from services.adapters.ports import CaseFilter, CasePage, QueueOrder, ReviewFilter, ReviewPage, ReviewStats
from services.core.errors import ConflictError, InvalidInputError, NotFoundError
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

__all__ = ["SqlCaseIndex", "remove_file"]

#: Rows of one statement: SQLite takes at most 32 766 values in one.
_CHUNK: Final = 1_000
#: A present in which every claim has ended.
_NO_CLAIMS_NS: Final = 2**63 - 1


class Outcome(enum.Enum):
    """What people found of a verdict; told apart for the counts."""

    NONE = ""
    """The case is not reviewed, nobody was sure, or the model had asked."""
    RIGHT = "right"
    WRONG_REASON = "wrong_reason"
    """The verdict was right, and somebody says that its reason was not."""
    FALSE_REJECT = "false_reject"
    ESCAPE = "escape"


class SqlCaseIndex:
    """A ``CaseIndex`` in a database. Thread-safe; several processes may have one PostgreSQL open."""

    def __init__(self, url: str) -> None:
        """Open it, made or brought up to date where needed.

        Args:
            url: ``sqlite:///FOLDER/FILE``, ``sqlite://`` for one in memory, or
                ``postgresql://USER:PASSWORD@HOST/DATABASE``.

        Raises:
            InvalidInputError: For another URL, or a database that a newer release has written.
            IndexDamagedError: When the file is no database.
            UnavailableError: When the database does not answer.
        """
        self._database = Database(url)

    @property
    def database(self) -> Database:
        """Where it lies, for what else is kept there: writers of one file take turns through one object."""
        return self._database

    # ---- writing

    def add_cases(self, cases: Sequence[QueuedCase]) -> None:
        """Add cases, all or none; see ``CaseIndex.add_cases``.

        One that was explained before what is known of it changes nothing.
        """
        newest: dict[str, QueuedCase] = {}
        for case in cases:
            kept = newest.get(case.case_id)
            if kept is None or case.explained_at_ns >= kept.explained_at_ns:
                newest[case.case_id] = case
        if not newest:
            return
        ids = list(newest)
        with self._database.write() as connection:
            buckets = _Buckets(connection)
            for start in range(0, len(ids), _CHUNK):
                _put_cases(connection, [newest[case_id] for case_id in ids[start : start + _CHUNK]], buckets)
            buckets.write()

    def add_review(self, review: Review, *, published: bool, ends_claim: bool = False) -> CaseState:
        """Add a review and bring its case's state up to date; see ``CaseIndex.add_review``."""
        with self._database.write() as connection:
            known = connection.scalar(_PUBLISHED, {"of": review.review_id})
            if known is not None:
                if published and not known:
                    _set_published(connection, [review.review_id])
                return _state(connection, review.case_id)
            before = _reviews_of(connection, [review.case_id]).get(review.case_id, [])
            said = sorted([*before, review], key=lambda one: (one.reviewed_at_ns, one.review_id))
            stands = {one.review_id for one in standing_reviews(said)}
            row = connection.execute(_SETTLED, {"of": review.case_id}).one_or_none()
            case = _queued_case(row, now_ns=0) if row is not None else None
            connection.execute(
                _ADD_REVIEW,
                {
                    "review_id": review.review_id,
                    "case_id": review.case_id,
                    "reviewer": review.reviewer,
                    "line_id": case.inspection.line_id if case is not None else "",
                    "reviewed_at_ns": review.reviewed_at_ns,
                    "standing": review.review_id in stands,
                    "published": published,
                    "review": encode_review(review),
                },
            )
            if before:
                _mark_standing(connection, review.case_id, stands)
            state = CaseState.OPEN
            if case is not None and row is not None:
                state = _settle(connection, case, said, row.bucket_id, named=bool(before))
            if ends_claim:
                _release(connection, review.case_id, review.reviewer)
            return state

    def claim(self, case_id: str, reviewer: str, *, until_ns: int, now_ns: int) -> None:
        """Reserve a case for a person, or prolong it; see ``CaseIndex.claim``."""
        with self._database.write() as connection:
            if connection.scalar(select(CASES.c.case_id).where(CASES.c.case_id == case_id)) is None:
                raise NotFoundError(_no_case(case_id))
            # What has ended goes by the way, so that claims are as few as the people.
            connection.execute(delete(CLAIMS).where(CLAIMS.c.until_ns <= now_ns))
            holder = connection.scalar(select(CLAIMS.c.reviewer).where(CLAIMS.c.case_id == case_id))
            if holder is not None and holder != reviewer:
                raise ConflictError(f"a case must be free to be claimed, got {case_id}, which {holder} holds")
            connection.execute(delete(CLAIMS).where(CLAIMS.c.case_id == case_id))
            connection.execute(insert(CLAIMS), {"case_id": case_id, "reviewer": reviewer, "until_ns": until_ns})

    def release(self, case_id: str, reviewer: str) -> None:
        """Give a claim back; one that is not this person's is left alone."""
        with self._database.write() as connection:
            _release(connection, case_id, reviewer)

    def set_published(self, review_ids: Sequence[str]) -> None:
        """These are in the topic now."""
        with self._database.write() as connection:
            _set_published(connection, review_ids)

    def needs_fill(self) -> bool:
        """Whether it lacks what is on record; see ``CaseIndex.needs_fill``."""
        begun, some = (
            exists(select(FILLS.c.fill_id)),
            or_(exists(select(CASES.c.case_id)), exists(select(REVIEWS.c.review_id))),
        )
        with self._database.read() as connection:
            return bool(connection.scalar(select(or_(begun, not_(some)))))

    def note_fill(self, *, ended: bool) -> None:
        """A fill from the record begins, or has ended."""
        with self._database.write() as connection:
            connection.execute(delete(FILLS))
            if not ended:
                connection.execute(insert(FILLS), {"fill_id": 1})

    def clear(self) -> None:
        """Forget everything but claims, before it is built anew."""
        with self._database.write(unhurried=True) as connection:
            for table in (CASES, CASE_PARTS, REVIEWS, NAMES, BUCKETS):
                connection.execute(delete(table))

    def close(self) -> None:
        """Let go; idempotent."""
        self._database.close()

    # ---- reading

    def find_case(self, case_id: str) -> QueuedCase:
        """One case, with its state and claim; raises ``NotFoundError``."""
        with self._database.read() as connection:
            row = connection.execute(_SHOWN_ONE, {"of": case_id}).one_or_none()
        if row is None:
            raise NotFoundError(_no_case(case_id))
        return _queued_case(row, now_ns=0)

    def find_cases(self, text: str, *, limit: int, now_ns: int) -> tuple[QueuedCase, ...]:
        """Cases by a part's, a frame's or their own id; see ``CaseIndex.find_cases``."""
        _check_limit(limit)
        statement = part_statement(text, limit)
        with self._database.read() as connection:
            ids = [row.case_id for row in connection.execute(statement)]
            found = {row.case_id: row for row in connection.execute(_SHOWN.where(CASES.c.case_id.in_(ids)))}
        return tuple(_queued_case(found[case_id], now_ns) for case_id in ids if case_id in found)

    def cases_of(self, case_ids: Sequence[str]) -> tuple[QueuedCase, ...]:
        """Those of some cases that are known; see ``CaseIndex.cases_of``."""
        if len(case_ids) > _CHUNK:
            raise InvalidInputError(f"at most {_CHUNK} cases must be asked for at once, got {len(case_ids)}")
        with self._database.read() as connection:
            rows = connection.execute(_SHOWN.where(CASES.c.case_id.in_(case_ids))).all()
        return tuple(_queued_case(row, _NO_CLAIMS_NS) for row in rows)

    def find_review(self, review_id: str) -> Review:
        """One review; raises ``NotFoundError``."""
        with self._database.read() as connection:
            data = connection.scalar(_ONE_REVIEW, {"of": review_id})
        if data is None:
            raise NotFoundError(f"a review must be in the index, got {review_id[:80]!r}")
        return decode_review(data)

    def reviews_of(self, case_id: str) -> tuple[Review, ...]:
        """Everything that was said of a case, in the order in which it was taken."""
        with self._database.read() as connection:
            said = _reviews_of(connection, [case_id])
        return tuple(said.get(case_id, ()))

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
        """One page of cases; see ``CaseIndex.list_cases``."""
        _check_limit(limit)
        queue = CaseQueue(where, order, not_held_from, now_ns, after=case_position(order, token), most=limit + 1)
        with self._database.read() as connection:
            keys = queue.keys(connection)
            if keys is None:
                return CasePage((), "")
            statement = _SHOWN.add_columns(keys.c[queue.column].label("place")).join(
                keys, keys.c.case_id == CASES.c.case_id
            )
            rows = connection.execute(statement.order_by(*queue.ordering(keys))).all()
        cases = tuple(_queued_case(row, now_ns) for row in rows[:limit])
        if len(rows) <= limit:
            return CasePage(cases, "")
        last = rows[limit - 1]
        return CasePage(cases, case_token(order, last.place, last.case_id))

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "") -> ReviewPage:
        """One page of reviews; see ``CaseIndex.list_cases``."""
        _check_limit(limit)
        statement = review_statement(where, after=review_position(token), most=limit + 1)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        reviews = tuple(decode_review(row.review) for row in rows[:limit])
        if len(rows) <= limit:
            return ReviewPage(reviews, "")
        last = rows[limit - 1]
        return ReviewPage(reviews, review_token(last.reviewed_at_ns, last.review_id))

    def stats(self, where: CaseFilter) -> ReviewStats:
        """Count; the filter's state is not read."""
        with self._database.read() as connection:
            found: Counter[tuple[str, str]] = Counter()
            for statement in count_statements(where):
                for state, outcome, cases in connection.execute(statement):
                    found[state, outcome] += int(cases)
        by_state: Counter[str] = Counter()
        by_outcome: Counter[str] = Counter()
        for (state, outcome), cases in found.items():
            by_state[state] += cases
            by_outcome[outcome] += cases
        wrong_reason = by_outcome[Outcome.WRONG_REASON.value]
        return ReviewStats(
            open=by_state[CaseState.OPEN.value],
            reviewed=by_state[CaseState.REVIEWED.value],
            disputed=by_state[CaseState.DISPUTED.value],
            verdict_right=by_outcome[Outcome.RIGHT.value] + wrong_reason,
            false_rejects=by_outcome[Outcome.FALSE_REJECT.value],
            escapes=by_outcome[Outcome.ESCAPE.value],
            wrong_reason=wrong_reason,
        )

    def unpublished(self, limit: int) -> tuple[Review, ...]:
        """Reviews that are on record but not yet in the ``reviews`` topic, the oldest first."""
        _check_limit(limit)
        statement = (
            select(REVIEWS.c.review)
            .where(REVIEWS.c.published == false())
            .order_by(REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(decode_review(row.review) for row in rows)


def find_outcome(said: Iterable[Review], given: Verdict) -> tuple[CaseState, Verdict | None, Outcome]:
    """Say how far people are with a case and what they found of the model's verdict.

    Args:
        said: Everything that was said of the case.
        given: The verdict that the model gave.

    Returns:
        State, settled verdict and outcome. A verdict is right where people settled on it; where the model asked for a
        person it is neither right nor wrong.
    """
    reviews = list(said)
    state, settled = case_state(reviews, given)
    if state is not CaseState.REVIEWED or settled is None or given is Verdict.REVIEW:
        return state, settled, Outcome.NONE
    if settled is not given:
        return state, settled, Outcome.FALSE_REJECT if given is Verdict.FAIL else Outcome.ESCAPE
    reason_wrong = any(review.reason_right is Answer.NO for review in standing_reviews(reviews))
    return state, settled, Outcome.WRONG_REASON if reason_wrong else Outcome.RIGHT


# ---- rows


class _Buckets:
    """The buckets that one transaction meets, and how many cases it moves between them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ids: dict[tuple[object, ...], int] = {}
        self._moves: Counter[int] = Counter()
        self._spans: dict[int, tuple[int, int]] = {}

    def put(self, case: QueuedCase, state: CaseState, outcome: Outcome, *, before: int | None) -> int:
        """Find the bucket where a case belongs, make it if there is none, and count the case's move.

        Args:
            case: The case.
            state: How far people are with it.
            outcome: What they found.
            before: Where it lay; None for a new case.
        """
        seen = case.inspection
        key = (
            *(seen.line_id, seen.camera_id, seen.product, seen.verdict.value, case.kind.value),
            *(seen.alias, seen.model_version, seen.defect_class, state.value, outcome.value),
        )
        bucket_id = self._ids.get(key)
        if bucket_id is None:
            bucket_id = self._ids[key] = self._find(key, seen.captured_at_ns)
        first_ns, last_ns = self._spans.get(bucket_id, (seen.captured_at_ns, seen.captured_at_ns))
        self._spans[bucket_id] = (min(first_ns, seen.captured_at_ns), max(last_ns, seen.captured_at_ns))
        if bucket_id != before:
            self._moves[bucket_id] += 1
            if before is not None:
                self._moves[before] -= 1
        return bucket_id

    def _find(self, key: tuple[object, ...], captured_at_ns: int) -> int:
        values = {column.name: value for column, value in zip(BUCKET_KEY, key, strict=True)}
        found = self._connection.scalar(_FIND_BUCKET, values)
        if found is None:
            made = insert(BUCKETS).returning(BUCKETS.c.bucket_id)
            span = {"first_ns": captured_at_ns, "last_ns": captured_at_ns}
            found = self._connection.scalar(made, {**values, **span, "cases": 0})
        return int(found)

    def write(self) -> None:
        """Write what was counted."""
        into = [
            {"of": bucket_id, "by": self._moves[bucket_id], "first": first_ns, "last": last_ns}
            for bucket_id, (first_ns, last_ns) in self._spans.items()
        ]
        out_of = [{"of": bucket_id, "by": by} for bucket_id, by in self._moves.items() if bucket_id not in self._spans]
        if into:
            self._connection.execute(_MOVE_IN, into)
        if out_of:
            self._connection.execute(_MOVE_OUT, out_of)


def _put_cases(connection: Connection, cases: Sequence[QueuedCase], buckets: _Buckets) -> None:
    """Add cases or bring them up to date, at most ``_CHUNK`` of them, each once."""
    ids = [case.case_id for case in cases]
    wanted = select(CASES.c.case_id, CASES.c.bucket_id, CASES.c.explained_at_ns).where(CASES.c.case_id.in_(ids))
    known = {row.case_id: row for row in connection.execute(wanted)}
    said = _reviews_of(connection, ids)
    added: list[dict[str, object]] = []
    changed: list[dict[str, object]] = []
    reviewed: list[QueuedCase] = []
    bucket_ids: dict[str, int] = {}
    for case in cases:
        before = known.get(case.case_id)
        if before is not None and before.explained_at_ns > case.explained_at_ns:
            continue
        reviews = said.get(case.case_id, [])
        state, settled, outcome = find_outcome(reviews, case.inspection.verdict)
        bucket_id = buckets.put(case, state, outcome, before=before.bucket_id if before else None)
        bucket_ids[case.case_id] = bucket_id
        row = {**_case_row(case), "bucket_id": bucket_id, "settled_verdict": settled.value if settled else None}
        if before is None:
            added.append(row)
        else:
            changed.append({**row, "known_id": case.case_id})
        if reviews:
            reviewed.append(case)
    if added:
        connection.execute(insert(CASES), added)
        new = {row["case_id"] for row in added}
        add_parts(connection, [case for case in cases if case.case_id in new])
    if changed:
        columns: dict[str, Any] = {name: bindparam(name) for name in changed[0] if name not in {"case_id", "known_id"}}
        rows = [{name: value for name, value in row.items() if name != "case_id"} for row in changed]
        connection.execute(update(CASES).where(CASES.c.case_id == bindparam("known_id")).values(columns), rows)
    for case in reviewed:
        _name(connection, case, said[case.case_id], bucket_ids[case.case_id])
        # What was said before the case was there belongs to its line from now on.
        other = (REVIEWS.c.case_id == case.case_id, REVIEWS.c.line_id != case.inspection.line_id)
        connection.execute(update(REVIEWS).where(*other), {"line_id": case.inspection.line_id})


def _settle(
    connection: Connection, case: QueuedCase, said: Sequence[Review], bucket_id: int, *, named: bool
) -> CaseState:
    """Bring a case's state up to date.

    Args:
        connection: Of a transaction that writes.
        case: The case.
        said: Everything that was said of it.
        bucket_id: Where it lies.
        named: Whether it may have been found by an answer before.
    """
    state, settled, outcome = find_outcome(said, case.inspection.verdict)
    buckets = _Buckets(connection)
    into = buckets.put(case, state, outcome, before=bucket_id)
    buckets.write()
    connection.execute(
        _SET_OUTCOME,
        {"of": case.case_id, "bucket_id": into, "settled_verdict": settled.value if settled else None},
    )
    _name(connection, case, said, into, named=named)
    return state


def _state(connection: Connection, case_id: str) -> CaseState:
    return CaseState(connection.scalar(_STATE, {"of": case_id}) or CaseState.OPEN.value)


def _release(connection: Connection, case_id: str, reviewer: str) -> None:
    connection.execute(_RELEASE, {"of": case_id, "by": reviewer})


def _name(
    connection: Connection, case: QueuedCase, said: Sequence[Review], bucket_id: int, *, named: bool = True
) -> None:
    """Bring up to date by what answers a case is found; see :func:`_settle`."""
    seen = case.inspection
    standing = standing_reviews(said)
    names = {(REVIEWER, review.reviewer) for review in standing}
    names |= {(CLASS, review.defect_class) for review in standing} - {(CLASS, ""), (CLASS, seen.defect_class)}
    if named:
        connection.execute(_UNNAME, {"of": case.case_id})
    if names:
        place = {
            "case_id": case.case_id,
            "rank": _rank(case),
            "captured_at_ns": seen.captured_at_ns,
            "bucket_id": bucket_id,
        }
        connection.execute(insert(NAMES), [{"what": what, "name": name, **place} for what, name in sorted(names)])


def _reviews_of(connection: Connection, case_ids: Sequence[str]) -> dict[str, list[Review]]:
    """Everything that was said of cases, by case, in the order in which it was taken."""
    said: dict[str, list[Review]] = {}
    for row in connection.execute(_SAID, {"of": list(case_ids)}):
        said.setdefault(row.case_id, []).append(decode_review(row.review))
    return said


def _mark_standing(connection: Connection, case_id: str, stands: Collection[str]) -> None:
    of_case = REVIEWS.c.case_id == case_id
    connection.execute(
        update(REVIEWS).where(of_case, REVIEWS.c.standing == true(), REVIEWS.c.review_id.not_in(stands)),
        {"standing": False},
    )
    connection.execute(
        update(REVIEWS).where(of_case, REVIEWS.c.standing == false(), REVIEWS.c.review_id.in_(stands)),
        {"standing": True},
    )


def _set_published(connection: Connection, review_ids: Sequence[str]) -> None:
    for start in range(0, len(review_ids), _CHUNK):
        some = REVIEWS.c.review_id.in_(list(review_ids[start : start + _CHUNK]))
        connection.execute(update(REVIEWS).where(some), {"published": True})


def _rank(case: QueuedCase) -> float:
    return queue_rank(case.gain, case.inspection.captured_at_ns)


def _case_row(case: QueuedCase) -> dict[str, object]:
    return {
        "case_id": case.case_id,
        "rank": _rank(case),
        "captured_at_ns": case.inspection.captured_at_ns,
        "explained_at_ns": case.explained_at_ns,
        "inspection": encode_inspection(case.inspection),
        "image_bucket": case.image_ref.bucket,
        "image_key": case.image_ref.key,
        "image_size_bytes": case.image_ref.size_bytes,
        "image_sha256": case.image_ref.sha256,
        "image_width_px": case.image_width_px,
        "image_height_px": case.image_height_px,
        "sampling_probability": case.sampling_probability,
        "shown_method": case.shown_method,
        "shown_grade": case.shown_grade.value if case.shown_grade else None,
    }


#: A case as :func:`_queued_case` reads it.
_SHOWN: Final[Select[Any]] = (
    select(
        *(column for column in CASES.columns if column.name not in {"bucket_id", "rank", "captured_at_ns"}),
        BUCKETS.c.kind,
        BUCKETS.c.state,
        CLAIMS.c.reviewer.label("claimed_by"),
        CLAIMS.c.until_ns.label("claimed_until_ns"),
    )
    .join_from(CASES, BUCKETS, BUCKETS.c.bucket_id == CASES.c.bucket_id)
    .outerjoin(CLAIMS, CLAIMS.c.case_id == CASES.c.case_id)
)


# The statements of an answer are built once: building one takes as long as SQLite takes to run it.
_OF: Final[BindParameter[Any]] = bindparam("of")
_SHOWN_ONE: Final = _SHOWN.where(CASES.c.case_id == _OF)
_SETTLED: Final = _SHOWN_ONE.add_columns(CASES.c.bucket_id)
_ONE_REVIEW: Final = select(REVIEWS.c.review).where(REVIEWS.c.review_id == _OF)
_PUBLISHED: Final = select(REVIEWS.c.published).where(REVIEWS.c.review_id == _OF)
_ADD_REVIEW: Final = insert(REVIEWS)
_STATE: Final = (
    select(BUCKETS.c.state).join(CASES, CASES.c.bucket_id == BUCKETS.c.bucket_id).where(CASES.c.case_id == _OF)
)
_SET_OUTCOME: Final = (
    update(CASES)
    .where(CASES.c.case_id == _OF)
    .values({name: bindparam(name) for name in ("bucket_id", "settled_verdict")})
)
_UNNAME: Final = delete(NAMES).where(NAMES.c.case_id == _OF)
_RELEASE: Final = delete(CLAIMS).where(CLAIMS.c.case_id == _OF, CLAIMS.c.reviewer == bindparam("by"))
_SAID: Final = (
    select(REVIEWS.c.case_id, REVIEWS.c.review)
    .where(REVIEWS.c.case_id.in_(bindparam("of", expanding=True)))
    .order_by(REVIEWS.c.reviewed_at_ns, REVIEWS.c.review_id)
)
_FIND_BUCKET: Final = select(BUCKETS.c.bucket_id).where(*(column == bindparam(column.name) for column in BUCKET_KEY))
_MOVED: Final = {"cases": BUCKETS.c.cases + bindparam("by")}
_FIRST, _LAST = bindparam("first", type_=BigInteger), bindparam("last", type_=BigInteger)
_SPANNED: Final = {
    "first_ns": sql_case((BUCKETS.c.first_ns > _FIRST, _FIRST), else_=BUCKETS.c.first_ns),
    "last_ns": sql_case((BUCKETS.c.last_ns < _LAST, _LAST), else_=BUCKETS.c.last_ns),
}
_MOVE_OUT: Final = update(BUCKETS).where(BUCKETS.c.bucket_id == _OF).values(_MOVED)
_MOVE_IN: Final = update(BUCKETS).where(BUCKETS.c.bucket_id == _OF).values(_MOVED | _SPANNED)


def _queued_case(row: Row[Any], now_ns: int) -> QueuedCase:
    held = row.claimed_by is not None and row.claimed_until_ns > now_ns
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
        claimed_by=row.claimed_by if held else "",
        claimed_until_ns=row.claimed_until_ns if held else 0,
    )


def _no_case(case_id: str) -> str:
    return f"a case must be in the index, got {case_id[:80]!r}"


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidInputError(f"limit must be >= 1, got {limit}")
