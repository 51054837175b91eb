"""Which engine serves a version, why, and what was measured: kept beside what is derived from the version.

A record is read by the next load of the same version, which then need not measure, and by the serving agent, which
tells it to people. A measured choice must follow from its figures: a record that names one engine and tells the figures
of another is no record.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

from services.core.errors import ModelFormatError
from services.core.manifest import load_json, read_strictly
from services.serving.backend.apart import version_digest
from services.serving.backend.engine import EngineRequest

#: Least share of verdicts that must be those of torch in float32.
AGREEMENT: Final = 0.999
_SCHEMA: Final = 1
_PACKAGES: Final = ("torch", "openvino", "onnxruntime", "onnxruntime-gpu", "onnxscript", "tensorrt")
#: What NVIDIA's images say of the libraries that are in no package.
_VARIABLES: Final = ("CUDA_VERSION", "TRT_VERSION", "NVIDIA_TRITON_SERVER_VERSION")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine in one precision, as it was measured.

    Attributes:
        engine: Its name.
        precision: Of its features.
        images_per_s: In batches of the configured size; 0 where it does not run.
        verdicts_equal: Share of verdicts that are those of torch in float32; None where it was not compared.
        score_difference: The largest of a score; None where it was not compared.
        refused: Why it may not serve; empty where it may.
    """

    engine: str
    precision: str
    images_per_s: float = 0.0
    verdicts_equal: float | None = None
    score_difference: float | None = None
    refused: str = ""

    @property
    def admitted(self) -> bool:
        """Whether it may serve: it runs, was compared, and agrees."""
        return not self.refused and self.verdicts_equal is not None and self.verdicts_equal >= AGREEMENT


@dataclass(frozen=True, slots=True)
class Key:
    """What a measurement holds for; where anything of it changes, it is made again.

    Attributes:
        version: Digest of the version's checksums, weights included.
        device: Name of the device; empty where it is not known, and then nothing is kept.
        libraries: Versions by package, the driver's too.
        precision: As it was asked for.
        threads: CPU threads.
        max_batch_size: At which speed was measured.
    """

    version: str
    device: str
    libraries: dict[str, str]
    precision: str
    threads: int
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What serves a version on a device.

    Attributes:
        key: What it holds for.
        asked: The engine's setting.
        engine: What serves.
        precision: Of its features.
        fallback: Why it is not what was asked for; empty where it is.
        frames: How many verdicts were compared; 0 where nothing was measured.
        verdicts: How many of each kind torch in float32 gave.
        candidates: What was measured.
    """

    key: Key
    asked: str
    engine: str
    precision: str
    fallback: str = ""
    frames: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    schema: int = _SCHEMA

    @property
    def told(self) -> str:
        """One line for people."""
        why = f" ({self.fallback})" if self.fallback else ""
        told = ", ".join(
            f"{one.engine} {one.precision} " + (one.refused or f"{one.images_per_s:.1f}/s") for one in self.candidates
        )
        return f"{self.engine} {self.precision}{why}" + (f"; on {self.key.device}: {told}" if told else "")


def fastest(candidates: tuple[Candidate, ...]) -> Candidate | None:
    """The one that serves: the fastest of those that agree; None where none does."""
    return max((one for one in candidates if one.admitted), key=lambda one: one.images_per_s, default=None)


def key_of(request: EngineRequest) -> Key:
    """Describe where and how a version is to run."""
    device, libraries = _device(request.device)
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            libraries[package] = package_version(package)
    libraries |= {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return Key(
        version_digest(request.folder), device, libraries, request.precision, request.threads, request.max_batch_size
    )


def write_choice(cache: Path, choice: Choice, device: str) -> None:
    """Keep a choice; replaces the one from before, whole or not at all."""
    path = _path(cache, choice.key.version, choice.asked, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = dataclasses.asdict(choice)
    text = json.dumps({"sha256": _digest(body), "choice": body}, indent=1, sort_keys=True) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".choice-", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    Path(file.name).rename(path)


def read_choices(cache: Path, folder: Path, asked: str, device: str) -> dict[str, Choice]:
    """Read what serves a version, by device.

    Args:
        cache: Where choices are kept.
        folder: The version's folder.
        asked: The engine's setting.
        device: ``cpu``, ``cuda:N``; ``cuda`` for each of them.

    Returns:
        What is whole; a damaged record is as good as none.
    """
    found = {}
    path = _path(cache, version_digest(folder), asked, device)
    for file in sorted(path.parent.glob(f"{path.stem}*.json")):
        with suppress(ModelFormatError, OSError):
            found[file.stem.removeprefix(f"{asked}-").replace("-", ":")] = _read(file)
    return found


@contextmanager
def only_one(cache: Path) -> Iterator[None]:
    """Measure in one process at a time: two would disturb each other, or measure the same."""
    folder = cache / "measuring"
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path(cache: Path, version: str, asked: str, device: str) -> Path:
    return cache / f"choice-{version}" / f"{asked}-{device.replace(':', '-')}.json"


def _read(path: Path) -> Choice:
    value = load_json(path.read_bytes(), path.name)
    body = value.get("choice") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("sha256") != _digest(body):
        raise ModelFormatError(f"{path.name}: must be the record that was written, got another content")
    choice = read_strictly(Choice, body, path.name)
    winner = fastest(choice.candidates)
    measured = (winner.engine, winner.precision) if winner else None
    if choice.candidates and not choice.fallback and (choice.engine, choice.precision) != measured:
        raise ModelFormatError(f"{path.name}: must choose the fastest that agrees, got {choice.engine}")
    return choice


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _device(device: str) -> tuple[str, dict[str, str]]:
    """Its name, and the version of its driver."""
    if device == "cpu":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        # A virtual machine may hide the processor's name, but not what it can do.
        abilities = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:8]
        return f"{facts.get('model name', 'processor')} ({abilities})", {}
    number = device.partition(":")[2] or "0"
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    named = visible[int(number)] if int(number) < len(visible) else number
    command = ["nvidia-smi", f"--id={named}", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
        name, driver = (part.strip() for part in done.stdout.strip().split(","))
    except (OSError, ValueError, subprocess.SubprocessError):
        return "", {}
    return name, {"driver": driver}
