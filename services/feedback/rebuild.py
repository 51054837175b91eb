"""Makes the index anew from the record, which has everything."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from services.adapters.caserecord import CaseRecord
from services.adapters.ports import CaseIndex, EmbeddingIndex, ReviewFilter
from services.core.errors import SightlineError
from services.feedback.embeddings import EmbeddingIntake
from services.feedback.picture import shown_case

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


def rebuild_index(
    index: CaseIndex,
    record: CaseRecord,
    tell: Tell = lambda _share, _what: None,
    *,
    embeddings: EmbeddingIndex | None = None,
) -> Rebuilt:
    """Forget everything but claims and what the models saw in frames, then add all cases and reviews of the record.

    What arrives meanwhile is added by the running service, or by this; either changes nothing that the other added.
    A review counts as published only where the index said so before: one that nobody knows of is sent (again), since
    its readers tell by its id.

    Args:
        index: The index.
        record: What it is made from.
        tell: Told how far it is.
        embeddings: What the models saw in the cases, likewise; None leaves it as it is.

    Returns:
        How many there are, and what could not be read and is left out.

    Raises:
        UnavailableError: When the record or the index does not answer. The index is incomplete then, and the same call
            may succeed later.
    """
    tell(0.0, "looking at what is published")
    published = _published(index)
    # Before it is cleared: the running service may add a case in between, and whoever is killed then leaves a gap.
    index.note_fill(ended=False)
    index.clear()
    if embeddings is not None:
        embeddings.forget_cases()
    return fill_index(index, record, tell, published=published, embeddings=embeddings)


def fill_index(
    index: CaseIndex,
    record: CaseRecord,
    tell: Tell = lambda _share, _what: None,
    *,
    published: Collection[str] = frozenset(),
    embeddings: EmbeddingIndex | None = None,
) -> Rebuilt:
    """Add all cases and reviews of the record; what is there already stays as it is.

    Args:
        index: The index.
        record: What it is made from.
        tell: Told how far it is.
        published: Ids of the reviews that are in the topic; the others are sent.
        embeddings: Takes what the models saw in the cases; None leaves that out.

    Returns:
        How many there are, and what could not be read and is left out.

    Raises:
        UnavailableError: When the record or the index does not answer. The index says then that it needs a fill.
    """
    done = Rebuilt()
    index.note_fill(ended=False)
    intake = EmbeddingIntake(embeddings, keep_hours=0) if embeddings is not None else None
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="rebuild") as pool:
        cases = record.cases(done.add_damaged)
        while batch := list(islice(cases, _BATCH)):
            index.add_cases(list(pool.map(lambda one: shown_case(record, one, done.add_damaged), batch)))
            if intake is not None:
                intake.put([kept for kept in (intake.of_case(one.case) for one in batch) if kept is not None])
            done.cases += len(batch)
            tell(0.0, f"{done.cases} cases")
    for review in record.reviews(done.add_damaged):
        index.add_review(review, published=review.review_id in published)
        done.reviews += 1
        if done.reviews % _BATCH == 0:
            tell(0.5, f"{done.cases} cases, {done.reviews} reviews")
    index.note_fill(ended=True)
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
