"""How fast neighbours are found among many embeddings: ``python -m tests.bench.neighbours``.

A SQLite file is filled with embeddings through the port (clouds around a few centres, as a model sees parts; some are
cases that people have answered), then asked for the near hit, the near miss and the farthest of one after the other,
with two threads: what a person waits for. The baseline, in the same run: NumPy over all embeddings in single
precision, in memory already, and nothing but the comparison. Beyond the exact limit a second table says what an
inverted file finds of what an exact scan finds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.embeddingindex import SqlEmbeddingIndex
from services.adapters.embeddingsearch import Rows, VersionEmbeddings
from services.adapters.ports import KeptEmbedding, NeighbourQuery
from services.core.identity import case_id
from services.core.neighbours import Relation
from services.core.types import Verdict
from tests.support.cases import START_NS, queued_case, wrong

EXPIRES_NS = START_NS + 10**17
CENTRES = 40
BATCH = 2_000
MOST = 8


@dataclass(frozen=True)
class Row:
    """One number of embeddings of one length; ``cpu`` is processor time, which other work disturbs less."""

    embeddings: int
    length: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    baseline_p50_ms: float
    baseline_cpu_ms: float
    first_question_s: float
    put_per_s: float
    memory_mb: float


@dataclass(frozen=True)
class InvertedRow:
    """An inverted file beside an exact scan of the same embeddings."""

    embeddings: int
    length: int
    exact_p50_ms: float
    exact_cpu_ms: float
    inverted_p50_ms: float
    inverted_cpu_ms: float
    recall_at_1: float
    """Share of near hits and near misses that are those of the exact scan."""
    building_s: float


def clouds(count: int, length: int, seed: int = 5) -> Iterator[NDArray[np.float16]]:
    """Embeddings in batches, shape ``(N, D)``, each of length 1."""
    dice = np.random.default_rng(seed)
    centres = dice.standard_normal((CENTRES, length), dtype=np.float32)
    for start in range(0, count, BATCH):
        some = min(BATCH, count - start)
        values = centres[dice.integers(0, CENTRES, some)] + 0.7 * dice.standard_normal((some, length), dtype=np.float32)
        yield (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)


def verdict_of(number: int) -> Verdict:
    """Nine parts of ten are good."""
    return Verdict.FAIL if number % 10 == 0 else Verdict.PASS


def fill(cases: SqlCaseIndex, index: SqlEmbeddingIndex, count: int, length: int, answered: int) -> float:
    """Fill both; gives the rate of embeddings."""
    number, taken_s = 0, 0.0
    for batch in clouds(count, length):
        kept = []
        for values in batch:
            case = queued_case(number, verdict_of(number))
            is_case = number % (count // answered) == 0
            if is_case:
                cases.add_cases([case])
                cases.add_review(wrong(case), published=True)
            derived_id = case_id(case.inspection.frame_id, "default", 1)
            kept.append(KeptEmbedding(derived_id, case.inspection, values, 0 if is_case else EXPIRES_NS))
            number += 1
        began_s = time.perf_counter()
        index.put(kept)
        taken_s += time.perf_counter() - began_s
    return count / taken_s


def measure(folder: Path, count: int, length: int, repeats: int) -> Row:
    """Fill a file, ask it, and ask NumPy."""
    cases = SqlCaseIndex(f"sqlite:///{folder / f'{length}.db'}")
    index = SqlEmbeddingIndex(cases.database, max_per_version=count, exact_up_to=count, max_bytes=10**10)
    rate = fill(cases, index, count, length, answered=max(1, count // 200))
    asked = next(clouds(count, length))

    def ask(number: int) -> None:
        query = NeighbourQuery("default", 1, asked[number], Verdict.FAIL, f"part-{number}")
        index.nearest(query, most=MOST, now_ns=START_NS)

    first_ms, _ = take(ask, 1)
    taken_ms, cpu_ms = take(ask, repeats)
    memory = sum(one.size_bytes for one in index._versions.values())
    cases.close()
    everything = np.concatenate([batch.astype(np.float32) for batch in clouds(count, length)])
    failing = np.array([verdict_of(number) is Verdict.FAIL for number in range(count)])

    def by_numpy(number: int) -> None:
        similarities = everything @ asked[number].astype(np.float32)
        similarities[number] = -2.0
        for wanted in (failing, ~failing):
            np.argmax(np.where(wanted, similarities, -2.0))
        similarities[number] = 2.0
        np.argmin(similarities)

    plain_ms, plain_cpu_ms = take(by_numpy, repeats)
    return Row(
        count,
        length,
        percentile(taken_ms, 50),
        percentile(taken_ms, 95),
        percentile(cpu_ms, 50),
        percentile(plain_ms, 50),
        percentile(plain_cpu_ms, 50),
        round(first_ms[0] / 1e3, 2),
        round(rate),
        round(memory / 1e6, 1),
    )


def measure_inverted(count: int, length: int, repeats: int) -> InvertedRow:
    """Scan exactly, become an inverted file, and compare."""
    version = VersionEmbeddings(length, exact_up_to=count - 1)
    number = 0
    for batch in clouds(count, length):
        places = np.arange(number + 1, number + 1 + len(batch), dtype=np.int64)
        classes = np.array([2 if verdict_of(one) is Verdict.FAIL else 1 for one in places - 1], np.uint8)
        version.add(Rows(places, places, places, np.zeros(len(batch), np.int64), classes, batch))
        number += len(batch)
    asked = next(clouds(count, length))
    found: list[dict[Relation, int]] = []

    def ask(at: int) -> None:
        nearest, _ = version.search(asked[at], Verdict.FAIL, at + 1, most=1, now_ns=START_NS)
        found.append({relation: some[0].place for relation, some in nearest.items() if some})

    exact_ms, exact_cpu_ms = take(ask, repeats)
    exact, found = found, []
    began_s = time.perf_counter()
    version.finish()
    building_s = time.perf_counter() - began_s
    inverted_ms, inverted_cpu_ms = take(ask, repeats)
    near = (Relation.NEAR_HIT, Relation.NEAR_MISS)
    same = [
        one.get(relation) == other.get(relation) for one, other in zip(exact, found, strict=True) for relation in near
    ]
    return InvertedRow(
        count,
        length,
        percentile(exact_ms, 50),
        percentile(exact_cpu_ms, 50),
        percentile(inverted_ms, 50),
        percentile(inverted_cpu_ms, 50),
        round(float(np.mean(same)), 3),
        round(building_s, 1),
    )


def take(call: Callable[[int], None], repeats: int) -> tuple[list[float], list[float]]:
    """What each call took, by the clock and of the processor, in milliseconds."""
    elapsed_ms, cpu_ms = [], []
    for number in range(repeats):
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        call(number)
        cpu_ms.append((time.process_time() - began_cpu_s) * 1_000)
        elapsed_ms.append((time.perf_counter() - began_s) * 1_000)
    return elapsed_ms, cpu_ms


def percentile(values: list[float], percent: float) -> float:
    """Rounded to hundredths."""
    return round(float(np.percentile(values, percent)), 2)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embeddings", type=int, default=100_000)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1_280])
    parser.add_argument("--inverted", type=int, default=1_000_000, help="embeddings of the inverted file; 0: none")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("build/bench/neighbours.json"))
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="sightline-bench-"))
    try:
        rows = [measure(folder, options.embeddings, length, options.repeats) for length in options.lengths]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    inverted = [measure_inverted(options.inverted, options.lengths[0], options.repeats)] if options.inverted else []
    console = Console()
    for title, some in (("near hit, near miss and farthest, two threads", rows), ("inverted file", inverted)):
        if some:
            console.print(_table(title, [asdict(one) for one in some]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"rows": [asdict(one) for one in rows], "inverted": [asdict(one) for one in inverted]}
    options.out.write_text(json.dumps(result, indent=2) + "\n")


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title)
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    main()
