"""The dashboard's side of reviewing: asks the feedback service for the routes, and remembers a little of its answers.

A browser that shows a queue asks for each case's thumbnail, and one that shows a case for each of its maps. Where a
case's picture lies and the cases opened last are therefore kept, up to a bound, so that these do not each become a
question. What a page shows of a case itself is always asked for.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Generic, Protocol, TypeVar

from services.adapters.feedbackclient import CaseView
from services.adapters.ports import CaseFilter, CasePage, QueueOrder, ReviewFilter, ReviewPage, ReviewStats
from services.core.errors import BusyError, DeadlineError, EventDecodeError, SightlineError, UnavailableError
from services.core.neighbours import Neighbours
from services.core.review import CaseState, QueuedCase, Review
from services.core.types import ImageRef
from services.dashboard.explanations import KeptExplanations

T = TypeVar("T")

_WAITING_FOR_EACH = 8
_IMAGE_REFS = 8_192
# Some two hundred cases: two maps of 96 x 96 take 41 kB with what belongs to them.
_VIEWS_BYTES = 8_000_000


class NoFeedbackError(SightlineError):
    """No feedback service is set, so nothing can be reviewed here."""

    reason = "no_feedback"


class FeedbackService(Protocol):
    """What is needed of the feedback service; see ``services.adapters.feedbackclient``."""

    def list_queue(
        self,
        where: CaseFilter,
        order: QueueOrder,
        *,
        limit: int,
        token: str = "",
        not_held_from: str = "",
        timeout_s: float = 10.0,
    ) -> CasePage:
        """One page of cases."""
        ...

    def get_case(self, case_id: str, timeout_s: float = 10.0) -> CaseView:
        """One case with its maps and everything that was said of it."""
        ...

    def claim(self, case_id: str, reviewer: str, *, release: bool = False, timeout_s: float = 10.0) -> int:
        """Reserve a case, or give it back; until when it is held, nanoseconds since the epoch."""
        ...

    def submit(self, review: Review, mask_png: bytes, timeout_s: float = 10.0) -> tuple[Review, CaseState]:
        """Give an answer; the review as it is on record, and the case's state."""
        ...

    def undo(
        self,
        review_id: str,
        undone_review_id: str,
        reviewer: str,
        said_at_ns: int,
        timeout_s: float = 10.0,
        *,
        only_own: bool = False,
    ) -> tuple[Review, CaseState]:
        """Take an answer back; with ``only_own`` nobody else's."""
        ...

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "", timeout_s: float = 10.0) -> ReviewPage:
        """One page of reviews."""
        ...

    def stats(self, where: CaseFilter, timeout_s: float = 10.0) -> ReviewStats:
        """Counts."""
        ...

    def neighbours(self, case_id: str, into_queue_for: str = "", timeout_s: float = 10.0) -> Neighbours:
        """What resembles a case; brought into somebody's queue, unless that is empty."""
        ...


class Recent(Generic[T]):
    """Least recently used values by name, bounded by what they weigh. Thread-safe."""

    def __init__(self, most: int, weigh: Callable[[T], int] = lambda _: 1) -> None:
        """Set up, empty.

        Args:
            most: What all of them may weigh.
            weigh: Says what one weighs; 1 each unless told otherwise.
        """
        self._most = most
        self._weigh = weigh
        self._lock = Lock()
        self._entries: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._weight = 0

    def get(self, name: str) -> T | None:
        """The value, which thereby becomes the most recently used one."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None:
                return None
            self._entries.move_to_end(name)
            return entry[0]

    def put(self, name: str, value: T) -> None:
        """Keep a value, and let the least recently used ones go; one over the whole bound is not kept."""
        weight = self._weigh(value)
        with self._lock:
            replaced = self._entries.pop(name, None)
            if replaced is not None:
                self._weight -= replaced[1]
            if weight > self._most:
                return
            self._entries[name] = (value, weight)
            self._weight += weight
            while self._weight > self._most:
                _, (_, gone) = self._entries.popitem(last=False)
                self._weight -= gone


class Reviewing:
    """Asks the feedback service on threads of its own. What is awaited is used from the event loop only."""

    def __init__(self, feedback: FeedbackService | None, *, timeout_s: float, max_at_once: int) -> None:
        """Set up.

        Args:
            feedback: The service; None where none is set.
            timeout_s: Longest wait for an answer, and before that for a thread.
            max_at_once: Questions at the same time; some more may wait for their turn.
        """
        self._feedback = feedback
        self.timeout_s = timeout_s
        self._max_waiting = max_at_once * _WAITING_FOR_EACH
        self._waiting = 0
        self._free = asyncio.Semaphore(max_at_once)
        self._pool = ThreadPoolExecutor(max_at_once, thread_name_prefix="feedback")
        self._image_refs: Recent[ImageRef] = Recent(_IMAGE_REFS)
        self._views: Recent[CaseView] = Recent(_VIEWS_BYTES, lambda view: explanations_of(view).size_bytes)

    def close(self) -> None:
        """Let go of the threads; questions that are asked end with their deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def ask(self, question: Callable[[FeedbackService], T]) -> T:
        """Ask on a thread.

        Args:
            question: Asks the service; may wait for it.

        Raises:
            NoFeedbackError: No service is set.
            UnavailableError: It does not answer in time, or so many questions wait that this one had no turn.
            SightlineError: What the service says to it.
        """
        feedback = self.require()
        await self._turn()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, question, feedback)
        except (BusyError, DeadlineError, EventDecodeError) as error:
            # Whoever asked did nothing wrong, and the same question may be answered later.
            raise UnavailableError(str(error)) from error
        finally:
            self._free.release()

    def require(self) -> FeedbackService:
        """The service; raises ``NoFeedbackError`` where none is set."""
        if self._feedback is None:
            raise NoFeedbackError("feedback.address must be set for reviewing, it is empty")
        return self._feedback

    async def _turn(self) -> None:
        if self._waiting >= self._max_waiting:
            raise UnavailableError(f"at most {self._max_waiting} questions may wait for the feedback service, got more")
        self._waiting += 1
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._free.acquire()
        except TimeoutError:
            raise UnavailableError(
                f"the feedback service must have a turn within {self.timeout_s} s, got none"
            ) from None
        finally:
            self._waiting -= 1

    def remember_page(self, page: CasePage) -> None:
        """Keep where the pictures of these cases lie."""
        for case in page.cases:
            self.remember(case)

    def remember(self, case: QueuedCase) -> None:
        """Keep where a case's picture lies."""
        self._image_refs.put(case.case_id, case.image_ref)

    def open_case(self, feedback: FeedbackService, case_id: str) -> CaseView:
        """Ask for a case, and keep the answer."""
        view = feedback.get_case(case_id, timeout_s=self.timeout_s)
        self._image_refs.put(case_id, view.case.image_ref)
        self._views.put(case_id, view)
        return view

    async def image_ref(self, case_id: str) -> ImageRef:
        """Where a case's picture lies; raises as :meth:`ask`."""
        self.require()
        known = self._image_refs.get(case_id)
        return known or (await self.ask(lambda feedback: self.open_case(feedback, case_id))).case.image_ref

    async def view(self, case_id: str, suffices: Callable[[CaseView], bool]) -> CaseView:
        """A case as it was when last asked for, if that suffices, else as it is now; raises as :meth:`ask`."""
        self.require()
        known = self._views.get(case_id)
        if known is not None and suffices(known):
            return known
        return await self.ask(lambda feedback: self.open_case(feedback, case_id))


def explanations_of(view: CaseView) -> KeptExplanations:
    """What explains a case, as the part pages' overlays and JSON take it."""
    inspection = view.case.inspection
    return KeptExplanations(
        frame_id=inspection.frame_id,
        alias=inspection.alias,
        model_version=inspection.model_version,
        captured_at_ns=inspection.captured_at_ns,
        explanations=view.explanations,
        explained_at_ns=view.case.explained_at_ns,
        agreement=view.agreement,
    )
