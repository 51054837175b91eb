"""The embeddings of one model version in memory, and what is most and least similar to one of them.

Up to a number of embeddings all are compared, by one product of a matrix and the question: single precision in blocks,
which takes twice the memory of half floats and less than half the time of decoding them with every question. Beyond
that number an inverted file (IVF, faiss) in half precision looks only through the lists that are nearest to the
question, and what it finds is no longer certain to be the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

from services.core.neighbours import DECIMALS, RELATIONS, Candidate, Relation, class_wanted, in_order
from services.core.types import Verdict

# Its own types know less than it does: none of the arguments of a selector, for one.
faiss: Any = typed_faiss

#: How a class is written down; 0 is none.
CLASS_KEYS: Final = {None: 0, Verdict.PASS: 1, Verdict.FAIL: 2}

#: An inverted file has about as many lists as the root of its embeddings, within these bounds.
_LISTS: Final = (64, 1_024)
#: Of which a search looks through this share.
_PROBED_SHARE: Final = 1 / 16
_TRAINED_PER_LIST: Final = 40
_TRAINING_ROUNDS: Final = 8
_SEED: Final = 1
#: Rows of one block of the matrix: small enough to be added one by one, large enough that their number costs nothing.
_BLOCK: Final = 4_096
_NEAR: Final = (Relation.NEAR_HIT, Relation.NEAR_MISS)
#: Equal similarities are put in order by age among at least so many.
_LEAST_CANDIDATES: Final = 32
_BOOKKEEPING_BYTES: Final = 8 + 8 + 8 + 8 + 1 + 1 + 1


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Embeddings as they come from their table, in the order of their places; each has shape ``(N,)`` but one."""

    places: NDArray[np.int64]
    part_keys: NDArray[np.int64]
    captured_at_ns: NDArray[np.int64]
    expires_at_ns: NDArray[np.int64]
    predicted: NDArray[np.uint8]
    embeddings: NDArray[np.float16]
    """Shape ``(N, D)``, each of length 1."""

    @classmethod
    def none(cls, length: int) -> Rows:
        """No rows, of embeddings of that length."""
        numbers = np.empty(0, np.int64)
        return cls(numbers, numbers, numbers, numbers, np.empty(0, np.uint8), np.empty((0, length), np.float16))


class VersionEmbeddings:
    """What is searched of one model version. Not thread-safe.

    Args:
        length: Of each embedding.
        exact_up_to: So many are compared one by one; with more it becomes an inverted file.
        beside: Compares one half of them while the caller's thread compares the other; None leaves all to the caller.
    """

    def __init__(self, length: int, exact_up_to: int, beside: Executor | None = None) -> None:
        self.length = length
        self._exact_up_to = exact_up_to
        self._beside = beside
        self._blocks: list[NDArray[np.float32]] = []
        self._inverted: Any = None
        self._rows = Rows.none(length)
        self._settled = np.empty(0, np.uint8)
        self._alive = np.empty(0, bool)

    @property
    def exact(self) -> bool:
        """Whether each embedding is compared."""
        return self._inverted is None

    @property
    def last_place(self) -> int:
        """The place up to which everything is here; 0 without any."""
        return int(self._rows.places[-1]) if len(self._rows.places) else 0

    @property
    def size_bytes(self) -> int:
        """What all of it takes."""
        return len(self._alive) * row_bytes(self.length, exact=self.exact)

    @property
    def dead_share(self) -> float:
        """Share of the rows that are kept in memory and never found again."""
        return 1.0 - float(self._alive.mean()) if len(self._alive) else 0.0

    # ---- bringing up to date

    def add(self, rows: Rows) -> None:
        """Add rows whose places lie beyond all that are here."""
        if not len(rows.places):
            return
        if self._inverted is None:
            self._append(rows.embeddings)
        else:
            self._inverted.add(rows.embeddings.astype(np.float32))
        mine = self._rows
        self._rows = Rows(
            np.concatenate([mine.places, rows.places]),
            np.concatenate([mine.part_keys, rows.part_keys]),
            np.concatenate([mine.captured_at_ns, rows.captured_at_ns]),
            np.concatenate([mine.expires_at_ns, rows.expires_at_ns]),
            np.concatenate([mine.predicted, rows.predicted]),
            np.empty((0, self.length), np.float16),
        )
        self._settled = np.concatenate([self._settled, np.zeros(len(rows.places), np.uint8)])
        self._alive = np.concatenate([self._alive, np.ones(len(rows.places), bool)])

    def _append(self, embeddings: NDArray[np.floating]) -> None:
        """Fill the last block up, and begin others."""
        while len(embeddings):
            last = self._blocks[-1] if self._blocks else None
            if last is not None and len(last) < _BLOCK:
                taken = _BLOCK - len(last)
                self._blocks[-1] = np.concatenate([last, embeddings[:taken].astype(np.float32)])
            else:
                taken = _BLOCK
                self._blocks.append(embeddings[:taken].astype(np.float32))
            embeddings = embeddings[taken:]

    def finish(self) -> None:
        """Become an inverted file where there are too many to compare each; takes a while."""
        if self.exact and len(self._alive) > self._exact_up_to:
            self._inverted = self._invert()
            self._blocks = []

    def settle(self, places: NDArray[np.int64], classes: NDArray[np.uint8]) -> None:
        """Take over which parts people settled on, and forget what they settled on before.

        Args:
            places: Of those parts, ascending; what is not here is left out.
            classes: Their classes by ``CLASS_KEYS``.
        """
        self._settled[:] = 0
        at = np.searchsorted(self._rows.places, places)
        here = at < len(self._rows.places)
        here[here] = self._rows.places[at[here]] == places[here]
        self._settled[at[here]] = classes[here]

    def keep_only(self, places: NDArray[np.int64]) -> None:
        """Find only these from now on, of those that are here."""
        self._alive &= np.isin(self._rows.places, places)

    def keep_newest(self, most: int, now_ns: int) -> None:
        """Find so many from now on, the newest ones, cases rather than frames; nothing that has expired."""
        expires_at_ns = self._rows.expires_at_ns
        self._alive &= (expires_at_ns == 0) | (expires_at_ns > now_ns)
        for some in (self._alive & (expires_at_ns > 0), self._alive):
            excess = int(self._alive.sum()) - most
            if excess > 0:
                self._alive[np.flatnonzero(some)[:excess]] = False

    def compact(self) -> bool:
        """Let go of what is never found again; False where that takes making it anew."""
        if not self.exact:
            return False
        mine, alive = self._rows, self._alive
        blocks, self._blocks, start = self._blocks[::-1], [], 0
        while blocks:
            block = blocks.pop()
            self._append(block[alive[start : start + len(block)]])
            start += len(block)
        self._rows = Rows(
            mine.places[alive],
            mine.part_keys[alive],
            mine.captured_at_ns[alive],
            mine.expires_at_ns[alive],
            mine.predicted[alive],
            mine.embeddings,
        )
        self._settled = self._settled[alive]
        self._alive = np.ones(len(self._settled), bool)
        return True

    def _invert(self) -> Any:
        count = len(self._alive)
        lists = int(min(max(count**0.5, _LISTS[0]), _LISTS[1]))
        quantizer = faiss.IndexFlatIP(self.length)
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, self.length, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        index.cp.seed = _SEED
        index.cp.niter = _TRAINING_ROUNDS
        index.cp.max_points_per_centroid = _TRAINED_PER_LIST
        index.nprobe = max(1, round(lists * _PROBED_SHARE))
        chosen = np.random.default_rng(_SEED).permutation(count)[: lists * _TRAINED_PER_LIST]
        chosen.sort()
        which, where = chosen // _BLOCK, chosen % _BLOCK
        index.train(np.concatenate([block[where[which == number]] for number, block in enumerate(self._blocks)]))
        for block in self._blocks:
            index.add(block)
        return index

    # ---- searching

    def search(
        self, embedding: NDArray[np.float16], own: Verdict | None, part_key: int, *, most: int, now_ns: int
    ) -> tuple[dict[Relation, list[Candidate]], int]:
        """Find what is most and least similar.

        Args:
            embedding: Of length 1, shape ``(D,)``.
            own: Class of the case; None finds the farthest only.
            part_key: What is of this part is left out.
            most: Of each relation.
            now_ns: What has expired by then is left out.

        Returns:
            By relation the best ones, the best first, and how many there were to choose from.
        """
        rows = self._rows
        pool = self._alive & ((rows.expires_at_ns == 0) | (rows.expires_at_ns > now_ns)) & (rows.part_keys != part_key)
        classes = np.where(self._settled > 0, self._settled, rows.predicted)
        question = embedding.astype(np.float32)
        similarities = self._compare(question) if self.exact else None
        found: dict[Relation, list[Candidate]] = {}
        for relation in RELATIONS:
            wanted = pool
            if relation in _NEAR:
                if own is None:
                    continue
                wanted = pool & (classes == CLASS_KEYS[class_wanted(relation, own)])
            sign = -1.0 if relation is Relation.FARTHEST else 1.0
            count = max(most, _LEAST_CANDIDATES)
            if similarities is not None:
                best = _highest(similarities if sign > 0 else -similarities, wanted, count)
            else:
                best = self._in_lists(sign * question, wanted, count)
            found[relation] = in_order([self._candidate(row, sign * value) for row, value in best], relation)[:most]
        return found, int(pool.sum())

    def _compare(self, question: NDArray[np.float32]) -> NDArray[np.float32]:
        """Similarity of each row."""

        def compare(blocks: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            return [block @ question for block in blocks]

        half = len(self._blocks) // 2 if self._beside is not None else 0
        others = self._beside.submit(compare, self._blocks[:half]) if self._beside is not None and half else None
        mine = compare(self._blocks[half:])
        return np.concatenate([np.empty(0, np.float32), *(others.result() if others else ()), *mine])

    def _in_lists(
        self, question: NDArray[np.float32], wanted: NDArray[np.bool_], count: int
    ) -> list[tuple[int, float]]:
        """Rows and similarities of the best that the lists nearby have, or all lists where those have none."""
        count = min(count, int(wanted.sum()))
        if not count:
            return []
        # The selector does not keep its bits alive.
        bits = np.packbits(wanted, bitorder="little")
        selector = faiss.IDSelectorBitmap(bits)
        for lists in (self._inverted.nprobe, self._inverted.nlist):
            asked = faiss.SearchParametersIVF(sel=selector, nprobe=lists)
            similarities, at = self._inverted.search(question[None], count, params=asked)
            if at[0, 0] >= 0:
                break
        return [(int(row), float(value)) for value, row in zip(similarities[0], at[0], strict=True) if row >= 0]

    def _candidate(self, row: int, similarity: float) -> Candidate:
        return Candidate(
            place=int(self._rows.places[row]),
            similarity=min(1.0, max(-1.0, round(similarity, DECIMALS))),
            captured_at_ns=int(self._rows.captured_at_ns[row]),
        )


def _highest(values: NDArray[np.float32], wanted: NDArray[np.bool_], count: int) -> list[tuple[int, float]]:
    """Rows and values of the highest, in no order."""
    rows = np.flatnonzero(wanted)
    if len(rows) > count:
        rows = rows[np.argpartition(-values[rows], count - 1)[:count]]
    return [(int(row), float(values[row])) for row in rows]


def row_bytes(length: int, *, exact: bool) -> int:
    """What one embedding takes in memory, with what belongs to it."""
    return (4 if exact else 2) * length + _BOOKKEEPING_BYTES


def set_threads(threads: int) -> None:
    """Say how many threads faiss uses for what it does at once, in the whole process."""
    faiss.omp_set_num_threads(threads)
