"""What resembles a case, and what of it a person sees next: algorithm 1 of NearCAIPI on a line that runs.

A neighbour that was no case becomes one exactly as an explained case does: its picture and itself on record, then in
the index. Its id is the one that a case of that frame always has, so that whoever asks twice, or an explanation that
comes later, makes no second one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from services.adapters.caserecord import CaseRecord
from services.adapters.ports import CaseIndex, EmbeddingIndex, KeptEmbedding, NearestEmbeddings, NeighbourQuery
from services.core.errors import InvalidInputError, NotFoundError
from services.core.neighbours import RELATIONS, Neighbour, Neighbours, Relation, class_of, flaw_of, unit
from services.core.review import CaseState, QueuedCase
from services.core.types import Case, CaseKind, ExplainedCase, Inspection
from services.feedback.embeddings import EmbeddingIntake
from services.feedback.keeping import keep_case
from services.runtime import metrics
from services.runtime.logging import get_logger

LOG = get_logger(__name__)

#: So many of each relation are looked at for one whose picture is still there, and so many times as many if need be.
_TRIES: Final = 8
_ROUNDS: Final = 4
_QUEUED: Final = (Relation.NEAR_HIT, Relation.NEAR_MISS)


class PictureSource(Protocol):
    """Where the picture of a frame that is no case comes from."""

    def picture_of(self, inspection: Inspection) -> bytes:
        """Read it.

        Raises:
            NotFoundError: It is gone.
            InvalidInputError: What lies there is not it.
            UnavailableError: It cannot be read now.
        """
        ...


class NeighbourFinder:
    """Finds neighbours and brings them into the queue. Thread-safe.

    Args:
        index: The cases.
        embeddings: What the models saw.
        intake: Takes in what becomes a case.
        record: Where everything is kept; has a case's embedding where the index has none.
        pictures: Reads the pictures of frames.
        clock_ns: Wall clock.
    """

    def __init__(
        self,
        index: CaseIndex,
        embeddings: EmbeddingIndex,
        intake: EmbeddingIntake,
        record: CaseRecord,
        pictures: PictureSource,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._embeddings = embeddings
        self._intake = intake
        self._record = record
        self._pictures = pictures
        self._clock_ns = clock_ns

    def look(self, case_id: str) -> Neighbours:
        """Find a case's neighbours; changes nothing.

        Raises:
            NotFoundError: When there is no such case.
            UnavailableError: While the index, or the record of a case whose embedding is not there, is away.
        """
        nearest = self._nearest(case_id)
        found = [self._first(relation, nearest) for relation in RELATIONS if relation in nearest.found]
        return Neighbours(tuple(found), nearest.compared, nearest.exact)

    def bring(self, case_id: str, reviewer: str) -> Neighbours:
        """Find a case's neighbours, and make near hit and near miss come next in somebody's queue.

        The most similar ones whose pictures are gone are passed over, and forgotten. What people have answered already
        is shown and not asked about again, and what somebody else holds is left to them.

        Args:
            case_id: The case.
            reviewer: Whose queue.

        Raises:
            NotFoundError: When there is no such case.
            UnavailableError: While the index, the record or the pictures are away; what has become a case stays one,
                and the same call may succeed later.
        """
        nearest = self._nearest(case_id)
        reached: dict[Relation, Neighbour] = {}
        for relation in _QUEUED:
            for _ in range(_ROUNDS):
                if relation not in nearest.found:
                    break
                found = self._reachable(relation, nearest)
                if found is not None:
                    reached[relation] = found
                    break
                nearest = self._nearest(case_id)
        if Relation.FARTHEST in nearest.found:
            reached[Relation.FARTHEST] = self._first(Relation.FARTHEST, nearest)
        queued = [
            one.case
            for one in reached.values()
            if one.relation in _QUEUED and one.case is not None and self._may_ask(one.case, reviewer)
        ]
        metrics.FEEDBACK_NEIGHBOURS.labels("queued").inc(len(queued))
        return Neighbours(tuple(reached.values()), nearest.compared, nearest.exact, tuple(queued))

    def _may_ask(self, case: QueuedCase, reviewer: str) -> bool:
        held = case.claimed_by not in ("", reviewer) and case.claimed_until_ns > self._clock_ns()
        return case.state is CaseState.OPEN and not held

    def _nearest(self, case_id: str) -> NearestEmbeddings:
        case = self._index.find_case(case_id)
        seen = case.inspection
        own = self._own_embedding(case)
        if own is None:
            return NearestEmbeddings({}, 0, True)
        began_s = time.monotonic()
        nearest = self._embeddings.nearest(
            NeighbourQuery(
                alias=seen.alias,
                model_version=seen.model_version,
                embedding=own.embedding,
                own=class_of(seen, case.settled_verdict),
                part_id=seen.part_id,
            ),
            most=_TRIES,
            now_ns=self._clock_ns(),
        )
        metrics.FEEDBACK_NEIGHBOUR_SECONDS.observe(time.monotonic() - began_s)
        return nearest

    def _own_embedding(self, case: QueuedCase) -> KeptEmbedding | None:
        try:
            return self._embeddings.find(case.case_id)
        except NotFoundError:
            pass
        try:
            embedding = self._record.case(case.case_id).case.embedding
        except NotFoundError:
            return None
        if flaw_of(embedding) is not None:
            return None
        return KeptEmbedding(case.case_id, case.inspection, unit(embedding))

    def _first(self, relation: Relation, nearest: NearestEmbeddings) -> Neighbour:
        similarity, kept = nearest.found[relation][0]
        return _neighbour(relation, similarity, kept, self._known_case(kept.case_id))

    def _reachable(self, relation: Relation, nearest: NearestEmbeddings) -> Neighbour | None:
        """The most similar one that is a case or can become one; None where there is none among the first few."""
        gone: list[str] = []
        try:
            for similarity, kept in nearest.found[relation]:
                case = self._known_case(kept.case_id) or self._made_case(kept)
                if case is not None:
                    return _neighbour(relation, similarity, kept, case)
                gone.append(kept.case_id)
        finally:
            if gone:
                self._embeddings.forget(gone)
        return None

    def _known_case(self, case_id: str) -> QueuedCase | None:
        try:
            return self._index.find_case(case_id)
        except NotFoundError:
            return None

    def _made_case(self, kept: KeptEmbedding) -> QueuedCase | None:
        """Make a case of a frame; None where its picture is gone."""
        seen = kept.inspection
        try:
            image = self._pictures.picture_of(seen)
        except (NotFoundError, InvalidInputError) as error:
            LOG.info("a neighbour is passed over: %s", error, extra={"frame_id": seen.frame_id})
            metrics.FEEDBACK_NEIGHBOURS.labels("picture_gone").inc()
            return None
        case = Case(
            case_id=kept.case_id,
            kind=CaseKind.NEIGHBOUR,
            inspection=seen,
            sampling_probability=1.0,
            embedding=kept.embedding,
            image=image,
        )
        # Not by the clock: the same case comes out whenever it is made, and any explanation of it is later.
        explained = ExplainedCase(case=case, explanations=(), explained_at_ns=seen.decided_at_ns)
        queued = keep_case(self._record, explained, image)
        self._index.add_cases([queued])
        self._intake.put([replace(kept, expires_at_ns=0)])
        metrics.FEEDBACK_CASES.labels(CaseKind.NEIGHBOUR.value).inc()
        return self._index.find_case(kept.case_id)


def _neighbour(relation: Relation, similarity: float, kept: KeptEmbedding, case: QueuedCase | None) -> Neighbour:
    inspection = kept.inspection if case is None else case.inspection
    return Neighbour(relation, similarity, kept.case_id, inspection, case)
