"""Compares after each new live version: the parts that people corrected, and recent frames, inspected again.

One thread follows the ``models`` topic and asks the detector for one verdict at a time, slowly: the line's own frames
and people's answers come first. What it finds is on record after every few seconds, so that another life goes on from
there; what is away is waited for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from services.adapters.caserecord import CaseRecord
from services.adapters.modelregistry import ModelRegistry
from services.adapters.ports import CaseFilter, CaseIndex, QueueOrder, ReviewFilter
from services.core.errors import (
    BusyError,
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.model_change import (
    ChangeState,
    ComparedFrame,
    ComparedPart,
    FrameStratum,
    ModelChange,
    PartVerdict,
    correction_kind,
    corrections,
    draw,
)
from services.core.review import QueuedCase
from services.core.types import AliasAction, AliasState, Inspection, Verdict
from services.feedback.changebook import ChangeBook
from services.feedback.settings import CompareSettings
from services.runtime import metrics
from services.runtime.background import BackgroundThread
from services.runtime.logging import get_logger
from services.runtime.retry import Backoff

LOG = get_logger(__name__)

#: What a comparison waits for, as the protocol names it.
WAITS_DETECTOR: Final = "detector"
WAITS_VERSION: Final = "version"
WAITS_RECORD: Final = "record"

_PAGE: Final = 500
# Beyond these the newest are enough: what is read keeps a thread of a service that people wait for.
_MOST_REVIEWS: Final = 50_000
_MOST_CASES: Final = 10_000
_FOLLOW_S: Final = 1.0
_POLL_S: Final = 0.1
_KEEP_S: Final = 10.0
_IDLE_S: Final = 1.0
_REST_S: Final = 0.02
_TRIES: Final = 3
_SWITCHES: Final = frozenset({AliasAction.PROMOTE, AliasAction.ROLL_BACK})


class InspectsImages(Protocol):
    """What is needed of the detector; see ``services.adapters.detectorclient``."""

    def inspect(self, image: bytes, *, product: str, part_id: str, timeout_s: float) -> Inspection:
        """A verdict on one image by the live model of the product's alias."""
        ...


class ChangeComparer:
    """One thread that compares; see the module.

    Args:
        open_registry: Gives a fresh reader of the ``models`` topic.
        index: The cases, and what was said of them.
        record: Their pictures.
        book: Takes what is found.
        detector: Inspects.
        settings: How much and how fast.
        timeout_s: Longest wait for one verdict.
        backoff: Waits while something is away.
        clock_ns: Wall clock.
        rest_s: Pause between two pages that are read.
        follow_s: Least time between two looks at the topic.
    """

    def __init__(
        self,
        open_registry: Callable[[], ModelRegistry],
        index: CaseIndex,
        record: CaseRecord,
        book: ChangeBook,
        detector: InspectsImages,
        settings: CompareSettings,
        *,
        timeout_s: float,
        backoff: Backoff | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        rest_s: float = _REST_S,
        follow_s: float = _FOLLOW_S,
    ) -> None:
        self._open_registry = open_registry
        self._index = index
        self._record = record
        self._book = book
        self._detector = detector
        self._settings = settings
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff(first_s=0.5, cap_s=30.0)
        self._clock_ns = clock_ns
        self._rest_s = rest_s
        self._follow_s = follow_s
        self._registry: ModelRegistry | None = None
        self._followed_s = -follow_s
        self._seen: dict[str, int] = {}
        self._waiting: list[ModelChange] = []
        self._kept_s = 0.0
        self._tries: Counter[str] = Counter()
        self._said = ""
        self._stop = threading.Event()
        self._thread = BackgroundThread("comparison of models", self._run)

    # ---- life

    def start(self) -> None:
        """Begin, with what an earlier life left."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        self._thread.check()

    def close(self, timeout_s: float = 5.0) -> None:
        """Keep what was found and stop; the next process goes on. Idempotent."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self.step()):
                pass
            if self._waiting and self._waiting[0].began_at_ns:
                # Whatever does not work now is found again by the next process.
                with contextlib.suppress(SightlineError):
                    self._book.keep(self._waiting[0])
        finally:
            self._let_go()

    # ---- one step

    def step(self) -> float:
        """Do one piece of work.

        Returns:
            Seconds until the next one.
        """
        try:
            self._follow()
            if not self._waiting:
                metrics.FEEDBACK_COMPARE_WAITING.set(0)
                return _IDLE_S
            pause_s = self._advance()
        except _NotYetError as error:
            return self._wait_for(WAITS_VERSION, error)
        except _DetectorAwayError as error:
            return self._wait_for(WAITS_DETECTOR, error)
        except SightlineError as error:
            if not error.retriable:
                raise
            return self._wait_for(WAITS_RECORD, error)
        self._backoff.reset()
        self._said = ""
        return pause_s

    def _wait_for(self, what: str, error: SightlineError) -> float:
        if self._said != what:
            self._said = what
            LOG.warning("the comparison of models waits: %s", error, extra={"reason": error.reason})
        if self._waiting:
            self._book.show(self._waiting[0], what)
        return self._backoff.next_s()

    def _advance(self) -> float:
        change = self._waiting[0]
        if not change.began_at_ns:
            planned = self._plan(change)
            self._book.keep(planned)
            change = self._waiting[0] = planned
            self._kept_s = time.monotonic()
        if self._replaced(change):
            self._end(change, ChangeState.SUPERSEDED)
            return 0.0
        case_id = self._next_case(change)
        if case_id is None:
            self._end(change, ChangeState.DONE)
            return 0.0
        change = self._waiting[0] = self._compare(change, case_id)
        metrics.FEEDBACK_COMPARE_WAITING.set(change.planned - change.settled)
        self._book.show(change)
        if time.monotonic() - self._kept_s >= _KEEP_S:
            self._book.keep(change)
            self._kept_s = time.monotonic()
        return 1.0 / self._settings.per_s

    def _end(self, change: ModelChange, state: ChangeState) -> None:
        self._book.close(replace(change, state=state, ended_at_ns=self._clock_ns()))
        self._waiting.pop(0)
        self._tries.clear()
        LOG.info(
            "what %s version %s changed: %s of %s compared",
            *(change.alias, change.live_version, change.settled, change.planned),
            extra={"state": state.value},
        )

    # ---- noticing

    def _follow(self) -> None:
        if time.monotonic() - self._followed_s < self._follow_s:
            return
        self._followed_s = time.monotonic()
        try:
            if self._registry is None:
                self._registry = self._open_registry()
                self._registry.read_all()
            else:
                self._registry.poll(_POLL_S)
        except SightlineError:
            self._let_go()
            # What is being compared goes on with what is known.
            if not self._waiting:
                raise
        for state in self._states():
            if self._seen.get(state.alias) != state.revision:
                self._notice(state)
                self._seen[state.alias] = state.revision

    def _states(self) -> list[AliasState]:
        return [] if self._registry is None else list(self._registry.states.values())

    def _let_go(self) -> None:
        registry, self._registry = self._registry, None
        if registry is not None:
            registry.close()

    def _notice(self, state: AliasState) -> None:
        """Find out whether an alias has another live version than what is on record says."""
        open_one = next((one for one in self._waiting if one.alias == state.alias), None)
        latest = open_one or self._book.latest(state.alias)
        if latest is not None and latest.live_version == state.live_version and not _later(state, latest):
            if latest.state is ChangeState.COMPARING and open_one is None:
                # Its plan is on record, and what was settled.
                self._waiting.append(latest)
            return
        if latest is not None and latest.state is ChangeState.COMPARING and open_one is None:
            self._book.keep(replace(latest, state=ChangeState.SUPERSEDED, ended_at_ns=self._clock_ns()))
        if not state.live_version or not state.previous_version:
            return
        switched = state.action in _SWITCHES
        self._waiting.append(
            ModelChange(
                alias=state.alias,
                # Where the topic began anew, its revisions were used before.
                revision=max(state.revision, latest.revision + 1 if latest else 0),
                live_version=state.live_version,
                previous_version=state.previous_version,
                action=state.action if switched else None,
                actor=state.actor if switched else "",
                at_ns=state.at_ns,
                note=state.note if switched else "",
            )
        )

    def _replaced(self, change: ModelChange) -> bool:
        if any(one is not change and one.alias == change.alias for one in self._waiting):
            return True
        states = {state.alias: state for state in self._states()}
        return change.alias in states and states[change.alias].live_version != change.live_version

    # ---- planning

    def _plan(self, change: ModelChange) -> ModelChange:
        parts = self._corrected(change)
        cases = self._recent(change)
        by_verdict = {verdict: [one for one in cases if one.inspection.verdict is verdict] for verdict in Verdict}
        strata = [
            FrameStratum(verdict, len(ones), sum(1.0 / one.sampling_probability for one in ones))
            for verdict, ones in by_verdict.items()
            if ones
        ]
        frames: list[ComparedFrame] = []
        for stratum in strata:
            known = {one.case_id: one for one in by_verdict[stratum.before]}
            drawn = draw(known, self._settings.max_frames // len(strata), f"{change.alias} {change.revision}")
            frames += [ComparedFrame(one, known[one].sampling_probability, stratum.before) for one in drawn]
        captured = [one.inspection.captured_at_ns for one in cases]
        return replace(
            change,
            parts=parts,
            frames=tuple(frames),
            strata=tuple(strata),
            frames_since_ns=min(captured, default=0),
            frames_until_ns=max(captured) + 1 if captured else 0,
            began_at_ns=self._clock_ns(),
        )

    def _corrected(self, change: ModelChange) -> tuple[ComparedPart, ...]:
        """The parts that people corrected last, whichever version they corrected."""
        found: dict[str, ComparedPart | None] = {}
        kept = read = 0
        token = ""
        while read < _MOST_REVIEWS:
            page = self._index.list_reviews(ReviewFilter(standing_only=True), limit=_PAGE, token=token)
            read += len(page.reviews)
            for review in page.reviews:
                if review.alias != change.alias or correction_kind(review) is None or review.case_id in found:
                    continue
                part = found[review.case_id] = self._part(review.case_id)
                kept += part is not None
                if kept >= self._settings.max_parts:
                    return tuple(one for one in found.values() if one is not None)
            token = page.next_token
            if not token or self._stop.wait(self._rest_s):
                break
        return tuple(one for one in found.values() if one is not None)

    def _part(self, case_id: str) -> ComparedPart | None:
        try:
            case = self._index.find_case(case_id)
        except NotFoundError:
            return None
        seen = case.inspection
        said = corrections(self._index.reviews_of(case_id), seen.verdict)
        if said is None:
            return None
        return ComparedPart(
            case_id=case_id,
            part_id=seen.part_id,
            line_id=seen.line_id,
            camera_id=seen.camera_id,
            captured_at_ns=seen.captured_at_ns,
            settled=said[0],
            corrections=said[1],
            before=_verdict_of(seen),
        )

    def _recent(self, change: ModelChange) -> Sequence[QueuedCase]:
        """Cases of the version before, the newest first, of the time that is looked at."""
        if not self._settings.max_frames:
            return ()
        where = CaseFilter(
            alias=change.alias,
            model_version=change.previous_version,
            since_ns=max(1, change.at_ns - self._settings.lookback_s * 1_000_000_000),
        )
        cases: list[QueuedCase] = []
        token = ""
        while len(cases) < _MOST_CASES:
            page = self._index.list_cases(where, QueueOrder.NEWEST, limit=_PAGE, token=token, now_ns=0)
            cases += page.cases
            token = page.next_token
            if not token or self._stop.wait(self._rest_s):
                break
        return cases

    # ---- comparing

    def _next_case(self, change: ModelChange) -> str | None:
        """What to inspect next: parts first, those that failed last; None when nothing waits."""
        waiting = [part.case_id for part in change.parts if part.waits]
        waiting = waiting or [frame.case_id for frame in change.frames if frame.waits]
        return min(waiting, key=lambda one: self._tries[one], default=None)

    def _compare(self, change: ModelChange, case_id: str) -> ModelChange:
        try:
            case = self._index.find_case(case_id)
            image = self._record.image(case.image_ref)
        except (NotFoundError, InvalidInputError):
            return self._settle(change, case_id, None, "picture_missing")
        try:
            said = self._inspect(change, case, image)
        except _NotYetError:
            raise
        except InvalidInputError as error:
            LOG.info("the detector refuses a picture on record: %s", error, extra={"case_id": case_id})
            return self._settle(change, case_id, None, "refused")
        except (UnavailableError, DeadlineError) as error:
            self._tries[case_id] += 1
            if self._tries[case_id] >= _TRIES and self._others_are_answered(change):
                return self._settle(change, case_id, None, "no_answer")
            raise _DetectorAwayError(str(error)) from error
        except BusyError as error:
            raise _DetectorAwayError(str(error)) from error
        if said is None:
            return self._settle(change, case_id, None, "other_alias")
        if not said.model_version:
            return self._settle(change, case_id, None, "refused")
        return self._settle(change, case_id, _verdict_of(said), "")

    def _inspect(self, change: ModelChange, case: QueuedCase, image: bytes) -> Inspection | None:
        """Ask the detector; None where another alias answers for the product by now."""
        seen = case.inspection
        said = self._detector.inspect(image, product=seen.product, part_id=seen.part_id, timeout_s=self._timeout_s)
        if said.alias != change.alias:
            return None
        if said.model_version not in (0, change.live_version):
            raise _NotYetError(
                f"the detector must answer with {change.alias} version {change.live_version}, "
                f"got version {said.model_version}"
            )
        return said

    def _others_are_answered(self, change: ModelChange) -> bool:
        """Whether a picture that was answered before is answered still, so that it is this one's fault."""
        known = [part.case_id for part in change.parts if part.after] + [
            one.case_id for one in change.frames if one.after
        ]
        if not known:
            return False
        try:
            case = self._index.find_case(known[-1])
            return self._inspect(change, case, self._record.image(case.image_ref)) is not None
        except SightlineError:
            return False

    def _settle(self, change: ModelChange, case_id: str, said: PartVerdict | None, left_out: str) -> ModelChange:
        metrics.FEEDBACK_COMPARED.labels(left_out or "compared").inc()
        parts = tuple(
            replace(part, after=said, left_out=left_out) if part.waits and part.case_id == case_id else part
            for part in change.parts
        )
        verdict = said.verdict if said else None
        # A recent frame that was corrected too need not be asked about twice.
        frames = tuple(
            replace(frame, after=verdict, left_out=left_out) if frame.waits and frame.case_id == case_id else frame
            for frame in change.frames
        )
        return replace(change, parts=parts, frames=frames)


class _NotYetError(UnavailableError):
    """Another version answers still."""


class _DetectorAwayError(UnavailableError):
    """The detector does not answer, or has no time."""


def _verdict_of(seen: Inspection) -> PartVerdict:
    return PartVerdict(seen.verdict, seen.score, seen.operating_point, seen.model_version, seen.defect_class)


def _later(state: AliasState, known: ModelChange) -> bool:
    """Whether a version was made live again after another had been in between, unseen."""
    return state.action in _SWITCHES and state.previous_version > 0 and state.at_ns > known.at_ns
