"""What becomes of an answer: checked, put on record, and counted in the index, in this order.

It is acknowledged when both have it. What fails on the way was not taken or is taken by the same call again: the
record knows the id.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from services.adapters.caserecord import CaseRecord
from services.adapters.ports import CaseIndex
from services.core.errors import ConflictError, ForbiddenError, InvalidInputError, NotFoundError
from services.core.review import (
    CaseState,
    QueuedCase,
    Review,
    ReviewAction,
    check_area,
    check_review,
    differ,
    standing_reviews,
    validate_case_id,
    validate_review_id,
    validate_reviewer,
)
from services.core.review_mask import decode_mask
from services.core.types import ImageRef
from services.feedback.picture import shown_case
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

# Answers to different cases do not wait for each other; that two cases share a lock now and then does no harm.
_LOCKS: Final = 64


class Reviewing:
    """Takes answers and takes them back. Thread-safe.

    Args:
        index: The cases, and what was said of them.
        record: Where everything is kept.
        max_mask_bytes: Largest PNG of a mask.
        on_taken: Called when a review waits to be published.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        index: CaseIndex,
        record: CaseRecord,
        *,
        max_mask_bytes: int,
        on_taken: Callable[[], None] = lambda: None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._record = record
        self._max_mask_bytes = max_mask_bytes
        self._on_taken = on_taken
        self._clock_ns = clock_ns
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def submit(self, review: Review, mask_png: bytes) -> tuple[Review, CaseState]:
        """Take an answer, or note that somebody put a case aside.

        Args:
            review: What was said; what the service knows better is filled in.
            mask_png: The drawn mask; empty where nothing was drawn.

        Returns:
            The review as it is on record, and how far people are with the case now.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: When there is no such case.
            ConflictError: When the id was used for another review.
            UnavailableError: While the record or the index is away; the same call may succeed later.
        """
        if review.action is ReviewAction.UNDO:
            raise InvalidInputError(f"a review must answer or skip, got {review.action.value}")
        validate_review_id(review.review_id)
        case = self._case(validate_case_id(review.case_id))
        said, png = self._check(review, case, mask_png)
        with self._alone(case.case_id):
            known = self._known(said.review_id)
            if known is not None:
                _require_same(known, said, png)
                return known, self._index.find_case(case.case_id).state
            return self._take(self._placed(said, self._index.reviews_of(case.case_id)), png)

    def undo(
        self, review_id: str, undone_review_id: str, reviewer: str, said_at_ns: int = 0, *, only_own: bool = False
    ) -> tuple[Review, CaseState]:
        """Take an answer back.

        Args:
            review_id: Of the undo.
            undone_review_id: The answer.
            reviewer: Who takes it back.
            said_at_ns: When, by their own clock; 0 = not known.
            only_own: Refuses to take back what somebody else said.

        Returns:
            The undo as it is on record, and how far people are with the case now.

        Raises:
            InvalidInputError: For what breaks a rule.
            NotFoundError: When there is no such review.
            ForbiddenError: When only one's own may be taken back, and the review is somebody else's.
            ConflictError: When the review does not stand any more, or the id was used for another review.
            UnavailableError: While the record or the index is away; the same call may succeed later.
        """
        validate_review_id(review_id)
        validate_reviewer(reviewer)
        if said_at_ns < 0:
            raise InvalidInputError(f"said_at_ns must be >= 0, got {said_at_ns}")
        undone = self._index.find_review(validate_review_id(undone_review_id))
        if only_own and undone.reviewer != reviewer:
            raise ForbiddenError(f"only one's own answer may be taken back, got {undone_review_id} of somebody else")
        case = self._index.find_case(undone.case_id)
        said = Review(
            review_id=review_id,
            case_id=case.case_id,
            frame_id=case.inspection.frame_id,
            action=ReviewAction.UNDO,
            reviewer=reviewer,
            reviewed_at_ns=self._clock_ns(),
            said_at_ns=said_at_ns,
            alias=case.inspection.alias,
            model_version=case.inspection.model_version,
            supersedes=undone_review_id,
        )
        check_review(said, case, bool(case.shown_method))
        with self._alone(case.case_id):
            known = self._known(review_id)
            if known is not None:
                _require_same(known, said, b"")
                return known, self._index.find_case(case.case_id).state
            standing = standing_reviews(self._index.reviews_of(case.case_id))
            if undone_review_id not in {one.review_id for one in standing}:
                raise ConflictError(f"only an answer that stands can be taken back, got {undone_review_id}")
            return self._take(said, b"")

    # ---- checking

    def _case(self, case_id: str) -> QueuedCase:
        """Find a case; one that only the record knows, as the index was lost, comes back with what was said of it."""
        with contextlib.suppress(NotFoundError):
            return self._index.find_case(case_id)
        case = shown_case(self._record, self._record.case(case_id))
        # What was said of it first: it counts once the case is there, and a case without it would look unanswered.
        for said in self._record.reviews_of(case_id):
            self._index.add_review(said, published=False)
        self._index.add_cases([case])
        LOG.warning("the index had lost a case that is on record", extra={"case_id": case_id})
        return self._index.find_case(case_id)

    def _check(self, review: Review, case: QueuedCase, mask_png: bytes) -> tuple[Review, bytes]:
        """Fill in what the service knows and refuse what cannot be meant; the mask comes back as it is kept."""
        png, pixels = b"", 0
        if mask_png:
            if len(mask_png) > self._max_mask_bytes:
                raise InvalidInputError(f"a mask must have at most {self._max_mask_bytes} bytes, got {len(mask_png)}")
            mask = decode_mask(mask_png, case.image_width_px, case.image_height_px)
            png, pixels = mask.png, mask.pixels
        said = replace(
            review,
            frame_id=case.inspection.frame_id,
            alias=case.inspection.alias,
            model_version=case.inspection.model_version,
            reviewed_at_ns=self._clock_ns(),
            mask_ref=None,
            mask_pixels=pixels,
            supersedes="",
            disagrees_with="",
        )
        check_review(said, case, bool(case.shown_method))
        check_area(said.area, case.image_width_px, case.image_height_px)
        return said, png

    def _placed(self, review: Review, others: Sequence[Review]) -> Review:
        """Say which answers a new one replaces and contradicts; one that is put aside does neither."""
        if review.action is not ReviewAction.ANSWER:
            return review
        standing = standing_reviews(others)
        mine = [one.review_id for one in standing if one.reviewer == review.reviewer]
        against = [one.review_id for one in standing if one.reviewer != review.reviewer and differ(one, review)]
        return replace(
            review,
            supersedes=mine[-1] if mine else "",
            disagrees_with=against[-1] if against else "",
        )

    # ---- keeping

    def _known(self, review_id: str) -> Review | None:
        try:
            return self._index.find_review(review_id)
        except NotFoundError:
            return None

    def _take(self, review: Review, png: bytes) -> tuple[Review, CaseState]:
        began_s = time.monotonic()
        if png:
            mask_ref: ImageRef = self._record.add_mask(png)
            review = replace(review, mask_ref=mask_ref)
        kept = self._record.add_review(review)
        if kept.action is ReviewAction.UNDO and kept.supersedes != review.supersedes:
            # The record takes the relation to others as the service's; what an undo takes back is the person's.
            raise ConflictError(f"a review_id must be used for one review, got {review.review_id} for another undo")
        # Whoever has said what they have to say holds the case no longer.
        state = self._index.add_review(kept, published=False, ends_claim=True)
        self._on_taken()
        metrics.FEEDBACK_REVIEWS.labels(kept.action.value).inc()
        metrics.FEEDBACK_REVIEW_SECONDS.observe(time.monotonic() - began_s)
        LOG.info("review taken", extra={"review_id": kept.review_id, "case_id": kept.case_id, "state": state.value})
        return kept, state

    @contextlib.contextmanager
    def _alone(self, case_id: str) -> Iterator[None]:
        # Between looking which answers stand and adding one, no other may come.
        with self._locks[hash(case_id) % _LOCKS]:
            yield


def _require_same(known: Review, said: Review, png: bytes) -> None:
    """Let a review through that was taken before; refuse another one with its id."""
    drawn = hashlib.sha256(png).hexdigest() if png else ""
    kept = known.mask_ref.sha256 if known.mask_ref else ""
    if _said(known) != _said(said) or drawn != kept:
        raise ConflictError(f"a review_id must be used for one review, got {said.review_id} for another one")


def _said(review: Review) -> Review:
    """What a person said, without what the service made of it."""
    if review.action is not ReviewAction.UNDO:
        review = replace(review, supersedes="")
    return replace(review, reviewed_at_ns=0, mask_ref=None, disagrees_with="")
