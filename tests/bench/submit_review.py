"""How long an answer takes until it is on record: ``python -m tests.bench.submit_review``.

Answers go over gRPC to the feedback service, a process of its own, with the embedded object store and an index in
SQLite; half of them carry a mask. First one after the other, then from several people at once. The baseline in the same
run is what an answer cannot do without: writing one object of its size to the store.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from services.adapters.codec_explained import encode_explained_case
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import CaseFilter, QueueOrder
from services.core import topics
from services.core.imaging import encode_jpeg
from services.core.review import Answer, QueuedCase, Review, ReviewAction
from services.core.simulation.line import PRODUCTS, draw_part
from services.local.member import Member
from services.local.process import free_port
from services.local.servers import Servers
from tests.support.explained import explained_case, explanation
from tests.support.explainer_line import make_case

REPORT = Path("build/bench/submit_review.json")
P99_LIMIT_MS = 150.0
RATE_LIMIT = 50.0


def mask_png(case: QueuedCase, seed: int) -> bytes:
    """A drawing as a brush makes it."""
    random = np.random.default_rng(seed)
    values = np.zeros((case.image_height_px, case.image_width_px), np.uint8)
    x, y = (int(random.integers(20, side - 20)) for side in (case.image_width_px, case.image_height_px))
    cv2.line(values, (x, y), (x + 15, y + 10), 255, 9)
    return bytes(cv2.imencode(".png", values)[1])


def answer(case: QueuedCase, number: int) -> Review:
    """One person's answer."""
    return Review(
        review_id=str(uuid.uuid4()),
        case_id=case.case_id,
        frame_id="",
        action=ReviewAction.ANSWER,
        reviewer=f"person-{number}",
        reviewed_at_ns=0,
        verdict_right=Answer.YES,
        reason_right=Answer.NO,
        shown_method=case.shown_method,
    )


def submit(client: FeedbackClient, case: QueuedCase, number: int) -> float:
    """Milliseconds until an answer is acknowledged."""
    png = mask_png(case, number) if number % 2 else b""
    review = answer(case, number)
    began_s = time.perf_counter()
    client.submit(review, png)
    return 1000 * (time.perf_counter() - began_s)


def run(folder: Path, cases: int, people: int, tell: Any) -> dict[str, Any]:
    """Start everything, measure, stop everything."""
    servers = Servers(folder, engine="memory", environ={})
    servers.start()
    port = free_port()
    own = {"GRPC__PORT": str(port), "INDEX__URL": f"sqlite:///{folder / 'cases.db'}", "LOG_LEVEL": "WARNING"}
    service = Member("feedback", {**servers.settings(), **own}, logs=folder / "logs")
    try:
        service.start()
        while not service.ready():
            time.sleep(0.1)
        tell(f"{cases} cases")
        queue = _fill(servers, FeedbackClient(f"127.0.0.1:{port}"), cases)
        client = FeedbackClient(f"127.0.0.1:{port}")
        store = S3ObjectStore(servers.objects)
        body = b"x" * 1_500
        alone, puts = [], []
        half = len(queue) // 2
        tell("one after the other")
        for number, case in enumerate(queue[:half]):
            alone.append(submit(client, case, number))
            began_s = time.perf_counter()
            store.put(f"bench/{number}", body)
            puts.append(1000 * (time.perf_counter() - began_s))
        tell(f"{people} people at once")
        began_s = time.perf_counter()
        with ThreadPoolExecutor(people) as pool:
            together = list(pool.map(lambda one: submit(client, one[1], one[0]), enumerate(queue[half:], start=half)))
        spent_s = time.perf_counter() - began_s
        return {
            "cases": cases,
            "people": people,
            "alone_p50_ms": statistics.median(alone),
            "alone_p99_ms": float(np.percentile(alone, 99)),
            "together_p50_ms": statistics.median(together),
            "together_p99_ms": float(np.percentile(together, 99)),
            "reviews_per_s": len(together) / spent_s,
            "baseline": "one object of 1.5 kB into the store",
            "baseline_p50_ms": statistics.median(puts),
            "ratio": statistics.median(alone) / statistics.median(puts),
        }
    finally:
        service.process.stop(20)
        servers.stop()


def _fill(servers: Servers, client: FeedbackClient, cases: int) -> list[QueuedCase]:
    writer = KafkaRecordWriter(servers.kafka)
    picture = encode_jpeg(draw_part(PRODUCTS[0], 1).image)
    for number in range(cases):
        case = make_case(number, picture, camera=f"cam-{number % 8}")
        made = explained_case(case.inspection, [explanation("invrise-soft"), explanation("gradcam")])
        value = encode_explained_case(type(made)(case, made.explanations, made.explained_at_ns, made.agreement))
        writer.send(topics.EXPLAINED, key=case.inspection.camera_id.encode(), value=value)
    writer.close(60)
    while client.stats(CaseFilter()).open < cases:
        time.sleep(0.2)
    found: list[QueuedCase] = []
    token = ""
    while True:
        page = client.list_queue(CaseFilter(), QueueOrder.BY_GAIN, limit=200, token=token)
        found += page.cases
        token = page.next_token
        if not token:
            return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 where both bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args(argv)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.cases, options.people, console.log)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    table = Table(title=f"an answer until it is on record ({options.cases} cases, half of the answers with a mask)")
    for name in ("", "p50, ms", "p99, ms"):
        table.add_column(name)
    table.add_row("one after the other", f"{report['alone_p50_ms']:.1f}", f"{report['alone_p99_ms']:.1f}")
    table.add_row(f"{options.people} at once", f"{report['together_p50_ms']:.1f}", f"{report['together_p99_ms']:.1f}")
    table.add_row(report["baseline"], f"{report['baseline_p50_ms']:.1f}", "")
    console.print(table)
    console.print(f"{report['reviews_per_s']:.0f} answers/s from {options.people} people")
    return 0 if report["alone_p99_ms"] <= P99_LIMIT_MS and report["reviews_per_s"] >= RATE_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
