"""The explanations of recent parts, in memory: what part pages show and what the live stream announces.

Pure, as the live model: values go in, values come out. Bounded twice, by cases and by the bytes of their maps; what was
let go, and what was there before this process, is looked up in Kafka (see ``archive``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from services.core.types import ExplainedCase, Explanation, Inspection

_Key = tuple[str, str, int]

# Beside its maps a case of two explanations takes 2.1 kB (tracemalloc); three of these count for it.
_OVERHEAD_BYTES = 1_200


@dataclass(frozen=True, slots=True, eq=False)
class KeptExplanations:
    """What is kept of an explained case: everything but the case's picture and embedding."""

    frame_id: str
    alias: str
    model_version: int
    captured_at_ns: int
    explanations: tuple[Explanation, ...]
    explained_at_ns: int
    agreement: float
    """NaN with fewer than two maps."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        texts = sum(len(one.detail) for one in self.explanations)
        maps = sum(one.map.nbytes for one in self.explanations)
        return _OVERHEAD_BYTES * (1 + len(self.explanations)) + texts + maps

    def by_method(self, method: str) -> Explanation | None:
        """The explanation of one method, or None."""
        return next((one for one in self.explanations if one.method == method), None)


def kept(explained: ExplainedCase) -> KeptExplanations:
    """Take from an explained case what its part's page needs."""
    inspection = explained.case.inspection
    return KeptExplanations(
        frame_id=inspection.frame_id,
        alias=inspection.alias,
        model_version=inspection.model_version,
        captured_at_ns=inspection.captured_at_ns,
        explanations=explained.explanations,
        explained_at_ns=explained.explained_at_ns,
        agreement=explained.agreement,
    )


class ExplanationIndex:
    """Explanations by the verdict that they belong to. Every method takes one lock, none of them waits."""

    def __init__(self, *, max_cases: int, max_bytes: int, since_ns: int = 0, max_log: int = 500) -> None:
        """Set up, empty.

        Args:
            max_cases: Most cases kept; the oldest to arrive go.
            max_bytes: Most bytes kept, as ``KeptExplanations.size_bytes`` counts them.
            since_ns: From when on, by capture, everything will be added, nanoseconds since the epoch.
            max_log: Changes that a page can catch up on.
        """
        self._max_cases = max_cases
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._cases: OrderedDict[_Key, KeptExplanations] = OrderedDict()
        self._log: deque[tuple[int, str]] = deque(maxlen=max_log)
        self._revision = 0
        self._size_bytes = 0
        self._complete_since_ns = since_ns

    @property
    def revision(self) -> int:
        """How many were accepted; moves with every change."""
        return self._revision

    @property
    def size_bytes(self) -> int:
        """What is kept now."""
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._cases)

    def holds_all_since(self, captured_at_ns: int) -> bool:
        """Tell whether a frame captured then would be here if its explanation had come."""
        return captured_at_ns >= self._complete_since_ns

    def add(self, cases: Iterable[KeptExplanations]) -> int:
        """Take explanations in; of two on one verdict the one made last stands.

        Args:
            cases: In any order; repeats are ignored.

        Returns:
            How many were new.
        """
        with self._lock:
            before = self._revision
            for case in cases:
                self._add(case)
            return self._revision - before

    def find(self, inspection: Inspection) -> KeptExplanations | None:
        """The explanations of a verdict: of its frame, by its model version."""
        with self._lock:
            return self._cases.get((inspection.frame_id, inspection.alias, inspection.model_version))

    def since(self, revision: int) -> tuple[int, list[str] | None]:
        """Which frames were explained after a revision.

        Args:
            revision: The revision that the asker knows.

        Returns:
            The revision reached and the frames' ids, oldest first; None instead of ids when more happened than is
            logged.
        """
        with self._lock:
            if revision > self._revision or revision < self._revision - len(self._log):
                return self._revision, None
            fresh = [frame_id for number, frame_id in self._log if number > revision]
            return self._revision, list(dict.fromkeys(fresh))

    def _add(self, case: KeptExplanations) -> None:
        key = (case.frame_id, case.alias, case.model_version)
        before = self._cases.get(key)
        if before is not None and before.explained_at_ns >= case.explained_at_ns:
            return
        if before is not None:
            self._size_bytes -= before.size_bytes
            del self._cases[key]
        self._cases[key] = case
        self._size_bytes += case.size_bytes
        self._revision += 1
        self._log.append((self._revision, case.frame_id))
        while len(self._cases) > self._max_cases or self._size_bytes > self._max_bytes:
            _, gone = self._cases.popitem(last=False)
            self._size_bytes -= gone.size_bytes
            self._complete_since_ns = max(self._complete_since_ns, gone.captured_at_ns + 1)
