"""How much of Triton's own speed a line keeps: ``python -m tests.bench.pipeline [--quick]``.

The baseline is the same Triton, in the same run and over the same transport, fed tensors that lie ready. Against it
stands the whole way of a frame: read from a topic that was filled before, decoded, prepared, asked about, decided,
written, acknowledged. ResNet-18 in bfloat16 at 224 px has a bound; the default model is measured beside it. The
networks' numbers are random, which changes nothing about their speed; the operating point is set so that one frame in
fifty is flagged.

Broker, object store, Triton, detector and this process share one machine, as they do on a line of one box.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from services.adapters import codec
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.core import topics
from services.core.imaging import ImageLimits, decode
from services.core.manifest import ModelManifest
from services.core.preprocessing import prepare
from services.core.types import Inspection
from services.serving.repository import Placement
from tests.bench.detector_line import (
    CpuClock,
    MeasuredLine,
    draw_images,
    make_frame,
    measure_rate,
    prepared,
    tensor_rate,
)
from tests.support.detector_process import DetectorProcess

OUT = Path("build/bench/pipeline.json")
BOUND = 0.75
CYCLE_TIME_MS = 500
IDLE = "idle and others"
CONSOLE = Console()


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    frames: int
    repeats: int
    images: int
    latency_s: float
    default_frames: int
    batch: int = 16
    in_flight: int = 3


FULL = Plan(frames=4_000, repeats=5, images=96, latency_s=20.0, default_frames=1_500)
QUICK = Plan(frames=500, repeats=1, images=32, latency_s=0.0, default_frames=0)


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write ``build/bench/pipeline.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--repeats", type=int, help="pairs of baseline and line")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process of the model")
    parser.add_argument("--instances", type=int, default=2, help="processes of the model")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else FULL
    repeats = options.repeats or plan.repeats
    placement = Placement(
        threads=options.threads, instances=options.instances, max_batch_size=plan.batch, precision="bfloat16"
    )
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        line = MeasuredLine(Path(folder), placement)
        try:
            result = run(line, plan, repeats)
        finally:
            line.stop()
    result |= {"quick": options.quick, "placement": {"threads": options.threads, "instances": options.instances}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0


def run(line: MeasuredLine, plan: Plan, repeats: int) -> dict[str, Any]:
    """Start the line and measure both models."""
    images = draw_images(plan.images)
    line.start()
    line.fill(images, plan.frames)
    result: dict[str, Any] = {
        "schema": 1,
        "cores": os.cpu_count(),
        "image_bytes": round(statistics.mean(map(len, images))),
        "image_px": 320,
        "bound": BOUND,
    }
    manifest = line.deploy("resnet18", images)
    model = _measure(line, manifest, images, plan, plan.frames, repeats)
    result |= {"efficiency": model["efficiency"], "resnet18": model, "one_core_ms": _stages(images, manifest)}
    line.retire(manifest)
    if plan.default_frames:
        manifest = line.deploy("efficientnet-lite0", images)
        short = Plan(plan.default_frames, 3, plan.images, 0.0, 0, plan.batch, plan.in_flight)
        result["default"] = _measure(line, manifest, images, short, plan.default_frames, min(3, repeats))
        line.retire(manifest)
    return result


def _measure(
    line: MeasuredLine, manifest: ModelManifest, images: list[bytes], plan: Plan, frames: int, repeats: int
) -> dict[str, Any]:
    rows = prepared(images, manifest.preprocessing)
    pairs, breakdowns = [], []
    latency: dict[str, Any] = {}
    rss_mb = 0.0
    for number in range(repeats):
        baseline = tensor_rate(
            line, manifest, rows, frames=max(frames // 3, 256), batch=plan.batch, in_flight=plan.in_flight
        )
        detector = line.detector(f"detector-{number}", manifest, f"{manifest.alias}-{number}", AUDIT_SHARE="0.02")
        try:
            detector.start()
            whole, breakdown = _work_off(line, detector, frames)
            pairs.append({"tensors_per_s": baseline, "line_per_s": whole, "ratio": whole / baseline})
            breakdowns.append(breakdown)
            rss_mb = max(rss_mb, detector.metric("process_resident_memory_bytes") / 1e6)
            CONSOLE.print(
                f"{manifest.architecture} {number + 1}/{repeats}: {baseline:.1f} tensors/s, {whole:.1f} frames/s"
            )
            if number == repeats - 1 and plan.latency_s:
                # The rate was taken before the topic was empty: what is left would stand before the first paced frames.
                detector.wait_for_verdicts(frames)
                rate = statistics.median(pair["line_per_s"] for pair in pairs)
                latency = _latencies(line, detector, images, rate, plan.latency_s)
        finally:
            detector.stop()
    names = sorted({name for item in breakdowns for name in item}, key=lambda name: (name == IDLE, name))
    cpu = {name: statistics.median(item.get(name, 0.0) for item in breakdowns) for name in names}
    return {
        "efficiency": statistics.median(pair["ratio"] for pair in pairs),
        "line_per_s": statistics.median(pair["line_per_s"] for pair in pairs),
        "tensors_per_s": statistics.median(pair["tensors_per_s"] for pair in pairs),
        "pairs": pairs,
        "cpu_ms_per_frame": cpu,
        "triton_share_of_cpu": cpu["triton"] / sum(value for name, value in cpu.items() if name != IDLE),
        "detector_rss_mb": rss_mb,
        "latency": latency,
    }


def _work_off(line: MeasuredLine, detector: DetectorProcess, frames: int) -> tuple[float, dict[str, float]]:
    """Frames/s of the whole line, and the CPU of each part in milliseconds for each frame."""
    detector.wait_for_verdicts(1)
    clock, started_s, before = CpuClock(line, detector), time.monotonic(), detector.metric(_VERDICTS)
    rate, _, _ = measure_rate(detector, frames, timeout_s=frames / 5)
    spent, done = clock.since(), detector.metric(_VERDICTS) - before
    idle_s = (time.monotonic() - started_s) * (os.cpu_count() or 1) - sum(spent.values())
    parts = {name: seconds / done * 1e3 for name, seconds in sorted(spent.items())}
    return rate, parts | {IDLE: idle_s / done * 1e3}


_VERDICTS = "sightline_detector_verdicts_total"


def _stages(images: list[bytes], manifest: ModelManifest) -> dict[str, float]:
    """What single steps cost on one core, in milliseconds for each frame."""
    frames = [make_frame(number, image, "camera-0", time.time_ns()) for number, image in enumerate(images)]
    values = [codec.encode_frame(frame) for frame in frames]
    limits = ImageLimits()
    pixels = [decode(image, limits) for image in images]

    def cost(step: Any, items: list[Any]) -> float:
        taken = []
        for _ in range(5):
            started_s = time.perf_counter()
            for item in items:
                step(item)
            taken.append((time.perf_counter() - started_s) / len(items) * 1e3)
        return min(taken)

    return {
        "decode the JPEG": cost(lambda item: decode(item, limits), images),
        "prepare the tensor": cost(lambda item: prepare(item, manifest.preprocessing), pixels),
        "parse the frame": cost(codec.decode_frame, values),
    }


def _latencies(
    line: MeasuredLine, detector: DetectorProcess, images: list[bytes], rate: float, seconds: float
) -> dict[str, Any]:
    """Latency and punctuality at half, full and 1.2 times the rate that was measured."""
    found: dict[str, Any] = {"cycle_time_ms": CYCLE_TIME_MS}
    reader = KafkaTopicReader(line.servers.kafka, [topics.VERDICTS])
    reader.seek_to_end()
    for name, share in (("half", 0.5), ("full", 1.0), ("beyond", 1.2)):
        camera = f"paced-{name}"
        count = _offer(line, images, camera, rate * share, seconds)
        verdicts: list[Inspection] = []
        end_s = time.monotonic() + seconds + 60
        while len(verdicts) < count and time.monotonic() < end_s:
            records = reader.poll(max_records=1_000, timeout_s=0.2)
            decoded = (codec.decode_inspection(record.value) for record in records)
            verdicts.extend(item for item in decoded if item.camera_id.startswith(camera))
        found[name] = _summary(verdicts, rate * share, count)
    reader.close()
    return found


def _offer(line: MeasuredLine, images: list[bytes], camera: str, rate: float, seconds: float) -> int:
    """Publish frames evenly in time, from four cameras, each stamped with the moment it was due."""
    writer = KafkaRecordWriter(line.servers.kafka, linger_ms=0)
    count = int(rate * seconds)
    started_s = time.monotonic()
    for number in range(count):
        due_s = started_s + number / rate
        time.sleep(max(0.0, due_s - time.monotonic()))
        frame = make_frame(
            number, images[number % len(images)], f"{camera}-{number % 4}", time.time_ns(), CYCLE_TIME_MS
        )
        writer.send(topics.FRAMES, key=frame.camera_id.encode(), value=codec.encode_frame(frame))
    writer.flush(60)
    writer.close(5)
    return count


def _summary(verdicts: list[Inspection], rate: float, offered: int) -> dict[str, float]:
    total = np.array([item.timings.total_ms for item in verdicts])
    model = np.array([item.timings.infer_ms for item in verdicts])
    return {
        "offered_per_s": rate,
        "frames": offered,
        "verdicts": len(verdicts),
        "in_time": float(np.mean([item.in_time for item in verdicts])),
        "p50_ms": float(np.percentile(total, 50)),
        "p99_ms": float(np.percentile(total, 99)),
        "model_p50_ms": float(np.percentile(model, 50)),
        "model_p99_ms": float(np.percentile(model, 99)),
        "beyond_model_p50_ms": float(np.percentile(total - model, 50)),
        "beyond_model_p99_ms": float(np.percentile(total - model, 99)),
    }


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    table = Table(title="frames/s, from the topic to acknowledged verdicts, against the same Triton fed ready tensors")
    for column in ("model", "tensors/s", "line/s", "efficiency", "pairs", "detector RSS"):
        table.add_column(column, justify="right")
    for name in ("resnet18", "default"):
        if name in result:
            model = result[name]
            ratios = ", ".join(f"{pair['ratio']:.3f}" for pair in model["pairs"])
            table.add_row(
                name,
                f"{model['tensors_per_s']:.1f}",
                f"{model['line_per_s']:.1f}",
                f"{model['efficiency']:.3f}",
                ratios,
                f"{model['detector_rss_mb']:.0f} MB",
            )
    CONSOLE.print(table)
    parts = Table(title="where the cores' time goes, ms of CPU for each frame (ResNet-18)")
    parts.add_column("part")
    parts.add_column("ms", justify="right")
    rows = {
        **result["resnet18"]["cpu_ms_per_frame"],
        **{f"(one step) {k}": v for k, v in result["one_core_ms"].items()},
    }
    for name, value in rows.items():
        parts.add_row(name, f"{value:.3f}")
    CONSOLE.print(parts)
    share = result["resnet18"]["triton_share_of_cpu"]
    CONSOLE.print(f"Triton's share of the CPU that the line took: {share:.1%}")
    latency = result["resnet18"]["latency"]
    if latency:
        times = Table(title=f"latency from capture to verdict; in time = within {latency['cycle_time_ms']} ms")
        columns = ("load", "frames/s", "p50 ms", "p99 ms", "beyond the model p50", "p99", "in time")
        for column in columns:
            times.add_column(column, justify="right")
        for name in ("half", "full", "beyond"):
            item = latency[name]
            numbers = ("offered_per_s", "p50_ms", "p99_ms", "beyond_model_p50_ms", "beyond_model_p99_ms")
            times.add_row(name, *(f"{item[key]:.1f}" for key in numbers), f"{item['in_time']:.1%}")
        CONSOLE.print(times)
    verdict = "reached" if result["efficiency"] >= result["bound"] else "MISSED"
    CONSOLE.print(f"efficiency {result['efficiency']:.3f}, bound {result['bound']:.2f}: {verdict}")


if __name__ == "__main__":
    raise SystemExit(main())
