"""From a frame's capture to the line's answer, with the whole line running: ``python -m tests.bench.line_answer``.

Two simulated cameras that run freely, ingest, Triton, the detector, the outcome service and everything else that
``make run`` starts share this machine, with a PLC on Modbus-TCP, one on OPC UA and an MQTT broker that are told every
part. Loads are shares of what a line of one box is designed for, 20 frames a second (10 parts of two views). At the end
Triton is killed and stays dead: what is told then must be REVIEW, within the deadline.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from services.adapters.codec_outcome import decode_outcome
from services.adapters.kafka import KafkaTopicReader
from services.core import topics
from services.core.outcome import Outcome
from services.local.line import Line, LinePlan
from services.local.process import free_port
from tests.bench.outcome_line import LINE, load_average
from tests.bench.outcome_observer import Observer, Places, Seen

OUT: Final = Path("build/bench/line_answer.json")
CYCLE_TIME_MS: Final = 1_000
#: Parts a second at full load; each is two frames.
FULL_PER_S: Final = 10.0
_PRODUCT: Final = "fabric"
_CAMERAS: Final = ("left", "right")
#: The first parts of a load find cold caches.
_WARM_S: Final = 5.0
_SETTLE_S: Final = 3.0
PLACES: Final = ("modbus", "opcua", "mqtt")
CONSOLE: Final = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time with one load."""

    name: str
    parts_per_s: float
    since_ns: int
    until_ns: int


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write ``build/bench/line_answer.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each load")
    parser.add_argument("--quick", action="store_true", help="one short load, to see that it works")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    seconds = 6.0 if options.quick else options.seconds
    loads = {"full": 1.0} if options.quick else {"half": 0.5, "full": 1.0, "beyond": 1.2}
    before = load_average()
    with tempfile.TemporaryDirectory(prefix="sightline-line-answer-") as folder:
        result = run(Path(folder), loads, seconds)
    result |= {"quick": options.quick, "load_average": [before, load_average()], "cores": os.cpu_count()}
    show(result)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2))
    return 0


def run(folder: Path, loads: dict[str, float], seconds: float) -> dict[str, Any]:
    """Run the line at each load, then without Triton.

    Args:
        folder: Of its own.
        loads: Shares of the full load, by name.
        seconds: Of each.
    """
    observer = Observer()
    modbus_port, opcua_port = free_port(), free_port()
    cameras = _write_cameras(folder / "cameras.yaml", 0.2)
    config = _write_outcome(folder / "outcome.yaml", modbus_port, opcua_port, observer.mqtt_port)
    line = Line(LinePlan(folder / "data", cameras, engine="memory", answers=True, outcome_config=config))
    try:
        line.start()
        observer.watch(Places(line.servers.kafka, modbus_port, opcua_port))
        line.start_ingest()
        stretches = [_load(line, cameras, name, FULL_PER_S * share, seconds) for name, share in loads.items()]
        # At the load that the line is designed for.
        _load(line, cameras, "full, then without Triton", FULL_PER_S, _SETTLE_S)
        triton = line.servers.triton
        assert triton is not None
        triton.kill()
        # What Triton has already answered is still on its way.
        time.sleep(_SETTLE_S)
        stretches.append(_stretch("Triton dead", FULL_PER_S, seconds / 2))
        time.sleep(_SETTLE_S)
        seen = observer.seen()
        # Only then does the topic become quiet.
        line.members["ingest"].stop()
        outcomes = _outcomes(line)
    finally:
        line.stop()
        observer.close()
    return {
        "cycle_time_ms": CYCLE_TIME_MS,
        "rows": [_row(stretch, outcomes, seen) for stretch in stretches],
    }


def _load(line: Line, cameras: Path, name: str, parts_per_s: float, seconds: float) -> Stretch:
    """Let the cameras run at another rate."""
    ingest = line.members["ingest"]
    ingest.stop()
    _write_cameras(cameras, parts_per_s)
    ingest.start()
    end_s = time.monotonic() + 60
    while not ingest.ready():
        assert time.monotonic() < end_s, "ingest must be ready"
        time.sleep(0.1)
    time.sleep(_WARM_S)
    CONSOLE.print(f"{name}: {parts_per_s:g} parts/s")
    return _stretch(name, parts_per_s, seconds)


def _stretch(name: str, parts_per_s: float, seconds: float) -> Stretch:
    since_ns = time.time_ns()
    time.sleep(seconds)
    return Stretch(name, parts_per_s, since_ns, time.time_ns())


def _row(stretch: Stretch, outcomes: list[Outcome], seen: dict[str, Seen]) -> dict[str, Any]:
    parts = {
        one.part_id: one
        for one in outcomes
        if one.revision == 1 and stretch.since_ns <= one.began_at_ns < stretch.until_ns
    }
    row: dict[str, Any] = {"load": stretch.name, "parts_per_s": stretch.parts_per_s, "parts": len(parts)}
    for place in PLACES:
        found = seen[place]
        after_ms = np.array([(found[part][0] - one.began_at_ns) / 1e6 for part, one in parts.items() if part in found])
        row[place] = {
            "seen": len(after_ms),
            "p50_ms": float(np.percentile(after_ms, 50)) if len(after_ms) else float("nan"),
            "p99_ms": float(np.percentile(after_ms, 99)) if len(after_ms) else float("nan"),
            "max_ms": float(after_ms.max()) if len(after_ms) else float("nan"),
            "within_cycle": float((after_ms <= CYCLE_TIME_MS).sum() / max(1, len(parts))),
            "review": sum(found[part][1] == "review" for part in parts if part in found) / max(1, len(parts)),
        }
    return row


def _outcomes(line: Line) -> list[Outcome]:
    reader = KafkaTopicReader(line.servers.kafka, [topics.OUTCOMES])
    try:
        found: list[Outcome] = []
        while records := reader.poll(max_records=1_000, timeout_s=2.0):
            found += [decode_outcome(record.value) for record in records]
        return found
    finally:
        reader.close()


def _write_cameras(path: Path, parts_per_s: float) -> Path:
    listed = [
        {
            "camera_id": name,
            "line_id": LINE,
            "product": _PRODUCT,
            "cycle_time_ms": CYCLE_TIME_MS,
            "source": {"kind": "simulated", "rate_fps": parts_per_s, "seed": 3_000_000, "view": view},
        }
        for view, name in enumerate(_CAMERAS)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"limits": {"inline_limit_bytes": 4_000}, "cameras": listed}))
    return path


def _write_outcome(path: Path, modbus_port: int, opcua_port: int, mqtt_port: int) -> Path:
    free_running = {"triggered": False, "heartbeat_timeout_ms": 0}
    connections = [
        {"kind": "modbus", "name": "modbus", "port": modbus_port, **free_running},
        {"kind": "opcua", "name": "opcua", "port": opcua_port, **free_running},
        {"kind": "mqtt", "name": "mqtt", "host": "127.0.0.1", "port": mqtt_port},
    ]
    line = {"line_id": LINE, "product": _PRODUCT, "cycle_time_ms": CYCLE_TIME_MS, "connections": connections}
    path.write_text(yaml.safe_dump({"parts": [{"product": _PRODUCT, "cameras": list(_CAMERAS)}], "lines": [line]}))
    return path


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"ms from capture to answer: p50, p99, max; within = {result['cycle_time_ms']} ms")
    for column in ("load", "parts/s", "parts", *PLACES, "REVIEW"):
        table.add_column(column, justify="right")
    for row in result["rows"]:
        cells = [
            f"{row[place]['p50_ms']:.0f}, {row[place]['p99_ms']:.0f}, {row[place]['max_ms']:.0f}; "
            f"within {row[place]['within_cycle']:.1%}"
            for place in PLACES
        ]
        table.add_row(
            row["load"], f"{row['parts_per_s']:g}", str(row["parts"]), *cells, f"{row['modbus']['review']:.1%}"
        )
    CONSOLE.print(table)
    CONSOLE.print(f"load average {', '.join(f'{each:.1f}' for each in result['load_average'])}")


if __name__ == "__main__":
    raise SystemExit(main())
