"""Counts what a candidate and the live version say of live frames, from the topics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from services.adapters.codec import decode_inspection, decode_shadow_inspection
from services.adapters.ports import Record, TopicReader
from services.core import topics
from services.core.errors import EventDecodeError
from services.core.training_run import FlippedPart, ShadowFigures, WatchFigures
from services.core.types import Inspection, ShadowInspection, Verdict
from services.runtime.handled import HandledIds
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

_MAX_FLIPS: Final = 50
_AT_ONCE: Final = 500
_REMEMBERED: Final = 4_096
_NS_PER_MS: Final = 1_000_000
# So much of a backlog is read before a turn ends, so that a long one keeps nobody from cancelling.
_TURNS: Final = 20


class ShadowCount:
    """What comes on the shadow's topic since a time; counted anew by each process.

    Args:
        reader: Reads :data:`SHADOW_TOPICS`; used from one thread, closed by :meth:`close`.
        alias: The alias.
        live_version: The version that answers.
        candidate: The version in the shadow.
        wanted: Frames that are wanted.
        since_ns: Since when, nanoseconds since the epoch.
    """

    SHADOW_TOPICS: Final = (topics.SHADOW, topics.VERDICTS)

    def __init__(
        self, reader: TopicReader, *, alias: str, live_version: int, candidate: int, wanted: int, since_ns: int
    ) -> None:
        self._reader = reader
        self._alias = alias
        self._live_version = live_version
        self._candidate = candidate
        self._wanted = wanted
        self._handled = HandledIds(_REMEMBERED)
        self._flips: deque[FlippedPart] = deque(maxlen=_MAX_FLIPS)
        self._frames = self._failed = self._agreed = self._live_flagged = self._candidate_flagged = 0
        self.live_frames = 0
        """Verdicts of the live version meanwhile, whether the shadow saw the frame or not."""
        reader.seek_to_time(since_ns // _NS_PER_MS)

    @property
    def figures(self) -> ShadowFigures:
        """What was counted."""
        return ShadowFigures(
            frames=self._frames,
            wanted=self._wanted,
            failed=self._failed,
            agreed=self._agreed,
            live_flagged=self._live_flagged,
            candidate_flagged=self._candidate_flagged,
            flips=tuple(reversed(self._flips)),
        )

    def poll(self, timeout_s: float) -> None:
        """Count what came; waits at most ``timeout_s`` for the first.

        Raises:
            UnavailableError: While the broker is away.
        """
        for record in _new(self._reader, timeout_s):
            if record.topic == topics.SHADOW:
                said = _shadow(record)
                if said is not None and self._handled.add(record.topic_partition, said.shadow.frame_id):
                    self._count(said)
            else:
                verdict = _verdict(record)
                if verdict is not None and (verdict.alias, verdict.model_version) == (self._alias, self._live_version):
                    self.live_frames += 1

    def close(self) -> None:
        """Let the reader go; idempotent."""
        self._reader.close()

    def _count(self, said: ShadowInspection) -> None:
        shadow = said.shadow
        versions = (shadow.alias, shadow.model_version, said.live_version)
        if versions != (self._alias, self._candidate, self._live_version):
            return
        if said.detail:
            self._failed += 1
            return
        self._frames += 1
        self._live_flagged += said.live_verdict is not Verdict.PASS
        self._candidate_flagged += shadow.verdict is not Verdict.PASS
        if shadow.verdict is said.live_verdict:
            self._agreed += 1
            return
        self._flips.append(
            FlippedPart(
                part_id=shadow.part_id,
                product=shadow.product,
                label="",
                before=said.live_verdict,
                after=shadow.verdict,
                before_score=said.live_score,
                after_score=shadow.score,
                frame_id=shadow.frame_id,
            )
        )


class WatchCount:
    """Verdicts of a new version since it decides, and of the one before; counted anew by each process.

    Args:
        reader: Reads the topic ``verdicts``; used from one thread, closed by :meth:`close`.
        alias: The alias.
        version: The new version.
        before: The version before.
        since_ns: Since when it decides, nanoseconds since the epoch.
        until_ns: When the watch ends; the version before is looked at over a time of the same length at most.
    """

    WATCH_TOPICS: Final = (topics.VERDICTS,)

    def __init__(
        self, reader: TopicReader, *, alias: str, version: int, before: int, since_ns: int, until_ns: int
    ) -> None:
        self._reader = reader
        self._alias = alias
        self._version = version
        self._before = before
        self._since_ns = since_ns
        self._until_ns = until_ns
        self._handled = HandledIds(_REMEMBERED)
        self._new = [0, 0, 0]
        self._old = [0, 0, 0]
        self.still = 0
        """Verdicts of the version before after the other was made live."""
        reader.seek_to_time((2 * since_ns - until_ns) // _NS_PER_MS)

    @property
    def figures(self) -> WatchFigures:
        """What was counted."""
        return WatchFigures(
            frames=self._new[0],
            flagged=self._new[1],
            late=self._new[2],
            before_frames=self._old[0],
            before_flagged=self._old[1],
            before_late=self._old[2],
            until_ns=self._until_ns,
        )

    def poll(self, timeout_s: float) -> None:
        """Count what came; waits at most ``timeout_s`` for the first.

        Raises:
            UnavailableError: While the broker is away.
        """
        for record in _new(self._reader, timeout_s):
            verdict = _verdict(record)
            if verdict is None or verdict.alias != self._alias:
                continue
            if not self._handled.add(record.topic_partition, f"{verdict.frame_id} {verdict.model_version}"):
                continue
            if verdict.model_version == self._version:
                _add(self._new, verdict)
            elif verdict.model_version == self._before:
                # Detectors go on with it until the new one is warm everywhere.
                self.still += verdict.decided_at_ns >= self._since_ns
                _add(self._old, verdict)

    def close(self) -> None:
        """Let the reader go; idempotent."""
        self._reader.close()


def _add(counts: list[int], verdict: Inspection) -> None:
    counts[0] += 1
    counts[1] += verdict.verdict is not Verdict.PASS
    counts[2] += not verdict.in_time


def _new(reader: TopicReader, timeout_s: float) -> Iterable[Record]:
    for turn in range(_TURNS):
        records = reader.poll(max_records=_AT_ONCE, timeout_s=0.0 if turn else timeout_s)
        yield from records
        if not records:
            return


def _verdict(record: Record) -> Inspection | None:
    try:
        return decode_inspection(record.value)
    except EventDecodeError as error:
        LOG.warning("a verdict is not counted, at %s: %s", record.position, error, extra={"reason": error.reason})
        return None


def _shadow(record: Record) -> ShadowInspection | None:
    try:
        return decode_shadow_inspection(record.value)
    except EventDecodeError as error:
        LOG.warning("a shadow is not counted, at %s: %s", record.position, error, extra={"reason": error.reason})
        return None
