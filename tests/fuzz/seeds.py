"""Writes what every corpus begins with, and takes over what a longer run found: ``python -m tests.fuzz.seeds``.

With ``NAME FOLDER`` it merges the inputs of a folder into the corpus of a target, as few and as small ones as reach
everything that they reach together.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.fuzz.harness import CORPUS, files_of, write_seeds

TARGETS: Final = (
    "answers",
    "detector_state",
    "events",
    "forms",
    "image",
    "labels",
    "plc",
    "review_mask",
    "settings_file",
    "spool",
    "state_files",
    "texts",
    "tokens",
    "version_folder",
    "weights",
)

#: A corpus is read by every check of every change: the smallest inputs are kept.
MOST_INPUTS: Final = 100
MOST_BYTES: Final = 2_048


def main() -> None:
    """Write all seeds, or merge one folder."""
    if len(sys.argv) == 3:
        _merge(sys.argv[1], Path(sys.argv[2]))
        return
    for name in TARGETS:
        target = importlib.import_module(f"tests.fuzz.{name}")
        write_seeds(name, target.seeds())
        print(f"{name}: {len(files_of(CORPUS / name))} inputs")


def _merge(name: str, found: Path) -> None:
    with tempfile.TemporaryDirectory() as merged:
        # The first folder takes what the others reach.
        command = [sys.executable, "-m", f"tests.fuzz.{name}", "-merge=1", merged, str(CORPUS / name), str(found)]
        subprocess.run(command, check=True, capture_output=True)
        known = {path.name for path in files_of(CORPUS / name)}
        small = sorted(
            (path for path in files_of(Path(merged)) if path.name not in known and path.stat().st_size <= MOST_BYTES),
            key=lambda path: (path.stat().st_size, path.name),
        )
        for path in small[: max(0, MOST_INPUTS - len(known))]:
            (CORPUS / name / path.name).write_bytes(path.read_bytes())
    print(f"{name}: {len(files_of(CORPUS / name))} inputs")


if __name__ == "__main__":
    main()
