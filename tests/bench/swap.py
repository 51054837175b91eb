"""What a swap of versions costs the line: ``python -m tests.bench.swap [--quick] [--swaps N] [--tritons N]``.

A real broker, object store, Tritons with an agent each and a detector. Frames of 224 px go in at half of what the
line can do, measured first. Every swap is a new version: uploaded, added, promoted, loaded and warmed on each Triton
while the old one answers, then flipped to; the one before the old one is unloaded. Each frame must have one verdict, by
one version, in every case. What is compared is the time from capture to verdict (99th percentile): of frames captured
between a promotion and the moment at which the version before last is gone, against frames of a stretch without swaps
before each: the stand-in broker answers slower the more it holds.

Memory is taken after each swap, when the old version is gone: of the detector, of the agents, and of the Tritons with
all that they have started. Growth is told between the medians of the first and the last quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from services.adapters import codec
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter
from services.core import topics
from services.core.types import Frame, Inspection
from tests.bench.detector_line import draw_images
from tests.support.detector_line import make_frame
from tests.support.detector_process import DetectorProcess, Output
from tests.support.plant import Plant, wait_until

OUT: Final = Path("build/bench/swap.json")
SIDE_PX: Final = 224
CAMERAS: Final = 4
#: Slowest a frame may be during swaps against the steady line.
AIM: Final = 1.2
CONSOLE: Final = Console()
_LONG_S: Final = 300.0
_ASK_S: Final = 0.25
_SETTLE_S: Final = 4.0
#: Numbers of frames that are no part of the measurement.
_BEYOND: Final = 10_000_000


class Feed:
    """Publishes frames at a steady rate until it is told to stop."""

    def __init__(self, kafka: KafkaConnection, images: list[bytes], rate_fps: float) -> None:
        self.frames: list[Frame] = []
        self._kafka = kafka
        self._images = images
        self._rate_fps = rate_fps
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> Feed:
        """Begin."""
        self._thread.start()
        return self

    def stop(self) -> list[Frame]:
        """End; everything that was published is acknowledged then."""
        self._stop.set()
        self._thread.join(60)
        return self.frames

    def _run(self) -> None:
        writer = KafkaRecordWriter(self._kafka)
        began_s = time.monotonic()
        while not self._stop.wait(max(0.0, began_s + len(self.frames) / self._rate_fps - time.monotonic())):
            self.frames.append(send(writer, len(self.frames), self._images))
        writer.close(30)


def send(writer: KafkaRecordWriter, number: int, images: list[bytes]) -> Frame:
    """Publish one frame, captured now."""
    image, camera = images[number % len(images)], f"camera-{number % CAMERAS}"
    frame = make_frame(number, image, camera=camera, captured_at_ns=time.time_ns())
    writer.send(topics.FRAMES, key=frame.camera_id.encode(), value=codec.encode_frame(frame))
    return frame


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write the result; 0 when no frame was lost, failed or answered twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two swaps, a short steady stretch")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--tritons", type=int, default=2, choices=(1, 2), help="how many share this machine")
    parser.add_argument("--steady-s", type=float, default=6.0, help="length of the stretch before each swap")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    swaps, steady_s = (2, 4.0) if options.quick else (options.swaps, options.steady_s)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sightline-swap-") as folder:
        result = run(Path(folder), swaps, steady_s, options.tritons)
    result |= {"quick": options.quick, "load_average": [load_before, os.getloadavg()[0]]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0 if result["lost"] == result["failed"] == result["doubled"] == 0 else 1


def run(folder: Path, swaps: int, steady_s: float, tritons: int) -> dict[str, Any]:
    """Swap so often under half of the line's load, and account for every frame."""
    images = draw_images(24, size_px=SIDE_PX)
    with _line(folder, tritons) as (plant, detector, output):
        # Made beforehand: drawing a network takes a core for seconds.
        versions = [plant.upload() for _ in range(swaps)]
        capacity_fps = _capacity(plant.kafka, images, output)
        feed = Feed(plant.kafka, images, capacity_fps / 2).start()
        steady, swapping, memory = [], [], []
        try:
            for version in versions:
                steady.append(_stretch(steady_s))
                swapping.append(_swap(plant, detector, version))
                memory.append(_memory_mb(plant, detector))
        finally:
            frames = feed.stop()
        times = output.wait_for_frames(frames, _LONG_S)
        said = {item.frame_id: item for item in output.verdicts()}
        ours = {frame.frame_id for frame in frames}
        answers = Counter(dict.fromkeys(ours, 0))
        for (frame_id, _, _), count in times.items():
            if frame_id in ours:
                answers[frame_id] += count
        figures = _figures(
            [said[frame_id] for frame_id in ours if frame_id in said],
            {"steady": steady, "swapping": swapping},
        )
    return {
        "schema": 1,
        "swaps": swaps,
        "tritons": tritons,
        "capacity_fps": capacity_fps,
        "rate_fps": capacity_fps / 2,
        "frames": len(frames),
        "lost": sum(count == 0 for count in answers.values()),
        "doubled": sum(count > 1 for count in answers.values()),
        "failed": sum(said[frame_id].model_version == 0 for frame_id in ours if frame_id in said),
        "versions": len({said[frame_id].model_version for frame_id in ours if frame_id in said}),
        "aim_ratio": AIM,
        **figures,
        "memory_mb": {name: _growth([one[name] for one in memory]) for name in memory[0]},
    }


@contextmanager
def _line(folder: Path, tritons: int) -> Iterator[tuple[Plant, DetectorProcess, Output]]:
    plant = Plant(folder, side_px=SIDE_PX, tritons=tritons, engine="auto")
    detector = None
    try:
        plant.start()
        plant.promote(first := plant.upload())
        plant.wait_until_warm(first)
        detector = DetectorProcess(plant)
        detector.start(ready=False)
        wait_until(detector.ready, _LONG_S, "readiness of the detector")
        output = Output(plant.kafka)
        try:
            yield plant, detector, output
        finally:
            output.close()
    finally:
        if detector is not None:
            detector.kill()
        plant.stop()


def _capacity(kafka: KafkaConnection, images: list[bytes], output: Output, count: int = 400) -> float:
    """Frames a second, of a topic that is full."""
    writer = KafkaRecordWriter(kafka)
    frames = [send(writer, _BEYOND + number, images) for number in range(count)]
    writer.close(60)
    output.wait_for_frames(frames, _LONG_S)
    ours = {frame.frame_id for frame in frames}
    decided = sorted(item.decided_at_ns for item in output.verdicts() if item.frame_id in ours)
    # Without the first ones: the line must get going.
    kept = decided[len(decided) // 5 :]
    return (len(kept) - 1) / ((kept[-1] - kept[0]) / 1e9)


def _stretch(seconds: float) -> tuple[int, int]:
    # What has gone before must have ended: a full topic, or the loading of the model that explains the new version.
    time.sleep(_SETTLE_S)
    began_ns = time.time_ns()
    time.sleep(seconds)
    return began_ns, time.time_ns()


def _swap(plant: Plant, detector: DetectorProcess, version: int) -> tuple[int, int]:
    """One swap, from its promotion to the end of the version before last."""
    began_ns = time.time_ns()
    plant.promote(version)
    _rarely_until(
        lambda: detector.metric("sightline_detector_live_version") == version, f"the swap to version {version}"
    )
    if version > 2:
        for number in range(len(plant.agents)):
            _rarely_until(
                lambda n=number: plant.state("default", version - 2, n) == 0,  # type: ignore[misc]
                f"version {version - 2} gone at agent {number}",
            )
    return began_ns, time.time_ns()


def _rarely_until(condition: Callable[[], bool], what: str) -> None:
    """Wait, and ask so rarely that the asking is no load."""
    end_s = time.monotonic() + _LONG_S
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what} must come within {_LONG_S:.0f} s, it did not")
        time.sleep(_ASK_S)


def _memory_mb(plant: Plant, detector: DetectorProcess) -> dict[str, float]:
    agents = [agent.process.pid for agent in plant.agents]
    tritons = [triton.pid for triton in plant.tritons]
    pids = {"detector": [detector.process.pid], "agents": agents, "tritons": tritons}
    return {name: sum(_tree_mb(pid) for pid in found) for name, found in pids.items()}


def _tree_mb(pid: int | None) -> float:
    if pid is None:
        return 0.0
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue
    return total


def _growth(values: list[float]) -> dict[str, float]:
    quarter = max(1, len(values) // 4)
    first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
    return {"first": first, "last": last, "growth": last - first, "highest": max(values)}


def _figures(verdicts: list[Inspection], stretches: dict[str, list[tuple[int, int]]]) -> dict[str, Any]:
    rows = {}
    for name, spans in stretches.items():
        found = [
            (item.decided_at_ns - item.captured_at_ns) / 1e6
            for item in verdicts
            if any(began <= item.captured_at_ns < ended for began, ended in spans)
        ]
        rows[name] = {
            "frames": len(found),
            "p50_ms": float(np.quantile(found, 0.5)),
            "p99_ms": float(np.quantile(found, 0.99)),
            "slowest_ms": max(found),
        }
    seconds = [(ended - began) / 1e9 for began, ended in stretches["swapping"]]
    return {
        "rows": rows,
        "p99_ratio": rows["swapping"]["p99_ms"] / rows["steady"]["p99_ms"],
        "swap_s": {"median": statistics.median(seconds), "longest": max(seconds)},
    }


def show(result: dict[str, Any]) -> None:
    """Print it."""
    table = Table("", "frames", "p50 ms", "p99 ms", "slowest ms", box=None, title="capture to verdict")
    for name, row in result["rows"].items():
        table.add_row(name, str(row["frames"]), *(f"{row[key]:.1f}" for key in ("p50_ms", "p99_ms", "slowest_ms")))
    CONSOLE.print(table)
    CONSOLE.print(
        f"{result['swaps']} swaps at {result['rate_fps']:.0f} frames/s (half of {result['capacity_fps']:.0f}): "
        f"{result['lost']} lost, {result['failed']} failed, {result['doubled']} answered twice; "
        f"p99 {result['p99_ratio']:.2f} x steady (aim {AIM}), a swap takes {result['swap_s']['median']:.1f} s"
    )
    memory = Table("memory MB", "first", "last", "growth", "highest", box=None)
    for name, row in result["memory_mb"].items():
        memory.add_row(name, *(f"{row[key]:.0f}" for key in ("first", "last", "growth", "highest")))
    CONSOLE.print(memory)


if __name__ == "__main__":
    raise SystemExit(main())
