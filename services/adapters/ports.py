"""What services ask of the outside world, as small protocols.

Handlers see these and nothing else; ``__main__.py`` and ``cli.py`` choose the real ones (``kafka.py``,
``objectstore.py``, ``triton.py``, ...) and tests the ones in ``memory.py``. Every call that can wait has a deadline.
A dependency that does not answer raises ``UnavailableError``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.core.line_event import LineEvent
from services.core.neighbours import Relation
from services.core.outcome import Outcome
from services.core.plc import PlcInputs, PlcOutputs
from services.core.review import CaseState, QueuedCase, Review
from services.core.statistics import (
    CountedAudits,
    CountedOutcomes,
    CountedVerdicts,
    GroupBy,
    Inspected,
    Slots,
    Span,
    StatisticsFilter,
)
from services.core.types import CaseKind, ImageRef, Inspection, RecordPosition, Verdict

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record read from a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Headers = ()

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition that the record was read from."""
        return TopicPartition(self.topic, self.partition)

    @property
    def position(self) -> RecordPosition:
        """The record's place, as it is written into events."""
        return RecordPosition(self.topic, self.partition, self.offset)


class RecordWriter(Protocol):
    """Writes records; idempotent and acknowledged by all replicas."""

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> Future[RecordPosition]:
        """Queue one record; thread-safe and ordered per key.

        Returns:
            Resolves to the record's place once it is acknowledged, or to ``UnavailableError`` after the delivery
            deadline, or to ``InvalidInputError`` for a record the broker will never take (too large).

        Raises:
            UnavailableError: When the writer's buffer stays full for its blocking deadline.
        """
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait until everything queued is settled; raises ``UnavailableError`` after ``timeout_s``."""
        ...

    def close(self, timeout_s: float) -> None:
        """Flush and let go; idempotent."""
        ...


class RebalanceListener(Protocol):
    """Told, on the consumer's thread, of partitions that come and go."""

    def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Finish or drop what is in flight for these, and commit; they are another member's next."""
        ...

    def on_assigned(self, partitions: Sequence[TopicPartition]) -> None:
        """These are ours from their committed offsets on."""
        ...


class RecordConsumer(Protocol):
    """A member of a consumer group. Used from one thread only."""

    def subscribe(self, topics: Sequence[str], listener: RebalanceListener) -> None:
        """Join the group for these topics."""
        ...

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Fetch what is there; records of one partition are in offset order. Empty after ``timeout_s``."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """Partitions that are ours now."""
        ...

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch nothing more from these until resumed; the membership stays alive by polling."""
        ...

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read this partition from ``offset`` next."""
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offset to read for each partition, synchronously.

        Raises:
            UnavailableError: When the broker does not answer in time; nothing was lost, commit again.
            ConflictError: When a partition is no longer ours; its records will be read again by its new owner.
        """
        ...

    def lag(self) -> Mapping[TopicPartition, int]:
        """Records behind the end of each assigned partition, paused ones included, as far as it is known."""
        ...

    def close(self) -> None:
        """Leave the group; idempotent."""
        ...


class TopicReader(Protocol):
    """Reads whole topics by assignment, outside any group. Used from one thread only."""

    def read_to_end(self, timeout_s: float) -> Iterator[Record]:
        """Yield every record from where the reader stands up to the ends seen when called.

        Raises:
            UnavailableError: When the ends are not reached within ``timeout_s``.
        """
        ...

    def poll(self, *, max_records: int, timeout_s: float) -> list[Record]:
        """Fetch what came since."""
        ...

    def seek_to_end(self) -> None:
        """Skip everything that exists now."""
        ...

    def seek_to_time(self, timestamp_ms: int) -> None:
        """Read next, in each partition, the first record written at or after this time (ms since the epoch).

        A partition without such a record is read from its end on.

        Raises:
            UnavailableError: When the broker does not answer in time.
        """
        ...

    def read_between(self, since_ms: int, until_ms: int, timeout_s: float) -> Iterator[Record]:
        """Yield every record written from one time on and before another (ms since the epoch), as far as they are now.

        Where the reader stands afterwards is not promised.

        Raises:
            UnavailableError: When nothing comes for ``timeout_s`` although there is more.
        """
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...


class RecordFetcher(Protocol):
    """Reads single records by place, for pictures that lie inline in ``frames``."""

    def fetch(self, position: RecordPosition, timeout_s: float) -> Record:
        """Read one record.

        Raises:
            NotFoundError: When the topic no longer keeps that offset.
            UnavailableError: When it cannot be read within ``timeout_s``.
        """
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store knows of one object."""

    key: str
    size_bytes: int
    modified_ns: int


class ObjectStore(Protocol):
    """One bucket of an S3-compatible store. Thread-safe."""

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        ...

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        """Write an object, durably, replacing what was there.

        Returns:
            The reference, with size and SHA-256 of ``data``.
        """
        ...

    def put_new(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> ImageRef:
        """Write an object only if nothing lies there; raises ``ConflictError`` otherwise."""
        ...

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """Read an object.

        Raises:
            NotFoundError: When nothing lies there.
            InvalidInputError: When it is larger than ``max_bytes``.
        """
        ...

    def stat(self, key: str) -> ObjectStat:
        """Size and age of an object; raises ``NotFoundError``."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether an object lies there."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object under ``prefix``, in no promised order."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        ...

    def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class InferenceResult:
    """What a model said of a batch."""

    score: NDArray[np.float32]
    """Shape ``(B,)``, higher is worse."""
    probabilities: NDArray[np.float32]
    """Shape ``(B, C)``."""
    embedding: NDArray[np.float32]
    """Shape ``(B, D)``."""
    disagreement: NDArray[np.float32]
    """Shape ``(B,)``, how far the detectors of a panel disagree, in 0 to 1; all 0 of one model."""


class InferenceClient(Protocol):
    """Asks models on one or several Tritons for scores. Thread-safe; several calls may be in flight."""

    def infer(self, model_name: str, images: NDArray[np.uint8], timeout_s: float) -> Future[InferenceResult]:
        """Score one batch.

        Args:
            model_name: As ``services.core.types.triton_model_name`` gives it.
            images: ``uint8``, shape ``(B, H, W, 3)``, RGB, already prepared to the model's input size.
            timeout_s: Deadline of the call.

        Returns:
            Resolves to the result, or to ``UnavailableError`` (no Triton answers, or in time), ``NotFoundError``
            (the model is not loaded) or ``InvalidInputError`` (the model refused the tensor).
        """
        ...

    def warm_everywhere(self, model_name: str) -> bool:
        """Tell whether every reachable Triton has the model ready, and at least one is reachable."""
        ...

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class ExplanationRequest:
    """What an explaining model is asked, beside the image.

    Attributes:
        method: One of ``services.core.explain.attribution.METHODS``.
        target: Class whose probability is explained; -1 stands for the anomaly score.
        seed: Of the masks, in 0..2**63 - 1.
        max_passes: Most forward passes.
        budget_ms: Most milliseconds; 0 sets no limit.
        min_stability: Stop as soon as the map is this stable; 0 spends all passes.
        steps: Whether maps on the way are sent too.
        evidence: Whether further passes are spent on how well the map explains (deletion, insertion, transplant).
        spot: Whether at least the few passes of the transplant are spent, which a grade is made from.
        content_height_px: Rows of the picture in the middle of the input, whose rest is its mirror image; 0 for all.
        content_width_px: Columns of the picture, likewise.
    """

    method: str
    target: int = -1
    seed: int = 0
    max_passes: int = 1000
    budget_ms: int = 0
    min_stability: float = 0.0
    steps: bool = False
    evidence: bool = True
    spot: bool = False
    content_height_px: int = 0
    content_width_px: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ExplanationStep:
    """A map, finished or on its way. NaN is not measured."""

    map: NDArray[np.float32]
    """Over the model's input, shape ``(h, w)`` of any resolution; NaN is undefined."""
    probability: float
    passes: int
    stability: float
    deletion_auc: float
    insertion_auc: float
    random_auc: float
    transplant: float
    seconds: float
    final: bool
    partial: bool


class ExplanationSteps(Protocol):
    """The maps of one explanation as they come, the last one final. One thread reads; any may close."""

    def __iter__(self) -> Iterator[ExplanationStep]:
        """Itself."""
        ...

    def __next__(self) -> ExplanationStep:
        """The next map.

        Raises:
            StopIteration: After the final one, and once it is closed.
            SightlineError: See :meth:`ExplanationClient.explain`.
        """
        ...

    def close(self) -> None:
        """Cancel the work, if it is not done; idempotent."""
        ...


class ExplanationClient(Protocol):
    """Asks explaining models on one or several Tritons. Thread-safe."""

    def explain(
        self, model_name: str, image: NDArray[np.uint8], request: ExplanationRequest, timeout_s: float
    ) -> ExplanationSteps:
        """Explain one prepared image; closing the iterator cancels the work.

        Args:
            model_name: As ``services.core.types.triton_explainer_name`` gives it.
            image: ``uint8``, shape ``(H, W, 3)``, RGB, one tile prepared to the model's input size.
            request: Method and budget.
            timeout_s: Deadline of the call.

        Raises:
            InvalidInputError: The image is no prepared image; here, all else when the first map is asked for.
            UnavailableError: No Triton answers, or in time, or each has as much to do as it takes.
            NotFoundError: The model is not loaded.
            ExplanationError: The method cannot explain this, with the reason's token.
        """
        ...

    def is_loaded(self, model_name: str) -> bool:
        """Tell whether a reachable Triton has the model ready."""
        ...

    def close(self) -> None:
        """Cancel what is in flight and let go; idempotent."""
        ...


class ModelControl(Protocol):
    """Loads and unloads models on one Triton. Only the serving agent beside it may."""

    def is_live(self) -> bool:
        """Tell whether that Triton answers."""
        ...

    def ready_models(self) -> frozenset[str]:
        """Names of the models that are ready."""
        ...

    def load(self, model_name: str, timeout_s: float) -> None:
        """Load a model from the repository folder.

        Raises:
            ModelFormatError: With Triton's reason, when Triton refuses the model.
            UnavailableError: When Triton does not answer in time.
        """
        ...

    def unload(self, model_name: str, timeout_s: float) -> None:
        """Unload a model; one that is not loaded is no error."""
        ...


class QueueOrder(enum.Enum):
    """The order of a queue of cases."""

    BY_GAIN = "gain"
    """By ``services.core.review.queue_rank``, the highest first."""
    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases; what is empty, 0 or None does not narrow."""

    line_id: str = ""
    camera_id: str = ""
    product: str = ""
    verdict: Verdict | None = None
    """That the model gave."""
    kind: CaseKind | None = None
    alias: str = ""
    model_version: int = 0
    since_ns: int = 0
    """Captured at or after this time."""
    until_ns: int = 0
    """Captured before this time."""
    defect_class: str = ""
    """As the model or a standing answer names it."""
    reviewer: str = ""
    """Somebody whose answer stands."""
    state: CaseState | None = None


@dataclass(frozen=True, slots=True)
class CasePage:
    """One page of a queue."""

    cases: tuple[QueuedCase, ...]
    next_token: str
    """For the next page; empty where nothing follows."""


@dataclass(frozen=True, slots=True)
class ReviewFilter:
    """Which reviews; what is empty, 0 or False does not narrow."""

    reviewer: str = ""
    line_id: str = ""
    since_ns: int = 0
    """Taken at or after this time."""
    until_ns: int = 0
    """Taken before this time."""
    standing_only: bool = False
    """Leaves out what was taken back or replaced, skips, and the undos themselves."""


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """One page of reviews, the newest first."""

    reviews: tuple[Review, ...]
    next_token: str
    cases: tuple[QueuedCase, ...] = ()
    """The cases that they are of, each once and in no order, as far as they are known. The service gives them; an index
    does not."""


@dataclass(frozen=True, slots=True)
class ReviewStats:
    """Counts of cases and of what people settled on; see ``GetStatsResponse``."""

    open: int
    reviewed: int
    disputed: int
    verdict_right: int
    false_rejects: int
    escapes: int
    wrong_reason: int


@dataclass(frozen=True, slots=True, eq=False)
class KeptEmbedding:
    """What the model saw in one frame."""

    case_id: str
    """Of the case that the frame is, or would be."""
    inspection: Inspection
    embedding: NDArray[np.float16]
    """Of length 1, shape ``(D,)``; see ``services.core.neighbours.unit``."""
    expires_at_ns: int = 0
    """When it is forgotten; 0 for a case, whose embedding stays."""


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourQuery:
    """Whose neighbours are looked for."""

    alias: str
    model_version: int
    embedding: NDArray[np.float16]
    """As in :class:`KeptEmbedding`."""
    own: Verdict | None
    """Class of the case, PASS or FAIL; None finds the farthest only."""
    part_id: str
    """Pictures of this part are no neighbours."""


@dataclass(frozen=True, slots=True, eq=False)
class NearestEmbeddings:
    """What an index of embeddings finds."""

    found: Mapping[Relation, tuple[tuple[float, KeptEmbedding], ...]]
    """By relation the best ones with their cosines, the best first; relations without any are left out."""
    compared: int
    exact: bool
    """Whether every embedding was compared."""


class EmbeddingIndex(Protocol):
    """Embeddings of frames and cases, ready to be asked for neighbours. Thread-safe."""

    def put(self, embeddings: Sequence[KeptEmbedding]) -> int:
        """Keep embeddings, all or none; what is known stays as it is, but for a frame that has become a case.

        Returns:
            How many were left out because they have another length than those of their model version.

        Raises:
            UnavailableError: When the database does not answer, or is full.
        """
        ...

    def find(self, case_id: str) -> KeptEmbedding:
        """One embedding; raises ``NotFoundError``."""
        ...

    def nearest(self, query: NeighbourQuery, *, most: int, now_ns: int) -> NearestEmbeddings:
        """Find what is most and least similar.

        The first question about a version takes as long as it takes to read its embeddings.

        Args:
            query: Whose neighbours.
            most: Of each relation.
            now_ns: The present; what has expired by then is not found.

        Raises:
            UnavailableError: When the database does not answer.
        """
        ...

    def tidy(self, now_ns: int) -> int:
        """Forget what has expired, and what a version has beyond its bound; gives how many."""
        ...

    def forget(self, case_ids: Sequence[str]) -> None:
        """Forget the embeddings of frames that are of no use any more; those of cases stay."""
        ...

    def forget_cases(self) -> None:
        """Forget the embeddings of cases, before they are put again from the record."""
        ...


class CaseIndex(Protocol):
    """The cases and reviews, ready to be asked. A read model: the record has everything. Thread-safe."""

    def add_cases(self, cases: Sequence[QueuedCase]) -> None:
        """Add cases, all or none; one that is known is brought up to date but for its reviews and its claim.

        Reviews that came before their case count once it is there.

        Raises:
            UnavailableError: When the database does not answer, or is full.
        """
        ...

    def add_review(self, review: Review, *, published: bool, ends_claim: bool = False) -> CaseState:
        """Add a review and bring its case's state up to date; one that is known is not added again.

        Args:
            review: As it is on record.
            published: Whether it is in the ``reviews`` topic; see :meth:`unpublished`.
            ends_claim: Whether whoever gave it holds the case no longer.

        Returns:
            How far people are with the case now; open while the case is not there.

        Raises:
            UnavailableError: When the database does not answer, or is full.
        """
        ...

    def find_case(self, case_id: str) -> QueuedCase:
        """One case, with its state and claim; raises ``NotFoundError``."""
        ...

    def find_cases(self, text: str, *, limit: int, now_ns: int) -> tuple[QueuedCase, ...]:
        """Cases by what is printed on a part or was copied from a page.

        Args:
            text: The id of a case or of a frame, whole, or the beginning of a part's id, in capitals or not.
            limit: Most of them.
            now_ns: The present; claims that ended before are not given.

        Returns:
            By the part's id, and of one part in the order of capture.

        Raises:
            InvalidInputError: For a text that is the beginning of no id.
        """
        ...

    def cases_of(self, case_ids: Sequence[str]) -> tuple[QueuedCase, ...]:
        """Those of some cases that are known, without their claims and in no order.

        Args:
            case_ids: At most 1 000.
        """
        ...

    def find_review(self, review_id: str) -> Review:
        """One review; raises ``NotFoundError``."""
        ...

    def reviews_of(self, case_id: str) -> tuple[Review, ...]:
        """Everything that was said of a case, in the order in which it was taken."""
        ...

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
        """One page of cases.

        Args:
            where: Which.
            order: In which order.
            limit: Most of them.
            token: Of an earlier page with the same filter and order. What arrives meanwhile moves nothing: no case is
                given twice, and none that was there is left out.
            not_held_from: Leaves out what somebody other than this person holds at ``now_ns``; empty: nothing.
            now_ns: The present; claims that ended before are not given.

        Raises:
            InvalidInputError: For a token that is none.
        """
        ...

    def list_reviews(self, where: ReviewFilter, *, limit: int, token: str = "") -> ReviewPage:
        """One page of reviews; see :meth:`list_cases`."""
        ...

    def stats(self, where: CaseFilter) -> ReviewStats:
        """Count; the filter's state is not read."""
        ...

    def claim(self, case_id: str, reviewer: str, *, until_ns: int, now_ns: int) -> None:
        """Reserve a case for a person, or prolong it.

        Raises:
            NotFoundError: If there is no such case.
            ConflictError: While somebody else holds it; the message says who.
        """
        ...

    def release(self, case_id: str, reviewer: str) -> None:
        """Give a claim back; one that is not this person's is left alone."""
        ...

    def unpublished(self, limit: int) -> tuple[Review, ...]:
        """Reviews that are on record but not yet in the ``reviews`` topic, the oldest first."""
        ...

    def set_published(self, review_ids: Sequence[str]) -> None:
        """These are in the topic now."""
        ...

    def needs_fill(self) -> bool:
        """Whether it lacks what is on record: it is empty, or a fill of it has begun and not ended."""
        ...

    def note_fill(self, *, ended: bool) -> None:
        """A fill from the record begins, or has ended."""
        ...

    def clear(self) -> None:
        """Forget everything but claims, before it is built anew."""
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class CountedTo:
    """How far a partition is counted."""

    offset: int
    """The next record to count."""
    timestamp_ms: int
    """The latest time that any counted record of it was written."""


@dataclass(frozen=True, slots=True)
class VerdictToCount:
    """A record of the ``verdicts`` topic, as far as it is counted."""

    partition: TopicPartition
    offset: int
    timestamp_ms: int
    of: Inspected | None
    """None for what is passed over: not readable, or said before."""
    captured_at_s: int = 0
    verdict: Verdict = Verdict.REVIEW
    in_time: bool = True


class VerdictCounts(Protocol):
    """Verdicts counted by spans of time, for longer than their topic keeps them. Thread-safe."""

    def counted_to(self, topic: str) -> Mapping[TopicPartition, CountedTo]:
        """How far each partition of a topic is counted; partitions of which nothing is are absent."""
        ...

    def add(self, verdicts: Sequence[VerdictToCount]) -> int:
        """Count records, and note in the same transaction how far their partitions are counted.

        A record before that place was counted and is passed over; if it was written after everything that was counted,
        the topic was made anew, and counting begins with it.

        Args:
            verdicts: In order of their offsets within each partition.

        Returns:
            How many were counted.

        Raises:
            UnavailableError: When the database does not answer, or is full.
        """
        ...

    def read(
        self, where: StatisticsFilter, span: Span, group_by: GroupBy, slots: Slots | None
    ) -> Sequence[CountedVerdicts]:
        """Sums over the spans that begin within a stretch of time."""
        ...

    def tidy(self, *, merge_before_s: int, drop_before_s: int) -> None:
        """Merge spans that begin before a time into quarters of an hour, and drop those before another."""
        ...


@dataclass(frozen=True, slots=True)
class OpenCases:
    """What waits for a person on one line."""

    line_id: str
    cases: int
    oldest_captured_at_ns: int


class CaseBacklog(Protocol):
    """What waits for a person. Thread-safe."""

    def open_cases(self) -> Sequence[OpenCases]:
        """Lines on which something waits, by name; claimed cases wait too.

        Raises:
            UnavailableError: While the index is away.
        """
        ...


class CaseOutcomes(Protocol):
    """What people found of cases, counted for statistics. Thread-safe."""

    def outcomes(
        self, where: StatisticsFilter, span: Span, group_by: GroupBy, slots: Slots | None
    ) -> Sequence[CountedOutcomes]:
        """Cases captured within a stretch of time that people are done with."""
        ...

    def audits(self, where: StatisticsFilter, span: Span, slots: Slots | None) -> Sequence[CountedAudits]:
        """Passed inspections that were drawn within a stretch of time, by everything that tells them apart."""
        ...


class OutcomeSink(Protocol):
    """Tells one receiver of a line's outcomes and events: a broker, a web hook, a file. Used from one thread."""

    @property
    def address(self) -> str:
        """Whom it tells, for people; without secrets."""
        ...

    def deliver(self, told: Outcome | LineEvent) -> None:
        """Deliver one of them; returns once the receiver has it.

        The same one may be delivered again, with the same id, after a restart.

        Raises:
            UnavailableError: When the receiver is away or does not answer in time; the same call may succeed later.
            InvalidInputError: When the receiver will never take it.
        """
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...


class ProcessImage(Protocol):
    """The signals that a PLC and this side exchange, kept by a server that the PLC connects to. Thread-safe."""

    def start(self) -> None:
        """Begin to serve.

        Raises:
            UnavailableError: When the address cannot be served on.
        """
        ...

    def read(self) -> PlcInputs:
        """What the PLC says now."""
        ...

    def write(self, outputs: PlcOutputs) -> None:
        """Say this from now on; what was not changed costs nothing.

        A reader never sees a new *ResultReady* with old results.
        """
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait until the PLC writes something; tells whether it did within ``timeout_s``."""
        ...

    def malformed(self) -> Sequence[str]:
        """What came since the last call that is no message of the protocol, each in words for people."""
        ...

    @property
    def address(self) -> str:
        """Where the PLC finds it, for people."""
        ...

    def close(self) -> None:
        """Stop serving; idempotent."""
        ...


class PlcLink(Protocol):
    """The other side of a process image, as a PLC has it: for the simulated PLC and for tests. Used from one thread."""

    def connect(self, timeout_s: float) -> None:
        """Connect, anew where it was connected; ``timeout_s`` is every later call's deadline too.

        Raises:
            UnavailableError: When nobody answers there in time.
        """
        ...

    def write(self, inputs: PlcInputs) -> None:
        """Say this from now on: the texts and numbers no later than the signals.

        Raises:
            UnavailableError: When the connection is lost; connect again.
            InvalidInputError: When the other side refuses a value.
        """
        ...

    def read(self) -> PlcOutputs:
        """What the inspection says now, all of one moment.

        Raises:
            UnavailableError: When the connection is lost; connect again.
            InvalidInputError: When the other side says what this release does not know.
        """
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...
