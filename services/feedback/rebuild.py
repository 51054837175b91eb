"""Makes the index anew from the record, which has everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.adapters.caserecord import CaseRecord, queued_case
from services.adapters.ports import CaseIndex, ReviewFilter
from services.core.errors import InvalidInputError, NotFoundError, SightlineError
from services.core.review import QueuedCase
from services.core.types import ExplainedCase
from services.feedback.picture import shown_size_px

#: Told how far it is, 0 to 1, and with what. How much there is nobody knows before it was read.
Tell = Callable[[float, str], None]

_BATCH: Final = 256
_THREADS: Final = 8
_PAGE: Final = 1_000
_MOST: Final = 10_000_000


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild came to."""

    cases: int = 0
    reviews: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
    """Keys in the record that cannot be read, each with the reason."""

    def add_damaged(self, key: str, error: SightlineError) -> None:
        """Note an object that cannot be read."""
        self.damaged.append((key, str(error)))


def rebuild_index(index: CaseIndex, record: CaseRecord, tell: Tell = lambda _share, _what: None) -> Rebuilt:
    """Forget everything but claims, then add all cases and reviews of the record.

    What arrives meanwhile is added by the running service, or by this; either changes nothing that the other added.
    A review counts as published only where the index said so before: one that nobody knows of is sent (again), since
    its readers tell by its id.

    Args:
        index: The index.
        record: What it is made from.
        tell: Told how far it is.

    Returns:
        How many there are, and what could not be read and is left out.

    Raises:
        UnavailableError: When the record or the index does not answer. The index is incomplete then, and the same call
            may succeed later.
    """
    done = Rebuilt()
    tell(0.0, "looking at what is published")
    published = _published(index)
    index.clear()
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="rebuild") as pool:
        cases = record.cases(done.add_damaged)
        while batch := list(islice(cases, _BATCH)):
            index.add_cases(list(pool.map(lambda one: _queued(record, one, done), batch)))
            done.cases += len(batch)
            tell(0.0, f"{done.cases} cases")
    for review in record.reviews(done.add_damaged):
        index.add_review(review, published=review.review_id in published)
        done.reviews += 1
        if done.reviews % _BATCH == 0:
            tell(0.5, f"{done.cases} cases, {done.reviews} reviews")
    tell(1.0, f"{done.cases} cases, {done.reviews} reviews")
    return done


def _published(index: CaseIndex) -> frozenset[str]:
    waiting = {review.review_id for review in index.unpublished(_MOST)}
    return frozenset(review_id for review_id in _review_ids(index) if review_id not in waiting)


def _review_ids(index: CaseIndex) -> Iterator[str]:
    token = ""
    while True:
        page = index.list_reviews(ReviewFilter(), limit=_PAGE, token=token)
        yield from (review.review_id for review in page.reviews)
        token = page.next_token
        if not token:
            return


def _queued(record: CaseRecord, explained: ExplainedCase, done: Rebuilt) -> QueuedCase:
    ref = explained.case.image_ref
    size_px = (0, 0)
    if ref is not None:
        try:
            size_px = shown_size_px(explained.case, record.image(ref))
        except (NotFoundError, InvalidInputError) as error:
            # The case stays: what was said of it holds without its picture.
            done.add_damaged(ref.key, error)
    return queued_case(explained, *size_px)
