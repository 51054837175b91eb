"""How fast the outcome service is, and how soon a line has its answer: ``python -m tests.bench.outcome [--quick]``.

The service runs as a process against the local broker; arrivals and verdicts are written to their topics as ingest and
the detector would, two views to a part, with no cameras and no model. The baseline, in the same run: the same records
read by a bare consumer, and as many records as there are parts, of an outcome's size, written by a bare producer, with
nothing decoded or joined between.

Broker, service, generator and whoever watches share one machine, as they do on a line of one box.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.core import topics
from services.local.process import free_port
from tests.bench.outcome_line import CAMERAS, LINE, PRODUCT, Offered, OutcomeLine, load_average, wait_until
from tests.bench.outcome_observer import Observer, Places, Seen

OUT: Final = Path("build/bench/outcome.json")
#: Outcomes a second that one process should sustain on two cores.
AIM_PER_S: Final = 500.0
#: Parts a second that come in evenly at full load: half of it is the aim.
RATE_PER_S: Final = 1_000.0
CYCLE_TIME_MS: Final = 1_000
#: The local broker does not answer a waiting fetch when a record comes: an outcome lies there for up to 50 ms.
DECIDE_BEFORE_MS: Final = 100
#: Parts of the memory's row are remembered for this long, so that it is level well before its end.
REMEMBER_S: Final = 60
_SETTLE_S: Final = 10.0
CONSOLE: Final = Console(highlight=False)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    backlog: int
    """Parts that are joined as fast as it goes."""
    load: float
    """Parts a second of a full line."""
    seconds: float
    """How long each load is offered."""
    parts: int
    """Parts over which memory is watched."""
    repeats: int
    rate: float = RATE_PER_S
    """Parts a second of full load without a line's connections."""


FULL: Final = Plan(backlog=15_000, load=20.0, seconds=20.0, parts=100_000, repeats=3)
QUICK: Final = Plan(backlog=4_000, load=10.0, seconds=3.0, parts=600, repeats=1, rate=200.0)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write ``build/bench/outcome.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--parts", type=int, help="parts over which memory is watched; 0 leaves that out")
    parser.add_argument("--load", type=float, help="parts a second of a full line")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else FULL
    parts = plan.parts if options.parts is None else options.parts
    plan = dataclasses.replace(plan, load=options.load or plan.load, parts=parts)
    with tempfile.TemporaryDirectory(prefix="sightline-bench-outcome-") as folder:
        result = run(Path(folder), plan) | {"quick": options.quick}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0


def run(folder: Path, plan: Plan) -> dict[str, Any]:
    """Everything, one after the other, each with a broker of its own."""
    result: dict[str, Any] = {
        "schema": 1,
        "cores": os.cpu_count(),
        "cycle_time_ms": CYCLE_TIME_MS,
        "views": len(CAMERAS),
        "load_average": [load_average()],
    }
    pairs = [_pair(folder / f"backlog-{number}", plan.backlog) for number in range(plan.repeats)]
    result["throughput"] = {
        "outcomes_per_s": statistics.median(pair["outcomes_per_s"] for pair in pairs),
        "baseline_per_s": statistics.median(pair["baseline_per_s"] for pair in pairs),
        "ratio": statistics.median(pair["ratio"] for pair in pairs),
        "aim_per_s": AIM_PER_S,
        "pairs": pairs,
    }
    result["sustained"] = sustained(folder / "sustained", plan.rate, plan.seconds)
    result["latency"], result["without_verdicts"] = answers(folder / "answers", plan)
    if plan.parts:
        result["memory"] = memory(folder / "memory", 0.6 * plan.rate, plan.parts)
    result["load_average"].append(load_average())
    return result


# ---- throughput


def _pair(folder: Path, parts: int) -> dict[str, Any]:
    """Outcomes a second of the service over a full topic, and parts a second of the bare loop over the same."""
    with OutcomeLine(folder) as line:
        line.fill(parts)
        bare = _bare_rate(line, parts)
        line.service.start()
        wait_until(lambda: line.outcomes > 0)
        first, began_s, before = line.outcomes, time.monotonic(), line.cpu_s()
        wait_until(lambda: line.outcomes >= parts)
        seconds, after = time.monotonic() - began_s, line.cpu_s()
        rate = (line.outcomes - first) / seconds
        spent = {name: (after[name] - before[name]) / max(1.0, parts - first) * 1e3 for name in before}
    CONSOLE.print(f"{rate:.0f} outcomes/s, bare loop {bare:.0f} parts/s")
    return {"outcomes_per_s": rate, "baseline_per_s": bare, "ratio": rate / bare, "cpu_ms_per_part": spent}


def _bare_rate(line: OutcomeLine, parts: int) -> float:
    reader = KafkaTopicReader(line.kafka, [topics.ARRIVALS, topics.VERDICTS])
    # Within a topic of its own: nobody reads it.
    writer, topic = KafkaRecordWriter(line.kafka), topics.dead_letter(topics.OUTCOMES)
    reader.seek_to_time(0)
    records, acks = parts * 2 * len(CAMERAS), []
    value = os.urandom(500)
    read, began_s = 0, time.monotonic()
    while read < records:
        assert time.monotonic() - began_s < 300
        for record in reader.poll(max_records=1_000, timeout_s=0.2):
            read += 1
            if read % (2 * len(CAMERAS)) == 0:
                acks.append(writer.send(topic, key=record.key or b"", value=value))
    for ack in acks:
        ack.result(timeout=60)
    rate = parts / (time.monotonic() - began_s)
    reader.close()
    writer.close(5)
    return rate


def sustained(folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """What comes out while parts come in at half, all and 1.2 times of a rate."""
    found = {}
    for name, share in (("half", 0.5), ("full", 1.0), ("beyond", 1.2)):
        with OutcomeLine(folder / name) as line:
            line.start()
            parts = int(rate * share * seconds)
            first, before = line.outcomes, line.cpu_s()
            offered = line.offer(name, rate * share, parts, CYCLE_TIME_MS)
            done, after = line.outcomes - first, line.cpu_s()
            spent_s = {one: after[one] - before[one] for one in before}
            line.wait_for(first + parts)
            missed = _missed(line)
        found[name] = {
            "offered_per_s": offered.reached,
            "outcomes_per_s": done / offered.seconds,
            "deadline_missed": missed / parts,
            "generator_cores": spent_s["generator"] / offered.seconds,
            "service_cores": spent_s["service"] / offered.seconds,
            "broker_cores": spent_s["broker"] / offered.seconds,
        }
        CONSOLE.print(f"{name}: {found[name]['offered_per_s']:.0f}/s in, {found[name]['outcomes_per_s']:.0f}/s out")
    return found


def _missed(line: OutcomeLine) -> float:
    text = line.service.metrics()
    return sum(
        float(row.rsplit(" ", 1)[1])
        for row in text.splitlines()
        if row.startswith("sightline_outcome_outcomes_total{") and 'reason="deadline_missed"' in row
    )


# ---- what the line sees


def answers(folder: Path, plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """How soon outcomes come out everywhere, by load; and what comes out when there are no verdicts at all."""
    observer = Observer()
    modbus_port, opcua_port = free_port(), free_port()
    free_running = {"triggered": False, "heartbeat_timeout_ms": 0}
    connections = [
        {"kind": "modbus", "name": "modbus", "port": modbus_port, **free_running},
        {"kind": "opcua", "name": "opcua", "port": opcua_port, **free_running},
        {"kind": "mqtt", "name": "mqtt", "host": "127.0.0.1", "port": observer.mqtt_port},
    ]
    one = {"line_id": LINE, "product": PRODUCT, "cycle_time_ms": CYCLE_TIME_MS, "connections": connections}
    latency: dict[str, Any] = {}
    try:
        with OutcomeLine(folder, [one], {"decide_before_ms": DECIDE_BEFORE_MS}) as line:
            line.start()
            observer.watch(Places(line.kafka, modbus_port, opcua_port))
            # The first parts find cold caches and groups that are still joining.
            _offered(line, observer, "warm", plan.load / 2, 2.0)
            for name, share in (("half", 0.5), ("full", 1.0), ("beyond", 1.2)):
                offered = _offered(line, observer, name, plan.load * share, plan.seconds)
                seen = observer.seen()
                latency[name] = {"offered_per_s": offered.reached} | {
                    place: _latency(offered, seen[place]) for place in seen
                }
                CONSOLE.print(f"{name}: {_shown(latency[name]['modbus'])} on Modbus")
            offered = _offered(line, observer, "silent", plan.load, plan.seconds / 3, views=0)
            seen = observer.seen()
            silent = {place: _silent(offered, seen[place]) for place in seen}
    finally:
        observer.close()
    return latency, silent


def _offered(
    line: OutcomeLine, observer: Observer, name: str, rate: float, seconds: float, views: int = len(CAMERAS)
) -> Offered:
    parts = max(1, int(rate * seconds))
    offered = line.offer(name, rate, parts, CYCLE_TIME_MS, views=lambda _number: views)
    end_s = time.monotonic() + _SETTLE_S
    while time.monotonic() < end_s:
        seen = observer.seen()
        if all(offered.began_ns.keys() <= found.keys() for found in seen.values()):
            break
        time.sleep(0.1)
    return offered


def _latency(offered: Offered, seen: Seen) -> dict[str, float]:
    parts = [part for part in offered.began_ns if part in seen]
    after_ms = [(seen[part][0] - offered.last_verdict_ns[part]) / 1e6 for part in parts]
    whole_ms = [(seen[part][0] - offered.began_ns[part]) / 1e6 for part in parts]
    return {
        "parts": len(offered.began_ns),
        "seen": len(parts),
        "p50_ms": float(np.percentile(after_ms, 50)) if parts else float("nan"),
        "p99_ms": float(np.percentile(after_ms, 99)) if parts else float("nan"),
        "within_cycle": sum(each <= CYCLE_TIME_MS for each in whole_ms) / len(offered.began_ns),
        "pass": sum(seen[part][1] == "pass" for part in parts) / len(offered.began_ns),
    }


def _silent(offered: Offered, seen: Seen) -> dict[str, float]:
    parts = [part for part in offered.began_ns if part in seen]
    whole_ms = [(seen[part][0] - offered.began_ns[part]) / 1e6 for part in parts]
    count = len(offered.began_ns)
    return {
        "parts": count,
        "review": sum(seen[part][1] == "review" for part in parts) / count,
        "within_deadline": sum(each <= CYCLE_TIME_MS for each in whole_ms) / count,
        "p50_ms": float(np.percentile(whole_ms, 50)) if parts else float("nan"),
        "max_ms": max(whole_ms, default=float("nan")),
    }


# ---- memory


def memory(folder: Path, rate: float, parts: int) -> dict[str, Any]:
    """The service's memory over many parts, of which one in fifty lacks a view: one view in a hundred is missing."""
    every = max(1, parts // 10)
    with OutcomeLine(folder, joining={"remember_s": REMEMBER_S}) as line:
        line.start()
        first = line.outcomes
        rows = [{"parts": 0, "rss_mb": line.rss_mb}]
        offered_parts = 0

        def look() -> None:
            nonlocal offered_parts
            offered_parts += 1
            if offered_parts % every == 0:
                rows.append({"parts": offered_parts, "rss_mb": line.rss_mb})
                CONSOLE.print(f"{offered_parts} parts: {rows[-1]['rss_mb']:.0f} MB")

        offered = line.offer(
            "memory", rate, parts, CYCLE_TIME_MS, views=lambda number: 1 if number % 50 == 0 else 2, each=look
        )
        line.wait_for(first + parts)
        missed = _missed(line)
        rows.append({"parts": parts, "rss_mb": line.rss_mb})
    return {
        "parts": parts,
        "offered_per_s": offered.reached,
        "deadline_missed": missed / parts,
        "remember_s": REMEMBER_S,
        "rows": rows,
    }


# ---- the tables


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    rates = result["throughput"]
    CONSOLE.print(
        f"one process, from a full topic: {rates['outcomes_per_s']:.0f} outcomes/s (aim {rates['aim_per_s']:.0f}), "
        f"the bare loop {rates['baseline_per_s']:.0f} parts/s: ratio {rates['ratio']:.3f}"
    )
    table = Table(title="parts that come evenly in time, two views each; cores taken by each process")
    for column in ("of the rate", "in/s", "out/s", "late", "service", "broker", "generator"):
        table.add_column(column, justify="right")
    for name, row in result["sustained"].items():
        cores = (f"{row[f'{one}_cores']:.2f}" for one in ("service", "broker", "generator"))
        rate = (f"{row['offered_per_s']:.0f}", f"{row['outcomes_per_s']:.0f}", f"{row['deadline_missed']:.1%}")
        table.add_row(name, *rate, *cores)
    CONSOLE.print(table)
    times = Table(title=f"ms from the last view's verdict; within = {result['cycle_time_ms']} ms after the arrival")
    places = ("topic", "modbus", "opcua", "mqtt")
    for column in ("load", "parts/s", *places):
        times.add_column(column, justify="right")
    for name, row in result["latency"].items():
        times.add_row(name, f"{row['offered_per_s']:.0f}", *(_shown(row[place]) for place in places))
    CONSOLE.print(times)
    for place, row in result["without_verdicts"].items():
        CONSOLE.print(
            f"no verdicts, {place}: {row['review']:.1%} REVIEW, {row['within_deadline']:.1%} within the deadline, "
            f"p50 {row['p50_ms']:.0f} ms, max {row['max_ms']:.0f} ms"
        )
    if "memory" in result:
        grown = ", ".join(f"{row['parts']}: {row['rss_mb']:.0f}" for row in result["memory"]["rows"])
        CONSOLE.print(f"memory in MB after parts, at {result['memory']['offered_per_s']:.0f} parts/s: {grown}")
    CONSOLE.print(f"load average {', '.join(f'{each:.1f}' for each in result['load_average'])}")


def _shown(row: dict[str, float]) -> str:
    lost = "" if row["seen"] == row["parts"] else f", {row['parts'] - row['seen']} unseen"
    return f"p50 {row['p50_ms']:.0f}, p99 {row['p99_ms']:.0f}, within {row['within_cycle']:.1%}{lost}"


if __name__ == "__main__":
    raise SystemExit(main())
