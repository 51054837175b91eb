"""What ingest, detector and dashboard hold in memory over many frames: ``python -m tests.bench.memory [--quick]``.

JPEGs of 320 px go inline through a real broker and a real Triton, whose model is a small one: how large a network is
does not matter to the processes that are measured. Two loads, one after the other: the line at work, offered more than
one camera would send, and then a detector of another group that empties the topic as fast as the machine can.

Steady state begins after as many frames as the dashboard keeps and the detector remembers: until then both fill what
their settings allow them. From there on each process must stay within its bound and must not grow. Memory moves by
some MB from sample to sample with what is just in flight, so growth is told between the medians of the first and the
last quarter of the measured frames; the bound is held against the highest value that the kernel ever saw.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.core.preprocessing import Preprocessing
from services.local.member import Member, metric_total
from services.local.process import free_port
from tests.bench.detector_line import draw_images
from tests.support.detector_process import MODEL, Servers, store_version, tiny_manifest
from tests.support.toy_triton import write_toy_model

OUT = Path("build/bench/memory.json")
BOUND_MB = 250.0
#: Growth between the medians of the first and the last quarter that is still called flat.
FLAT_MB = 12.0
SIDE_PX = 224
QUARTERS = 4
CONSOLE = Console()

Sample = dict[str, float]


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write ``build/bench/memory.json``; 0 when every process keeps its bound and stays flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames, no warm-up")
    parser.add_argument("--frames", type=int, default=20_000, help="measured frames of each load")
    parser.add_argument("--warm-up", type=int, default=20_000, help="frames before them")
    parser.add_argument("--rate", type=float, default=300.0, help="frames/s offered")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    frames, warm_up = (800, 0) if options.quick else (options.frames, options.warm_up)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="sightline-memory-") as folder:
        result = run(Path(folder), frames, warm_up, options.rate, must_be_flat=not options.quick)
    result |= {"quick": options.quick, "load_average": [load_before, os.getloadavg()[0]]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0 if result["kept"] else 1


def run(folder: Path, frames: int, warm_up: int, rate: float, *, must_be_flat: bool) -> dict[str, Any]:
    """Send the frames through a line, empty its topic once more, and watch; a short run is still warming up."""
    images = folder / "images"
    images.mkdir()
    for number, image in enumerate(draw_images(64)):
        (images / f"{number:03d}.jpg").write_bytes(image)
    servers = _Servers(folder)
    everything = warm_up + frames
    loads = {}
    try:
        servers.start()
        timeout_s = 120 + everything / rate * 10
        for load, members in (
            ("line", _line(servers, folder, images, everything, rate)),
            ("backlog", {"detector": _member("detector", servers, folder, KAFKA__GROUP="backlog")}),
        ):
            loads[load] = _summary(_observe(members, everything, timeout_s), members, frames, warm_up)
    finally:
        servers.stop()
    result: dict[str, Any] = {
        "schema": 2,
        "frames": frames,
        "warm_up_frames": warm_up,
        "bound_mb": BOUND_MB,
        "flat_mb": FLAT_MB,
        "loads": loads,
    }
    processes = [process for load in loads.values() for process in load["processes"].values()]
    result["kept"] = all(
        process["highest_mb"] <= BOUND_MB and (process["growth_mb"] <= FLAT_MB or not must_be_flat)
        for process in processes
    )
    return result


class _Servers(Servers):
    """With a model of the size that frames usually have."""

    def write_model(self) -> None:
        write_toy_model(self.folder / "repository", MODEL, size=SIDE_PX)
        manifest = tiny_manifest(preprocessing=Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX))
        store_version(self.connection, manifest, self.folder / "version")


def _line(servers: Servers, folder: Path, images: Path, frames: int, rate: float) -> dict[str, Member]:
    config = folder / "cameras.yaml"
    source = {"kind": "replay", "path": str(images), "loop": True, "rate_fps": rate / 2, "max_frames": frames // 2}
    camera = {"line_id": "line", "product": "disc", "source": source}
    cameras = [{"camera_id": f"camera-{number}", **camera} for number in range(2)]
    config.write_text(json.dumps({"cameras": cameras}))
    return {
        "detector": _member("detector", servers, folder),
        "dashboard": _member("dashboard", servers, folder, WEB__PORT=str(free_port()), WEB__HOST="127.0.0.1"),
        "ingest": _member(
            "ingest", servers, folder, CONFIG=str(config), SPOOL__DIRECTORY=str(folder / "spool"), GRPC__PORT="0"
        ),
    }


def _member(name: str, servers: Servers, folder: Path, **settings: str) -> Member:
    common = servers.settings() | {"LOG_LEVEL": "WARNING"} | ({"GRPC__PORT": "0"} if name == "detector" else {})
    return Member(name, common | settings, logs=folder / "logs")


def _observe(members: dict[str, Member], frames: int, timeout_s: float) -> list[Sample]:
    try:
        for member in members.values():
            member.start()
        return _watch(members, frames, timeout_s)
    finally:
        for member in members.values():
            member.stop()


def _watch(members: dict[str, Member], frames: int, timeout_s: float) -> list[Sample]:
    samples: list[Sample] = []
    end_s = time.monotonic() + timeout_s
    while True:
        done = metric_total(members["detector"].metrics(), "sightline_detector_verdicts_total")
        sample = {"frames": done, "at_s": time.monotonic()}
        for name, member in members.items():
            sample |= {f"{name} {key}": value for key, value in _memory_mb(member.process.pid).items()}
        samples.append(sample)
        if done >= frames:
            return samples
        if time.monotonic() > end_s:
            raise TimeoutError(f"{frames} verdicts must come within {timeout_s:.0f} s, got {done:.0f}")
        time.sleep(0.25)


def _memory_mb(pid: int) -> dict[str, float]:
    """Resident memory now and at its highest, as the kernel tells."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "kB" in rest}
    return {"rss": kib["VmRSS"] * 1024 / 1e6, "highest": kib["VmHWM"] * 1024 / 1e6}


def _summary(samples: list[Sample], members: dict[str, Member], frames: int, warm_up: int) -> dict[str, Any]:
    flowing = [sample for sample in samples if sample["frames"] > warm_up]
    span_s = flowing[-1]["at_s"] - flowing[0]["at_s"]
    processes = {}
    for name in members:
        quarters = [
            [sample[f"{name} rss"] for sample in flowing if _quarter(sample, frames, warm_up) == number]
            for number in range(QUARTERS)
        ]
        medians = [_rounded(statistics.median(values)) if values else None for values in quarters]
        known = [value for value in medians if value is not None]
        rss = [sample[f"{name} rss"] for sample in flowing]
        processes[name] = {
            "quarters_mb": medians,
            "growth_mb": _rounded(known[-1] - known[0]),
            "lowest_mb": _rounded(min(rss)),
            "highest_mb": _rounded(samples[-1][f"{name} highest"]),
        }
    frames_per_s = (flowing[-1]["frames"] - flowing[0]["frames"]) / span_s if span_s else 0.0
    return {"frames_per_s": frames_per_s, "samples": len(flowing), "processes": processes}


def _quarter(sample: Sample, frames: int, warm_up: int) -> int:
    return min(QUARTERS - 1, int((sample["frames"] - warm_up) / frames * QUARTERS))


def _rounded(value_mb: float) -> float:
    return round(value_mb, 1)


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    for load, found in result["loads"].items():
        title = f"{load}: RSS over {result['frames']} frames after {result['warm_up_frames']}"
        table = Table(title=f"{title}, {found['frames_per_s']:.0f}/s, MB; quarters are medians")
        columns: Sequence[str] = ("process", "1st quarter", "2nd", "3rd", "4th", "growth", "lowest", "highest ever")
        for column in columns:
            table.add_column(column, justify="right")
        for name, item in found["processes"].items():
            numbers = (*item["quarters_mb"], item["growth_mb"], item["lowest_mb"], item["highest_mb"])
            table.add_row(name, *(str(value) for value in numbers))
        CONSOLE.print(table)
    CONSOLE.print(
        f"bound {result['bound_mb']:.0f} MB each, growth at most {result['flat_mb']:.0f} MB: "
        f"{'kept' if result['kept'] else 'BROKEN'}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
