"""How fast a backup is made, made again, checked and restored: ``python -m tests.bench.backup``.

A bucket of the embedded store is filled with pictures of 30 KB, cases of 42 KB, reviews and model weights of random
bytes, saved into a folder on the same disk, emptied and restored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.adapters.backuparchive import Archive
from services.adapters.connection import StoreConnection
from services.adapters.memory import MemoryBroker, MemoryRecordWriter
from services.adapters.objectstore import S3ObjectStore
from services.backup.content import RECORD, Amounts
from services.backup.restore import Target, check, restore
from services.backup.save import save
from services.local.store import LocalStore

REPORT = Path("build/bench/backup.json")
BUCKET = "bench"
PICTURE_BYTES = 30_000
CASE_BYTES = 42_000
REVIEW_BYTES = 440
#: Objects count as written long ago, so that the second backup need not read them again.
LATER_NS = 120_000_000_000


def fill(store: S3ObjectStore, cases: int, weights_bytes: int) -> None:
    """Write a record; every fifth case has a review."""
    for number in range(cases):
        store.put(f"record/images/{number % 256:02x}/{number}.jpg", os.urandom(PICTURE_BYTES))
        store.put(f"record/cases/20260101/{number}.json", os.urandom(CASE_BYTES))
        if number % 5 == 0:
            store.put(f"record/reviews/20260101/{number}/{number}.json", os.urandom(REVIEW_BYTES))
    for version in range(1, 5):
        store.put(f"models/default/{version}/weights.safetensors", os.urandom(weights_bytes))


def run(folder: Path, cases: int, weights_bytes: int) -> dict[str, Any]:
    """Measure; seconds, bytes and objects of each step."""
    report: dict[str, Any] = {}

    def step(name: str, work: Callable[[], Amounts]) -> Amounts:
        began_s, used_s = time.perf_counter(), time.process_time()
        amounts = work()
        report[name] = {
            "s": time.perf_counter() - began_s,
            "cpu_s": time.process_time() - used_s,
            "objects": amounts.objects,
            "bytes": amounts.object_bytes,
            "moved_objects": amounts.moved_objects,
        }
        return amounts

    (folder / "store").mkdir()
    with LocalStore(folder / "store") as local:
        local.ensure_bucket(BUCKET)
        store = S3ObjectStore(StoreConnection(local.endpoint, BUCKET, local.access_key, local.secret_key))
        fill(store, cases, weights_bytes)
        archive, now_ns = Archive(folder / "backups"), time.time_ns() + LATER_NS

        def make(at_ns: int) -> Amounts:
            return save(archive, store, RECORD, {}, {}, bucket=BUCKET, release="bench", clock_ns=lambda: at_ns)

        name = step("first", lambda: make(now_ns)).name
        step("again", lambda: make(now_ns + LATER_NS))
        step("check", lambda: check(archive, name))
        store.delete([stat.key for stat in store.list("")])
        target = Target(store, BUCKET, {}, MemoryRecordWriter(MemoryBroker()), {})
        step("restore", lambda: restore(archive, name, target))
    report["load_average"] = os.getloadavg()[0]
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2_000)
    parser.add_argument("--weights-bytes", type=int, default=26_000_000)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.cases, options.weights_bytes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    table = Table("", "s", "processor s", "MB/s", "objects/s", title=f"load average {report['load_average']:.1f}")
    for name in ("first", "again", "check", "restore"):
        took = report[name]
        table.add_row(
            name,
            f"{took['s']:.2f}",
            f"{took['cpu_s']:.2f}",
            f"{took['bytes'] / 1e6 / took['s']:.0f}",
            f"{took['objects'] / took['s']:.0f}",
        )
    Console(highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
