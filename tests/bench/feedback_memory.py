"""What the feedback service holds in memory over many cases: ``python -m tests.bench.feedback_memory [--quick]``.

Explained cases, each with a picture of its own, a map and an embedding, go through a real broker; the service, a
process of its own, puts each on record in a real object store and into its index, as fast as it can. Meanwhile one
person turns pages of the queue, looks at the counts and answers what comes, without a pause. Nobody asks for
neighbours: what that costs is told by ``tests.bench.neighbours``.

Growth is told between the medians of the first and the last quarter of the measured cases, after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from sightline.v1 import events_pb2

from services.adapters.codec_explained import encode_explained_case
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.ports import CaseFilter, QueueOrder
from services.core import topics
from services.core.identity import case_id, derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.review import Answer, CaseState, QueuedCase, Review, ReviewAction
from services.core.simulation.line import PRODUCTS, draw_part
from services.local.member import Member, metric_total
from services.local.process import free_port
from services.local.servers import Servers
from tests.support.explained import explained_case, explanation
from tests.support.explainer_line import NOW_NS, make_case

OUT: Final = Path("build/bench/feedback_memory.json")
#: Growth between the medians of the first and the last quarter that is still called flat.
FLAT_MB: Final = 12.0
QUARTERS: Final = 4
_PICTURES: Final = 256
#: Cases in the topic that the service has not taken yet: enough that it never waits.
_AHEAD: Final = 2_000
_CASES: Final = "sightline_feedback_cases_total"
_OPEN: Final = CaseFilter(state=CaseState.OPEN)
CONSOLE: Final = Console(highlight=False)

Sample = tuple[float, float, float]
"""Cases taken, resident MB now, resident MB at its highest."""


class CaseMaker:
    """Explained cases of one line, each with other bytes for a picture.

    The bytes after a JPEG's end are nobody's: with a number there, 256 pictures become as many as there are cases.
    """

    def __init__(self) -> None:
        self._pictures = [encode_jpeg(draw_part(PRODUCTS[n % len(PRODUCTS)], n).image) for n in range(_PICTURES)]
        random = np.random.default_rng(5)
        self._embeddings = random.normal(size=(_PICTURES, 512)).astype(np.float16)
        case = make_case(0, self._pictures[0])
        case = replace(case, embedding=self._embeddings[0])
        made = explained_case(case.inspection, [explanation("invrise-soft")])
        encoded = encode_explained_case(type(made)(case, made.explanations, made.explained_at_ns, made.agreement))
        self._template = encoded

    def make(self, number: int) -> tuple[bytes, bytes]:
        """Key and value of case ``number``."""
        camera = f"cam-{number % 8}"
        frame_id = derive_frame_id(camera, f"item-{number}", 0, NOW_NS + number * 1_000_000)
        # A message of its own: what is put into one that is used again is not given back before the message goes.
        message = events_pb2.ExplainedCase.FromString(self._template)
        case = message.case
        case.case_id = case_id(frame_id, case.inspection.alias, case.inspection.model_version)
        case.inspection.frame_id = frame_id
        case.inspection.part_id = f"part-{number}"
        case.inspection.camera_id = camera
        case.inspection.sequence = number + 1
        case.inspection.captured_at_ns = NOW_NS + number * 1_000_000
        case.inspection.decided_at_ns = case.inspection.captured_at_ns + 1
        case.image = self._pictures[number % _PICTURES] + number.to_bytes(8, "big")
        case.embedding_f16 = self._embeddings[number % _PICTURES].tobytes()
        return camera.encode(), message.SerializeToString()


class Operator:
    """One person who turns pages, answers what comes, and looks at the counts; on a thread of its own."""

    def __init__(self, address: str, stop: threading.Event) -> None:
        self._client = FeedbackClient(address)
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self.answers = 0
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the last answer."""
        self._thread.join(30)

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.2):
                page = self._client.list_queue(_OPEN, QueueOrder.BY_GAIN, limit=50, token="")
                self._client.stats(CaseFilter())
                if page.cases:
                    self._client.submit(_answer(page.cases[0]), b"")
                    self.answers += 1
        except Exception as error:  # noqa: BLE001  shown by who measures: the run is void then
            self.failure = error


def _answer(case: QueuedCase) -> Review:
    return Review(
        review_id=str(uuid.uuid4()),
        case_id=case.case_id,
        frame_id="",
        action=ReviewAction.ANSWER,
        reviewer="person",
        reviewed_at_ns=0,
        verdict_right=Answer.YES,
        reason_right=Answer.YES,
        shown_method=case.shown_method,
    )


def run(folder: Path, cases: int, warm_up: int) -> dict[str, Any]:
    """Send the cases through a service and watch it."""
    servers = Servers(folder, engine="memory", environ={})
    servers.start()
    port = free_port()
    own = {"GRPC__PORT": str(port), "INDEX__URL": f"sqlite:///{folder / 'cases.db'}", "LOG_LEVEL": "WARNING"}
    service = Member("feedback", {**servers.settings(), **own}, logs=folder / "logs")
    stop = threading.Event()
    try:
        service.start()
        while not service.ready():
            time.sleep(0.1)
        operator = Operator(f"127.0.0.1:{port}", stop)
        operator.start()
        began_s = time.monotonic()
        samples = _send(KafkaRecordWriter(servers.kafka), service, operator, warm_up + cases)
        spent_s = time.monotonic() - began_s
        stop.set()
        operator.join()
    finally:
        stop.set()
        service.process.stop(20)
        servers.stop()
    return _summary(samples, cases, warm_up) | {"cases_per_s": (warm_up + cases) / spent_s, "answers": operator.answers}


def _send(writer: KafkaRecordWriter, service: Member, operator: Operator, cases: int) -> list[Sample]:
    maker = CaseMaker()
    samples: list[Sample] = []
    sent = 0
    told_s = moved_s = time.monotonic()
    while True:
        taken = metric_total(service.metrics(), _CASES)
        now_s = time.monotonic()
        if samples and taken > samples[-1][0]:
            moved_s = now_s
        if now_s - moved_s > 120:
            raise TimeoutError(f"cases must go on being taken, got {taken:.0f} of {cases} and none for 120 s")
        if operator.failure is not None:
            raise operator.failure
        samples.append((taken, *_resident_mb(service.process.pid)))
        if now_s - told_s > 30:
            told_s = now_s
            CONSOLE.log(f"{taken:.0f} of {cases} cases, {samples[-1][1]:.1f} MB, {operator.answers} answers")
        if taken >= cases:
            writer.close(60)
            return samples
        while sent < min(cases, int(taken) + _AHEAD):
            key, value = maker.make(sent)
            writer.send(topics.EXPLAINED, key=key, value=value)
            sent += 1
        time.sleep(0.5)


def _resident_mb(pid: int) -> tuple[float, float]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return kib["VmRSS"] * 1024 / 1e6, kib["VmHWM"] * 1024 / 1e6


def _summary(samples: list[Sample], cases: int, warm_up: int) -> dict[str, Any]:
    quarters: list[list[float]] = [[] for _ in range(QUARTERS)]
    for taken, resident_mb, _ in samples:
        if taken > warm_up:
            quarters[min(QUARTERS - 1, int((taken - warm_up) / cases * QUARTERS))].append(resident_mb)
    medians = [round(statistics.median(values), 1) if values else None for values in quarters]
    known = [value for value in medians if value is not None]
    growth_mb = round(known[-1] - known[0], 1)
    return {
        "schema": 1,
        "cases": cases,
        "warm_up_cases": warm_up,
        "quarters_mb": medians,
        "growth_mb": growth_mb,
        "flat_mb": FLAT_MB,
        "highest_mb": round(samples[-1][2], 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure; 0 where memory stays flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases, no warm-up, growth is only shown")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--warm-up", type=int, default=5_000)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    cases, warm_up = (600, 0) if options.quick else (options.cases, options.warm_up)
    with tempfile.TemporaryDirectory(prefix="sightline-feedback-memory-") as folder:
        result = run(Path(folder), cases, warm_up)
    kept = options.quick or result["growth_mb"] <= FLAT_MB
    result |= {"quick": options.quick, "kept": kept, "load_average": os.getloadavg()[0]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    title = f"feedback: RSS over {cases} cases after {warm_up}, {result['cases_per_s']:.0f}/s, MB; quarters are medians"
    table = Table(title=title)
    for name in ("1st quarter", "2nd", "3rd", "4th", "growth", "highest ever"):
        table.add_column(name, justify="right")
    table.add_row(*(str(value) for value in (*result["quarters_mb"], result["growth_mb"], result["highest_mb"])))
    CONSOLE.print(table)
    CONSOLE.print(
        f"{result['answers']} answers meanwhile; growth at most {FLAT_MB:.0f} MB: {'kept' if kept else 'BROKEN'}"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main())
