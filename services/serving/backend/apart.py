"""Work that takes long or may crash, done in a process of its own; its result is kept on the local disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from services.adapters.modelfolder import CHECKSUMS
from services.serving.backend.gently import step_back

_DIGEST: Final = "sha256"
#: The line of a traceback that names the error; what comes before the error's own name is of no use to people.
_ERROR: Final = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception)\b)")


def run_apart(module: str, arguments: Sequence[str], timeout_s: float) -> str:
    """Run one of our modules in a process of its own, which steps back for those that serve.

    Args:
        module: Its name, as ``python -m`` takes it.
        arguments: Of the command line.
        timeout_s: After that it is killed.

    Returns:
        Why it failed; empty where it did not.
    """
    # Inside Triton the interpreter is embedded and has no path of its own; the models' one is the first on PATH.
    python = sys.executable or shutil.which("python3") or "python3"
    with subprocess.Popen(  # noqa: S603 - our own module
        [python, "-m", module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        with contextlib.suppress(ProcessLookupError):
            step_back(child.pid)
        try:
            _, told = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            return f"not done after {timeout_s:.0f} s"
    if child.returncode < 0:
        return f"killed by signal {-child.returncode}"
    if not child.returncode:
        return ""
    lines = told.strip().splitlines() or ["no message"]
    # Some errors say more after the line that tells what they are; others are followed by advice.
    errors = [line for line in lines if _ERROR.match(line)]
    return _ERROR.sub(r"\1", (errors or lines)[-1])


def version_digest(folder: Path) -> str:
    """What tells a version from every other: the digest of its list of checksums, weights included."""
    return hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()


def derived(cache: Path, name: str, files: Sequence[str], make: Callable[[Path], None]) -> Path:
    """Make a folder of derived files, or find it whole from before; the time of last use is kept on it.

    Args:
        cache: Where such folders are kept.
        name: Of the folder: everything that the content depends on, the version by its digest, by which the agent knows
            what is in use.
        files: What ``make`` writes; checked against their digest whenever they are used.
        make: Writes the files into the folder that it is given.

    Returns:
        The folder.
    """
    kept = cache / name
    if not _is_intact(kept, files):
        with _made_once(cache, name):
            if not _is_intact(kept, files):
                _make(kept, files, make)
    os.utime(kept)
    return kept


@contextlib.contextmanager
def _made_once(cache: Path, name: str) -> Iterator[None]:
    """Every instance of a version comes up at once: one makes, the others wait for it instead of making it too."""
    # A folder, named after the version: it goes with what is derived from it.
    folder = cache / f"making-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(kept: Path, files: Sequence[str], make: Callable[[Path], None]) -> None:
    staging = Path(tempfile.mkdtemp(prefix=f".{kept.name[:16]}-", dir=kept.parent))
    try:
        make(staging)
        (staging / _DIGEST).write_text(_digest(staging, files))
        shutil.rmtree(kept, ignore_errors=True)
        staging.rename(kept)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _is_intact(kept: Path, files: Sequence[str]) -> bool:
    try:
        return (kept / _DIGEST).read_text() == _digest(kept, files)
    except OSError:
        return False


def _digest(folder: Path, files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
