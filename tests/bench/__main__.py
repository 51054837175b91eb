"""Runs every benchmark, one after the other: ``python -m tests.bench``; with ``--gpu`` those that need a GPU.

Each is a module of this package that can be run by itself (``python -m tests.bench.<name>``), prints a table and writes
``build/bench/<name>.json``. One that fails does not stop the others; the exit code tells.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent
CONSOLE = Console(highlight=False)


def runnable(*, gpu: bool) -> list[str]:
    """Names of the benchmarks, in order; those for a GPU have it in their name."""
    found = []
    for path in sorted(HERE.glob("*.py")):
        name = path.stem
        if name.startswith(("_", "test_")) or ("gpu" in name) is not gpu:
            continue
        text = path.read_text()
        if "\ndef main(" in text and 'if __name__ == "__main__":' in text:
            found.append(name)
    # The longest, and the one that measures the whole, comes last.
    return sorted(found, key=lambda name: name == "soak")


def has_gpu() -> bool:
    """Tell whether NVIDIA's driver sees a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU 0" in listed.stdout


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="those that need a GPU")
    parser.add_argument("names", nargs="*", help="only these")
    arguments = parser.parse_args()
    if arguments.gpu and not has_gpu():
        CONSOLE.print("skipped: no GPU")
        return 0
    known = runnable(gpu=arguments.gpu)
    unknown = sorted(set(arguments.names) - set(known))
    if unknown:
        parser.error(f"benchmarks are {', '.join(known)}; got {', '.join(unknown)}")
    failed = []
    for name in arguments.names or known:
        CONSOLE.rule(name)
        if subprocess.run([sys.executable, "-m", f"tests.bench.{name}"], check=False).returncode != 0:
            failed.append(name)
    if failed:
        CONSOLE.print(f"[red]failed:[/red] {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
