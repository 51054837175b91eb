"""Each image holds what its service imports, and no more than it should."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.tools import REPOSITORY_ROOT

FOLDER = REPOSITORY_ROOT / "deploy" / "requirements"
SERVICES = ("ingest", "detector", "outcome", "explainer", "feedback", "trainer", "serving", "dashboard")

#: Run inside Triton, whose image holds what a model needs (deploy/triton/Dockerfile).
IN_TRITON = {"services.serving.onnx_export"}

#: Imports a module where only some distributions can be imported, as in an image.
IMPORT_WITHIN = """
import importlib, importlib.abc, importlib.metadata, json, sys
from packaging.utils import canonicalize_name

modules, allowed = json.loads(sys.argv[1]), set(json.loads(sys.argv[2]))
owners = importlib.metadata.packages_distributions()

class Image(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        owned = {canonicalize_name(one) for one in owners.get(top, ())} - {"sightline"}
        if path is None and owned and not owned & allowed:
            raise ModuleNotFoundError(f"{name} is not in the image ({', '.join(sorted(owned))})", name=name)
        return None

for name in [name for name in sys.modules if name.partition(".")[0] in ("packaging", "yaml")]:
    del sys.modules[name]
sys.meta_path.insert(0, Image())
for module in modules:
    importlib.import_module(module)
print(json.dumps(sorted(name for name in ("torch", "torchvision", "onnxruntime") if name in sys.modules)))
"""


def packages_of(service: str) -> set[str]:
    lines = (FOLDER / f"{service}.txt").read_text().splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line}


def import_within(modules: list[str], allowed: set[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", IMPORT_WITHIN, json.dumps(modules), json.dumps(sorted(allowed))],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def modules_of(service: str) -> Iterator[str]:
    yield f"services.{service}.__main__"
    for path in sorted((REPOSITORY_ROOT / "services" / service).glob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            yield f"services.{service}.{path.stem}"


def test_the_lists_of_packages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "deploy/service_requirements.py", "--check"],
        cwd=REPOSITORY_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_imports_what_its_image_holds(service: str) -> None:
    modules = [name for name in modules_of(service) if name not in IN_TRITON]
    done = import_within([*modules, "services.runtime.probe"], packages_of(service))
    assert done.returncode == 0, done.stderr
    if service != "trainer":
        assert json.loads(done.stdout) == []


def test_the_command_line_works_in_the_image_that_hooks_run_in() -> None:
    modules = [
        "services.cli",
        "services.local.linefile",
        "services.adapters.kafka_topics",
        "services.adapters.accounts",
    ]
    done = import_within(modules, packages_of("dashboard"))
    assert done.returncode == 0, done.stderr


def test_a_package_that_an_image_lacks_is_found() -> None:
    done = import_within(["services.dashboard.__main__"], packages_of("dashboard") - {"fastapi"})
    assert done.returncode != 0
    assert "fastapi is not in the image" in done.stderr


def test_only_the_trainer_holds_a_network() -> None:
    holders = {service for service in SERVICES if packages_of(service) & {"torch", "torchvision", "openvino"}}
    assert holders == {"trainer"}


def test_an_image_takes_locked_versions_only() -> None:
    locked = set(Path(REPOSITORY_ROOT / "requirements.lock").read_text().splitlines())
    for service in SERVICES:
        for line in (FOLDER / f"{service}.txt").read_text().splitlines()[1:]:
            assert line in locked, service
