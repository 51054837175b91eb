"""What people said, as the trainer sees it: read from the record, counted by alias, made into a data set.

The record is the truth. A review lies there before it comes through the ``reviews`` topic, so whoever has seen it in
the topic finds it there. What was read once is not read again: a review never changes, and of a case only what a data
set needs is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import replace

from services.adapters.caserecord import CaseRecord, queued_case
from services.core.errors import InvalidInputError, NotFoundError, SightlineError
from services.core.review import QueuedCase, Review, standing_reviews
from services.core.selection.snapshot import AnsweredCase, Snapshot, make_snapshot
from services.core.training_run import CandidateReport, SnapshotSummary
from services.core.types import Reason
from services.runtime.logging import get_logger

LOG = get_logger(__name__)


class AnswerBook:
    """Every review that is known. Thread-safe.

    Args:
        record: Where they lie, with the cases.
    """

    def __init__(self, record: CaseRecord) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._reviews: dict[str, Review] = {}
        self._by_case: dict[str, list[str]] = {}
        self._cases: dict[str, QueuedCase] = {}
        self._unreadable: set[str] = set()

    # ---- filled

    def add(self, review: Review) -> None:
        """Note a review that came through the topic; one that is known changes nothing."""
        with self._lock:
            if review.review_id not in self._reviews:
                self._reviews[review.review_id] = review
                self._by_case.setdefault(review.case_id, []).append(review.review_id)

    def refresh(self) -> None:
        """Read what is on record and not known yet.

        Raises:
            UnavailableError: If the record does not answer; what was read stays.
        """
        with self._lock:
            known = frozenset(self._reviews)
        for review in self._record.reviews(self._damaged, known=known):
            self.add(review)

    # ---- asked

    @property
    def size(self) -> int:
        """How many reviews are known."""
        with self._lock:
            return len(self._reviews)

    def standing(self, alias: str) -> frozenset[str]:
        """Ids of the answers that stand about an alias' verdicts."""
        return frozenset(
            review.review_id
            for reviews in self._said().values()
            for review in standing_reviews(reviews)
            if review.alias == alias
        )

    def changed(self, alias: str, learnt: Collection[str]) -> int:
        """How many answers about an alias came or were taken back since others were learnt from.

        Args:
            alias: The alias.
            learnt: Ids of the answers that stood then.
        """
        return len(self.standing(alias) ^ frozenset(learnt))

    def reviewers(self, review_ids: Iterable[str]) -> tuple[str, ...]:
        """Who gave these answers, sorted."""
        with self._lock:
            return tuple(sorted({self._reviews[one].reviewer for one in review_ids if one in self._reviews}))

    def snapshot(self, alias: str, held_out: Collection[str]) -> Snapshot:
        """Make a data set of everything that stands about an alias, from the record as it is now.

        Args:
            alias: The alias.
            held_out: Parts that are never trained on.

        Raises:
            InvalidInputError: If one picture is said to be of two parts.
            UnavailableError: If the record does not answer.
        """
        self.refresh()
        answered = []
        for case_id, reviews in sorted(self._said().items()):
            if reviews[0].alias != alias or not standing_reviews(reviews):
                continue
            case = self._case(case_id)
            if case is not None:
                answered.append(AnsweredCase(case, tuple(reviews)))
        return make_snapshot(answered, held_out=held_out)

    def with_people(self, report: CandidateReport) -> CandidateReport:
        """Say of each answered part which cases it was and whose answers they are."""
        with self._lock:
            known = dict(self._reviews)
        return replace(
            report,
            answered=tuple(
                replace(
                    part,
                    case_ids=tuple(sorted({known[one].case_id for one in part.review_ids if one in known})),
                    reviewers=tuple(sorted({known[one].reviewer for one in part.review_ids if one in known})),
                )
                for part in report.answered
            ),
        )

    def _said(self) -> dict[str, list[Review]]:
        with self._lock:
            return {case_id: [self._reviews[one] for one in ids] for case_id, ids in self._by_case.items()}

    def _case(self, case_id: str) -> QueuedCase | None:
        known = self._cases.get(case_id)
        if known is None and case_id not in self._unreadable:
            try:
                explained = self._record.case(case_id)
            except (InvalidInputError, NotFoundError) as error:
                # An answer to a case that is damaged or gone keeps nobody from learning from the others.
                self._damaged(case_id, error)
                self._unreadable.add(case_id)
                return None
            size_px = 0 if explained.case.inspection.reason is Reason.UNREADABLE_IMAGE else 1
            known = self._cases[case_id] = queued_case(explained, size_px, size_px)
        return known

    def _damaged(self, key: str, error: SightlineError) -> None:
        LOG.warning("what cannot be read is not learnt from: %s: %s", key, error, extra={"reason": error.reason})


def summary_of(snapshot: Snapshot) -> SnapshotSummary:
    """What a run says of its data set."""
    left_out: dict[str, int] = {}
    for one in snapshot.left_out:
        left_out[one.reason.value] = left_out.get(one.reason.value, 0) + 1
    return SnapshotSummary(
        digest=snapshot.digest,
        parts=len(snapshot.items),
        good=sum(item.label == "good" for item in snapshot.items),
        reviews=len({one for item in snapshot.items for one in item.review_ids}),
        contradicted=len(snapshot.contradicted),
        left_out=tuple(sorted(left_out.items())),
    )
