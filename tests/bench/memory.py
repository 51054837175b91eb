"""What ingest, detector and dashboard hold in memory over many frames: ``python -m tests.bench.memory [--quick]``.

JPEGs of 320 px go inline through a real broker and a real Triton, whose model is a small one: how large a network is
does not matter to the processes that are measured. Each must stay within its bound and must not grow once it is warm.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
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
#: Growth between a quarter of the frames and the last that is still called flat.
FLAT_MB = 12.0
SIDE_PX = 224
CONSOLE = Console()


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write ``build/bench/memory.json``; 0 when every process keeps its bound and stays flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer frames")
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=300.0, help="frames/s offered")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    frames = 800 if options.quick else options.frames
    with tempfile.TemporaryDirectory(prefix="sightline-memory-") as folder:
        result = run(Path(folder), frames, options.rate, must_be_flat=not options.quick)
    result["quick"] = options.quick
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0 if result["kept"] else 1


def run(folder: Path, frames: int, rate: float, *, must_be_flat: bool) -> dict[str, Any]:
    """Send ``frames`` through a line and watch its processes; a short run is still warming up and cannot be flat."""
    images = folder / "images"
    images.mkdir()
    for number, image in enumerate(draw_images(64)):
        (images / f"{number:03d}.jpg").write_bytes(image)
    servers = _Servers(folder)
    members: dict[str, Member] = {}
    try:
        servers.start()
        members = _members(servers, folder, images, frames, rate)
        for name in ("detector", "dashboard", "ingest"):
            members[name].start()
        samples = _watch(members, frames, timeout_s=120 + frames / rate * 10)
    finally:
        for member in members.values():
            member.stop()
        servers.stop()
    return _summary(samples, frames, must_be_flat=must_be_flat)


class _Servers(Servers):
    """With a model of the size that frames usually have."""

    def write_model(self) -> None:
        write_toy_model(self.folder / "repository", MODEL, size=SIDE_PX)
        manifest = tiny_manifest(preprocessing=Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX))
        store_version(self.connection, manifest, self.folder / "version")


def _members(servers: Servers, folder: Path, images: Path, frames: int, rate: float) -> dict[str, Member]:
    config = folder / "cameras.yaml"
    source = {"kind": "replay", "path": str(images), "loop": True, "rate_fps": rate / 2, "max_frames": frames // 2}
    camera = {"line_id": "line", "product": "disc", "source": source}
    cameras = [{"camera_id": f"camera-{number}", **camera} for number in range(2)]
    config.write_text(json.dumps({"cameras": cameras}))
    common = servers.settings() | {"LOG_LEVEL": "WARNING"}
    own = {
        "ingest": {"CONFIG": str(config), "SPOOL__DIRECTORY": str(folder / "spool")},
        "detector": {},
        "dashboard": {"WEB__PORT": str(free_port()), "WEB__HOST": "127.0.0.1"},
    }
    logs = folder / "logs"
    grpc = {"GRPC__PORT": "0"}
    return {
        name: Member(name, common | settings | ({} if name == "dashboard" else grpc), logs=logs)
        for name, settings in own.items()
    }


def _watch(members: dict[str, Member], frames: int, timeout_s: float) -> list[dict[str, float]]:
    samples: list[dict[str, float]] = []
    end_s = time.monotonic() + timeout_s
    processes = {name: psutil.Process(member.process.pid) for name, member in members.items()}
    while True:
        done = metric_total(members["detector"].metrics(), "sightline_detector_verdicts_total")
        rss = {name: process.memory_info().rss / 1e6 for name, process in processes.items()}
        samples.append({"frames": done, "at_s": time.monotonic(), **rss})
        if done >= frames:
            return samples
        if time.monotonic() > end_s:
            raise TimeoutError(f"{frames} verdicts must come within {timeout_s:.0f} s, got {done:.0f}")
        time.sleep(0.5)


def _summary(samples: list[dict[str, float]], frames: int, *, must_be_flat: bool) -> dict[str, Any]:
    flowing = [sample for sample in samples if sample["frames"] > 0]
    span_s = flowing[-1]["at_s"] - flowing[0]["at_s"]
    result: dict[str, Any] = {
        "schema": 1,
        "frames": frames,
        "frames_per_s": frames / span_s if span_s else 0.0,
        "bound_mb": BOUND_MB,
        "flat_mb": FLAT_MB,
        "processes": {},
    }
    kept = True
    for name in ("ingest", "detector", "dashboard"):
        at = {share: _median_near(samples, frames, share, name) for share in (0.25, 0.5, 0.75, 1.0)}
        peak = max(sample[name] for sample in samples)
        growth = at[1.0] - at[0.25]
        result["processes"][name] = {
            "rss_mb": {str(share): round(value, 1) for share, value in at.items()},
            "peak_mb": round(peak, 1),
            "growth_mb": round(growth, 1),
        }
        kept = kept and peak <= BOUND_MB and (growth <= FLAT_MB or not must_be_flat)
    result["kept"] = kept
    return result


def _median_near(samples: list[dict[str, float]], frames: int, share: float, name: str) -> float:
    near = sorted(samples, key=lambda sample: abs(sample["frames"] - share * frames))[:5]
    return sorted(sample[name] for sample in near)[len(near) // 2]


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title=f"RSS over {result['frames']} frames, {result['frames_per_s']:.0f}/s, MB")
    for column in ("process", "at a quarter", "half", "three quarters", "the end", "peak", "growth"):
        table.add_column(column, justify="right")
    for name, item in result["processes"].items():
        table.add_row(
            name, *(str(value) for value in item["rss_mb"].values()), str(item["peak_mb"]), str(item["growth_mb"])
        )
    CONSOLE.print(table)
    CONSOLE.print(
        f"bound {result['bound_mb']:.0f} MB each, growth at most {result['flat_mb']:.0f} MB: "
        f"{'kept' if result['kept'] else 'BROKEN'}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
