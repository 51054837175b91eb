"""``sightline run`` as a person has it, for the tests and measurements that need a whole line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from services.local.linefile import read_addresses

SIGHTLINE = str(Path(sys.executable).with_name("sightline"))


class RunningLine:
    """One ``sightline run``, its output and the processes it has started."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.began_s = time.monotonic()
        self.output = data.with_name(f"output-{port}.txt")
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [SIGHTLINE, "run", "--data", str(data), "--port", str(port)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}},
            )
        self.family: list[psutil.Process] = []

    def wait_until_up(self, timeout_s: float) -> float:
        """Wait for the summary; returns the seconds it took."""
        end_s = time.monotonic() + timeout_s
        while "page" not in read_addresses(self.data):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < end_s, self.output.read_text()
            time.sleep(0.05)
        taken_s = time.monotonic() - self.began_s
        self.family = psutil.Process(self.process.pid).children(recursive=True)
        return taken_s

    def stop(self, wanted: signal.Signals) -> int:
        """Stop it and make sure that nothing of it is left."""
        self.process.send_signal(wanted)
        code = self.process.wait(90)
        _, alive = psutil.wait_procs(self.family, timeout=10)
        assert alive == []
        return code
