"""How fast the case index answers when it is full: ``python -m tests.bench.case_index``.

A SQLite file is filled with cases and reviews through the port, then asked for pages of 50, for counts, and given
reviews. The baseline, in the same run: one table with the same rows and no index, pages by ``OFFSET``, counts by
``GROUP BY``, as the queue would be without ranks, buckets and tokens. ``deep`` is a page in the middle of the queue.

With ``--postgres`` the same cases and questions are put to PostgreSQL too, in the same run: to a server that is started
for it and that waits for the disk as servers do, or to the empty database that ``--url`` names.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseindex_token import case_token
from services.adapters.ports import CaseFilter, QueueOrder, ReviewStats
from services.core.review import CaseState, QueuedCase, Review, queue_rank
from services.core.types import CaseKind, Verdict
from tests.support.cases import START_NS, queued_case, review, wrong
from tests.support.postgres import OwnPostgres

PAGE = 50
BATCH = 2_000
LINES, CAMERAS, PRODUCTS, VERSIONS = 4, 2, 3, 8
CLASSES = ("scratch", "hole", "dent", "stain", "crack")
REVIEWERS = ("ada", "ben", "cleo", "dan")
#: Which questions are counted, too.
COUNTED = {"all", "line", "class that people gave", "a day", "reviewer"}
#: As a busy plant makes cases: 2 000 an hour.
CASE_EVERY_NS = 1_800_000_000
DAY_NS = 86_400_000_000_000


@dataclass(frozen=True)
class Row:
    """One measurement, in milliseconds; ``cpu`` is processor time, which other work on the machine disturbs less."""

    question: str
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    deep_cpu_ms: float | None
    baseline_cpu_ms: float | None
    baseline_deep_cpu_ms: float | None
    ratio: float | None
    """How many times as much processor time the baseline takes, of the first page."""


@dataclass(frozen=True)
class Answered:
    """How long one question takes, in milliseconds, on both databases."""

    question: str
    sqlite_p50_ms: float
    sqlite_p95_ms: float
    sqlite_deep_p50_ms: float | None
    postgres_p50_ms: float
    postgres_p95_ms: float
    postgres_deep_p50_ms: float | None


@dataclass(frozen=True)
class Taken:
    """What calls took, in milliseconds."""

    elapsed_ms: list[float]
    cpu_ms: list[float]


def make_case(number: int, cases: int, dice: random.Random) -> QueuedCase:
    """Case ``number``; versions follow each other in time, and line 4 has existed for the last twentieth only."""
    line = dice.randrange(LINES if number > cases * 0.95 else LINES - 1)
    verdict = dice.choices((Verdict.FAIL, Verdict.REVIEW, Verdict.PASS), (50, 30, 20))[0]
    return queued_case(
        number,
        verdict,
        captured_at_ns=START_NS + number * CASE_EVERY_NS,
        line_id=f"line-{line}",
        camera_id=f"cam-{line}-{dice.randrange(CAMERAS)}",
        product=f"product-{dice.randrange(PRODUCTS)}",
        uncertainty=dice.random(),
        model_version=1 + number * VERSIONS // cases,
        defect_class="" if verdict is Verdict.PASS else dice.choice(CLASSES),
    )


def make_review(case: QueuedCase, dice: random.Random) -> Review:
    """What somebody says: mostly that it is right."""
    reviewer = dice.choice(REVIEWERS)
    if dice.random() < 0.8 or case.inspection.verdict is Verdict.REVIEW:
        return review(case, 0, reviewer)
    named = {"defect_class": "blister"} if case.inspection.verdict is Verdict.PASS else {}
    return wrong(case, 0, reviewer, **named)


def fill(index: SqlCaseIndex, cases: int, reviews: int) -> dict[str, float]:
    """Fill it; gives the rates."""
    dice = random.Random(7)
    made = (make_case(number, cases, dice) for number in range(cases))
    reviewed: list[QueuedCase] = []
    kept = random.Random(8)
    taken_s = 0.0
    for batch in _batches(made, BATCH):
        reviewed += [case for case in batch if kept.random() < reviews / cases]
        began_s = time.perf_counter()
        index.add_cases(batch)
        taken_s += time.perf_counter() - began_s
    said = iter([make_review(case, kept) for case in reviewed])
    taken = _take(lambda: index.add_review(next(said), published=True), len(reviewed))
    return {
        "cases_per_s": round(cases / taken_s, 1),
        "reviews": len(reviewed),
        "add_review_p50_ms": _percentile(taken.elapsed_ms, 50),
        "add_review_p95_ms": _percentile(taken.elapsed_ms, 95),
        "add_review_cpu_ms": _percentile(taken.cpu_ms, 50),
    }


def _batches(cases: Iterator[QueuedCase], size: int) -> Iterator[list[QueuedCase]]:
    while batch := list(islice(cases, size)):
        yield batch


class Baseline:
    """One table, no index."""

    def __init__(self, index_file: Path, file: Path) -> None:
        self._connection = sqlite3.connect(file)
        self._connection.execute("ATTACH ? AS filled", (str(index_file),))
        self._connection.execute(
            "CREATE TABLE plain AS SELECT line_id, camera_id, product, verdict, kind, alias, model_version,"
            " defect_class, state, outcome, rank, captured_at_ns, case_id, inspection"
            " FROM filled.cases JOIN filled.buckets USING (bucket_id) ORDER BY case_id"
        )
        self._connection.commit()
        self._connection.execute("DETACH filled")

    def page(self, where: CaseFilter, order: QueueOrder, offset: int) -> int:
        """Read a page; gives how many there were."""
        conditions, values = self._conditions(where)
        column, way = ("rank", "DESC") if order is QueueOrder.BY_GAIN else ("captured_at_ns", "DESC")
        if order is QueueOrder.OLDEST:
            way = "ASC"
        statement = f"SELECT case_id, inspection FROM plain{conditions} ORDER BY {column} {way} LIMIT ? OFFSET ?"
        return len(self._connection.execute(statement, (*values, PAGE, offset)).fetchall())

    def stats(self, where: CaseFilter) -> int:
        """Count; gives the number of groups."""
        conditions, values = self._conditions(replace(where, state=None))
        statement = f"SELECT state, outcome, COUNT(*) FROM plain{conditions} GROUP BY state, outcome"
        return len(self._connection.execute(statement, values).fetchall())

    @staticmethod
    def _conditions(where: CaseFilter) -> tuple[str, list[object]]:
        wanted: dict[str, object] = {
            "line_id = ?": where.line_id,
            "camera_id = ?": where.camera_id,
            "product = ?": where.product,
            "verdict = ?": where.verdict and where.verdict.value,
            "kind = ?": where.kind and where.kind.value,
            "model_version = ?": where.model_version,
            "defect_class = ?": where.defect_class,
            "state = ?": where.state and where.state.value,
            "captured_at_ns >= ?": where.since_ns,
            "captured_at_ns < ?": where.until_ns,
        }
        given = {text: value for text, value in wanted.items() if value}
        return (" WHERE " + " AND ".join(given) if given else ""), list(given.values())

    def close(self) -> None:
        """Let go."""
        self._connection.close()


def questions(cases: int) -> list[tuple[str, CaseFilter, QueueOrder]]:
    """What is asked, with the filters of the page and those that are hard."""
    gain, newest, oldest = QueueOrder.BY_GAIN, QueueOrder.NEWEST, QueueOrder.OLDEST
    middle_ns = START_NS + cases // 2 * CASE_EVERY_NS
    opened = CaseState.OPEN
    return [
        ("all", CaseFilter(), gain),
        ("open", CaseFilter(state=opened), gain),
        ("open, newest", CaseFilter(state=opened), newest),
        ("line", CaseFilter(line_id="line-1"), gain),
        ("open of a line", CaseFilter(line_id="line-1", state=opened), gain),
        ("reviewed of a line", CaseFilter(line_id="line-1", state=CaseState.REVIEWED), gain),
        ("verdict", CaseFilter(verdict=Verdict.REVIEW, state=opened), gain),
        ("audit, newest", CaseFilter(kind=CaseKind.AUDIT), newest),
        ("product", CaseFilter(product="product-2", state=opened), gain),
        ("camera and class", CaseFilter(camera_id="cam-2-1", defect_class="dent", state=opened), gain),
        ("class that people gave", CaseFilter(defect_class="blister"), gain),
        ("version", CaseFilter(alias="default", model_version=3), oldest),
        ("a new line, oldest", CaseFilter(line_id="line-3"), oldest),
        ("a day", CaseFilter(since_ns=middle_ns, until_ns=middle_ns + DAY_NS), gain),
        ("reviewer", CaseFilter(reviewer="ada"), gain),
        ("reviewer and line", CaseFilter(reviewer="ada", line_id="line-3"), newest),
        ("nothing fits", CaseFilter(product="none", state=opened), gain),
    ]


def run(folder: Path, cases: int, reviews: int, repeats: int) -> dict[str, Any]:
    """Fill, ask, compare."""
    file = folder / "index.db"
    index = SqlCaseIndex(f"sqlite:///{file}")
    try:
        filled = fill(index, cases, reviews)
        rows = ask(index, file, cases, repeats)
        size_mb = sum(path.stat().st_size for path in folder.glob("index.db*")) / 1e6
    finally:
        index.close()
    return {"cases": cases, **filled, "size_mb": round(size_mb, 1), "rows": [asdict(row) for row in rows]}


def compare(folder: Path, url: str, cases: int, reviews: int, repeats: int) -> dict[str, Any]:
    """Fill a SQLite file and a PostgreSQL database alike, and put every question to both in turn."""
    lite, post = SqlCaseIndex(f"sqlite:///{folder / 'compared.db'}"), SqlCaseIndex(url)
    try:
        if post.stats(CaseFilter()) != ReviewStats(0, 0, 0, 0, 0, 0, 0):
            raise SystemExit("the database that --url names must be empty, got one with cases")
        filled = {"sqlite": fill(lite, cases, reviews), "postgres": fill(post, cases, reviews)}
        with post.database.read() as connection:
            version = str(connection.scalar(text("SHOW server_version")))
            size_bytes = int(connection.scalar(text("SELECT pg_database_size(current_database())")))
        rows = [
            Answered(name, *_asked(lite, cases, repeats, where, order), *_asked(post, cases, repeats, where, order))
            for name, where, order in questions(cases)
        ]
        rows += [
            Answered(f"counts: {name}", *_counted(lite, repeats, where), *_counted(post, repeats, where))
            for name, where, _ in questions(cases)
            if name in COUNTED
        ]
    finally:
        lite.close()
        post.close()
    return {
        "cases": cases,
        "server_version": version,
        "size_mb": round(size_bytes / 1e6, 1),
        "load_average": os.getloadavg()[0],
        **{f"{kind}_{name}": value for kind, some in filled.items() for name, value in some.items()},
        "rows": [asdict(row) for row in rows],
    }


def _asked(
    index: SqlCaseIndex, cases: int, repeats: int, where: CaseFilter, order: QueueOrder
) -> tuple[float, float, float]:
    token = _middle_token(cases, order)
    first, deep = (
        _take(
            lambda at=at: index.list_cases(  # type: ignore[misc]
                where, order, limit=PAGE, token=at, not_held_from="eve", now_ns=START_NS
            ),
            repeats,
        )
        for at in ("", token)
    )
    return _percentile(first.elapsed_ms, 50), _percentile(first.elapsed_ms, 95), _percentile(deep.elapsed_ms, 50)


def _counted(index: SqlCaseIndex, repeats: int, where: CaseFilter) -> tuple[float, float, None]:
    taken = _take(lambda: index.stats(where), repeats)
    return _percentile(taken.elapsed_ms, 50), _percentile(taken.elapsed_ms, 95), None


def _middle_token(cases: int, order: QueueOrder) -> str:
    middle = make_case(cases // 2, cases, random.Random(9))
    place_ns = middle.inspection.captured_at_ns
    place = queue_rank(0.5, place_ns) if order is QueueOrder.BY_GAIN else place_ns
    return case_token(order, place, middle.case_id)


def ask(index: SqlCaseIndex, file: Path, cases: int, repeats: int) -> list[Row]:
    """Put every question to a filled index and to the baseline."""
    baseline = Baseline(file, file.with_name("baseline.db"))
    try:
        rows = [_page_row(index, baseline, cases, repeats, *question) for question in questions(cases)]
        rows += [
            _stats_row(index, baseline, repeats, f"counts: {name}", where)
            for name, where, _ in questions(cases)
            if name in COUNTED
        ]
        half = CaseFilter(since_ns=START_NS + cases // 2 * CASE_EVERY_NS)
        return [*rows, _stats_row(index, baseline, repeats, "counts: half of the time", half)]
    finally:
        baseline.close()


def _page_row(
    index: SqlCaseIndex,
    baseline: Baseline,
    cases: int,
    repeats: int,
    name: str,
    where: CaseFilter,
    order: QueueOrder,
) -> Row:
    token = _middle_token(cases, order)

    def page(token: str = "") -> None:
        index.list_cases(where, order, limit=PAGE, token=token, not_held_from="eve", now_ns=START_NS)

    first, deep = _take(page, repeats), _take(lambda: page(token), repeats)
    deep_ms = _percentile(deep.cpu_ms, 50)
    # What standing answers say is not in the plain table.
    if where.reviewer or name == "class that people gave":
        return _row(name, first, deep_ms)
    few = max(3, repeats // 20)
    stats = index.stats(where)
    fitting = {None: stats.open + stats.reviewed + stats.disputed, CaseState.OPEN: stats.open}
    middle_of = fitting.get(where.state, stats.reviewed) // 2
    plain = _take(lambda: baseline.page(where, order, 0), few)
    plain_deep = _take(lambda: baseline.page(where, order, middle_of), few)
    return _row(name, first, deep_ms, plain, _percentile(plain_deep.cpu_ms, 50))


def _stats_row(index: SqlCaseIndex, baseline: Baseline, repeats: int, name: str, where: CaseFilter) -> Row:
    taken = _take(lambda: index.stats(where), repeats)
    if where.reviewer or where.defect_class:
        return _row(name, taken)
    return _row(name, taken, plain=_take(lambda: baseline.stats(where), max(3, repeats // 20)))


def _row(
    name: str,
    taken: Taken,
    deep_ms: float | None = None,
    plain: Taken | None = None,
    plain_deep_ms: float | None = None,
) -> Row:
    cpu_ms = _percentile(taken.cpu_ms, 50)
    plain_ms = _percentile(plain.cpu_ms, 50) if plain else None
    return Row(
        name,
        _percentile(taken.elapsed_ms, 50),
        _percentile(taken.elapsed_ms, 95),
        cpu_ms,
        deep_ms,
        plain_ms,
        plain_deep_ms,
        round(plain_ms / cpu_ms, 1) if plain_ms is not None else None,
    )


def _take(call: Callable[[], object], repeats: int) -> Taken:
    taken = Taken([], [])
    for _ in range(repeats):
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        call()
        taken.cpu_ms.append((time.thread_time() - began_cpu_s) * 1_000)
        taken.elapsed_ms.append((time.perf_counter() - began_s) * 1_000)
    return taken


def _percentile(times_ms: list[float], percent: float) -> float:
    return round(float(np.percentile(times_ms, percent)), 2) if times_ms else 0.0


def main(arguments: list[str] | None = None) -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--reviews", type=int, help="a fiftieth of the cases, where it is not given")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--postgres", action="store_true", help="compare SQLite with PostgreSQL instead")
    parser.add_argument("--url", default="", help="of an empty database in PostgreSQL; implies --postgres")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="sightline-bench-"))
    reviews = options.cases // 50 if options.reviews is None else options.reviews
    compared = options.postgres or bool(options.url)
    try:
        if compared:
            with _database(options.url) as url:
                result = compare(folder, url, options.cases, reviews, options.repeats)
        else:
            result = run(folder, options.cases, reviews, options.repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _print(result, compared=compared)
    out = options.out or Path("build/bench") / ("case_index_postgres.json" if compared else "case_index.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")


@contextlib.contextmanager
def _database(url: str) -> Iterator[str]:
    if url:
        yield url
        return
    with OwnPostgres(durable=True) as server, server.database() as own:
        yield own


def _print(result: dict[str, Any], *, compared: bool) -> None:
    headings = ["question", "p50", "p95", "CPU", "deep CPU", "baseline CPU", "baseline deep CPU", "baseline / index"]
    title = f"case index, SQLite, {result['cases']} cases, {result.get('reviews')} reviews (ms)"
    if compared:
        headings = [
            "question",
            *(f"{kind} {what}" for kind in ("SQLite", "PostgreSQL") for what in ("p50", "p95", "deep")),
        ]
        title = f"case index, SQLite and PostgreSQL {result['server_version']}, {result['cases']} cases (ms)"
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "question" else "right")
    for row in result["rows"]:
        table.add_row(*("-" if value is None else str(value) for value in row.values()))
    console = Console()
    console.print(table)
    console.print({key: value for key, value in result.items() if key != "rows"})


if __name__ == "__main__":
    main()
