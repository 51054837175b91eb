"""Times ``sightline run`` from the command to the first verdict on the page: the first start, and those after it.

    python -m tests.bench.startup --repeats 3

The first start is the baseline: a data folder without anything, and a starter model that must be fitted. Every later
one finds both. The set-up that ``make run`` does before (packages, tools, the web build) is not in these times.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.local.linefile import read_addresses
from services.local.process import free_port
from tests.support.running_line import RunningLine

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "bench" / "startup.json"
CONSOLE = Console()
LONGEST_S = 300.0


def first_part_s(line: RunningLine) -> float:
    """Seconds from the command until the page shows a part with its verdict."""
    line.wait_until_up(LONGEST_S)
    page = read_addresses(line.data)["page"]
    while time.monotonic() - line.began_s < LONGEST_S:
        try:
            with urllib.request.urlopen(f"{page}/api/v1/wall", timeout=10) as answer:
                wall = json.loads(answer.read())
        except (OSError, urllib.error.URLError):
            wall = {"lines": []}
        if any(camera["latest"] for each in wall["lines"] for camera in each["cameras"]):
            return time.monotonic() - line.began_s
        time.sleep(0.05)
    raise TimeoutError(f"a part must be shown within {LONGEST_S:.0f} s, got none:\n{line.output.read_text()}")


def start_and_stop(data: Path, port: int) -> float:
    """One start; returns the seconds to the first verdict."""
    CONSOLE.print(f"  a start, at load {os.getloadavg()[0]:.1f}", highlight=False)
    line = RunningLine(data, port)
    try:
        return first_part_s(line)
    finally:
        line.stop(signal.SIGTERM)


def main() -> None:
    """Start, stop, start again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="starts after the first")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sightline-startup-") as folder:
        # A cache of its own, so that the first start fits the starter model.
        os.environ["SIGHTLINE_CACHE"] = str(Path(folder) / "cache")
        data, port = Path(folder) / "data", free_port()
        first_s = start_and_stop(data, port)
        later_s = [start_and_stop(data, port) for _ in range(arguments.repeats)]
    median_s = statistics.median(later_s)
    table = Table("start", "seconds to the first verdict", "of the first", title_justify="left")
    table.add_row("first, fits the starter model", f"{first_s:.1f}", "1.00")
    told = f"{median_s:.1f} ({min(later_s):.1f} to {max(later_s):.1f})"
    table.add_row(f"later, median of {len(later_s)}", told, f"{median_s / first_s:.2f}")
    CONSOLE.print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"first_s": first_s, "later_s": later_s, "ratio": median_s / first_s}, indent=1))
    CONSOLE.print(f"written to {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
