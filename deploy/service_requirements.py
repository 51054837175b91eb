"""Which locked packages each service's image holds: writes ``deploy/requirements/<service>.txt``.

From the extras of ``pyproject.toml`` through what is installed, each package with the version of ``requirements.lock``.
Run through ``deploy/service-requirements``; ``--check`` fails where a file is not current.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "deploy" / "requirements"

#: Extras of each image. Every one can write traces; those that open databases can open PostgreSQL.
EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "ingest": ("ingest", "otlp"),
    "detector": ("detector", "otlp"),
    "outcome": ("outcome", "opcua", "otlp"),
    "explainer": ("explainer", "otlp"),
    "feedback": ("feedback", "postgres", "otlp"),
    "trainer": ("trainer", "otlp"),
    "serving": ("serving", "otlp"),
    "dashboard": ("dashboard", "postgres", "otlp"),
    # Not a service: what model versions import inside Triton.
    "triton": ("model", "openvino", "onnx"),
}
#: Left to the recipe, which takes the build for a GPU or the one for a CPU.
LEFT_OUT: Final = {"triton": {"onnxruntime"}}


def locked_versions(lock: str) -> dict[str, str]:
    """The locked lines by name.

    Args:
        lock: Text of ``requirements.lock``.
    """
    lines = (line.strip() for line in lock.splitlines())
    return {canonicalize_name(line.split("==")[0]): line for line in lines if "==" in line and line[0] != "#"}


def packages_of(service: str) -> list[str]:
    """Every package that a service's image installs, by name.

    Args:
        service: One of ``EXTRAS``.

    Raises:
        PackageNotFoundError: If a package is not installed here: the set-up has to be done first.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: Mapping[str, list[str]] = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in EXTRAS[service] for line in extras[extra])]
    found: set[str] = set()
    waiting = [Requirement(line) for line in wanted]
    while waiting:
        asked = waiting.pop()
        if canonicalize_name(asked.name) == "sightline":
            waiting += [Requirement(line) for extra in asked.extras for line in extras[extra]]
            continue
        name = canonicalize_name(asked.name)
        fresh = name not in found
        found.add(name)
        # The same package may be asked for again with further extras.
        if fresh or asked.extras:
            waiting += [
                one for one in _needs(name, asked.extras) if one.extras or canonicalize_name(one.name) not in found
            ]
    return sorted(found)


def _needs(name: str, extras: set[str]) -> Iterator[Requirement]:
    for line in distribution(name).requires or []:
        one = Requirement(line)
        environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
        if one.marker is None or any(one.marker.evaluate(environment) for environment in environments):
            yield one


def requirements_of(service: str, locked: Mapping[str, str]) -> str:
    """The file of one service.

    Args:
        service: One of ``EXTRAS``.
        locked: Locked lines by name; what has none (NVIDIA's libraries of a CUDA build, pip itself) is left to torch.

    Returns:
        A requirements file: installed with ``--no-deps``, torch first.
    """
    left_out = LEFT_OUT.get(service, set())
    lines = [locked[name] for name in packages_of(service) if name in locked and name not in left_out]
    head = f"# Packages of the image of {service}, written by deploy/service-requirements; see docs/images.md.\n"
    return head + "\n".join(lines) + "\n"


def main() -> int:
    """Write or check every file."""
    parser = argparse.ArgumentParser(description="Which locked packages each service's image holds.")
    parser.add_argument("--check", action="store_true", help="fail where a file is not current; write nothing")
    arguments = parser.parse_args()
    locked = locked_versions((ROOT / "requirements.lock").read_text())
    stale = []
    FOLDER.mkdir(exist_ok=True)
    for service in EXTRAS:
        path = FOLDER / f"{service}.txt"
        try:
            wanted = requirements_of(service, locked)
        except PackageNotFoundError as error:
            sys.stderr.write(f"{error}: run make install-checks first\n")
            return 1
        if arguments.check:
            if not path.is_file() or path.read_text() != wanted:
                stale.append(path.relative_to(ROOT))
        else:
            path.write_text(wanted)
    for path in stale:
        sys.stderr.write(f"{path} is not current: run deploy/service-requirements\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
