"""Runs the line of ``sightline run`` for a while and watches what it takes: memory, disk, processor.

    python -m tests.bench.soak --minutes 30

Memory is the sum of each process's proportional share (PSS), shared memory included; disk is the data folder. What
eight hours would take follows from the slopes after the first third, which is left out because caches fill in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from services.local.linefile import read_addresses

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench" / "soak.json"
EIGHT_HOURS_S = 8 * 3600.0
CONSOLE = Console()


@dataclass(frozen=True)
class Sample:
    """What the line took at one moment."""

    at_s: float
    verdicts: int
    memory_mb: dict[str, float]
    disk_mb: float
    cpu_s: float

    @property
    def total_mb(self) -> float:
        """Memory of everything together."""
        return sum(self.memory_mb.values())


def name_of(process: psutil.Process) -> str:
    """What a process of the line is."""
    words = " ".join(process.cmdline())
    service = re.search(r"-m services\.(\w+)", words)
    if service:
        return service.group(1)
    for sign, name in (
        ("explain-", "triton explaining model"),
        ("triton_python_backend_stub", "triton model"),
        ("tritonserver", "triton"),
        ("tansu", "broker"),
        ("weed", "object store"),
        ("sightline", "supervisor"),
    ):
        if sign in words:
            return name
    return process.name()


def disk_mb(folder: Path) -> float:
    """Blocks that a folder takes, in MB."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(path) / name).lstat().st_blocks * 512
            except OSError:
                continue
    return total / 1e6


def verdicts_so_far(address: str) -> int:
    """Verdicts that the detector has had acknowledged."""
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return -1
    found = re.findall(r"^sightline_detector_verdicts_total\{.*\} (\S+)", text, re.MULTILINE)
    return int(sum(float(value) for value in found))


def take(began_s: float, root: psutil.Process, data: Path, detector: str) -> Sample:
    """Look at everything once."""
    memory: dict[str, float] = {}
    cpu_s = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            name = name_of(process)
            memory[name] = memory.get(name, 0.0) + process.memory_full_info().pss / 1e6
            times = process.cpu_times()
            cpu_s += times.user + times.system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return Sample(time.monotonic() - began_s, verdicts_so_far(detector), memory, disk_mb(data), cpu_s)


def slope(samples: list[Sample], values: list[float]) -> float:
    """Growth a second after the first third, by least squares."""
    first = len(samples) // 3
    if len(samples) - first < 2:
        return 0.0
    return float(np.polyfit([sample.at_s for sample in samples[first:]], values[first:], 1)[0])


def show(samples: list[Sample], summary: dict[str, float]) -> None:
    """Print the account."""
    last = samples[-1]
    table = Table("process", "first MB", "last MB", title="memory", title_justify="left")
    for name, value in sorted(last.memory_mb.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{samples[0].memory_mb.get(name, 0):.0f}", f"{value:.0f}")
    table.add_row("together", f"{samples[0].total_mb:.0f}", f"{last.total_mb:.0f}", style="bold")
    CONSOLE.print(table)
    figures = Table("figure", "value", title="line", title_justify="left")
    for name, value in summary.items():
        figures.add_row(name, f"{value:,.2f}")
    CONSOLE.print(figures)


def summarise(samples: list[Sample]) -> dict[str, float]:
    """The figures of a run."""
    first, last = samples[0], samples[-1]
    seconds = last.at_s - first.at_s
    memory_slope = slope(samples, [sample.total_mb for sample in samples])
    disk_slope = slope(samples, [sample.disk_mb for sample in samples])
    left_s = EIGHT_HOURS_S - last.at_s
    return {
        "minutes": last.at_s / 60,
        "verdicts": last.verdicts,
        "verdicts_per_s": (last.verdicts - first.verdicts) / seconds if seconds else 0.0,
        "processors_used": (last.cpu_s - first.cpu_s) / seconds if seconds else 0.0,
        "memory_mb_last": last.total_mb,
        "memory_mb_most": max(sample.total_mb for sample in samples),
        "memory_mb_per_hour": memory_slope * 3600,
        # What was given back in a short run would not go on being given back.
        "memory_mb_after_8_hours": last.total_mb + max(memory_slope, 0.0) * left_s,
        "disk_mb_last": last.disk_mb,
        "disk_mb_per_hour": disk_slope * 3600,
        "disk_mb_after_8_hours_without_expiry": last.disk_mb + disk_slope * left_s,
    }


def watch(process: subprocess.Popen[bytes], data: Path, minutes: float, every_s: float) -> list[Sample]:
    """Sample until the time is over."""
    deadline_s = time.monotonic() + 300
    while "detector" not in read_addresses(data):
        if process.poll() is not None or time.monotonic() > deadline_s:
            sys.exit(f"the line did not come up; see {data / 'logs'}")
        time.sleep(0.5)
    detector = read_addresses(data)["detector"]
    root, began_s, samples = psutil.Process(process.pid), time.monotonic(), []
    while process.poll() is None and time.monotonic() - began_s <= minutes * 60:
        samples.append(take(began_s, root, data, detector))
        sample = samples[-1]
        CONSOLE.print(
            f"  {sample.at_s / 60:5.1f} min  {sample.verdicts:7d} verdicts  {sample.total_mb:6.0f} MB memory  "
            f"{sample.disk_mb:6.0f} MB disk",
            highlight=False,
        )
        time.sleep(max(0.0, began_s + len(samples) * every_s - time.monotonic()))
    return samples


def main() -> None:
    """Run the line, watch it, stop it, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two samples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-soak-") as folder:
        data = Path(folder) / "data"
        command = [str(Path(sys.executable).with_name("sightline")), "run", "--data", str(data), "--port", "18080"]
        process = subprocess.Popen(command)
        try:
            samples = watch(process, data, arguments.minutes, arguments.every)
        finally:
            process.send_signal(signal.SIGTERM)
            returncode = process.wait(120)
    summary = {**summarise(samples), "exit_code": float(returncode)}
    show(samples, summary)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"summary": summary, "samples": [asdict(sample) for sample in samples]}, indent=1))
    CONSOLE.print(f"written to {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
