"""The chart as helm renders it, once for each of its example values."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "charts" / "sightline"
HELM = ROOT / ".tools" / "kubernetes" / "bin" / "helm"
EXAMPLES = ("minimal", "gpu", "multi-line", "air-gapped")

Manifest = dict[str, Any]
Refusal = Callable[..., str]


def _template(example: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if not HELM.exists():
        pytest.skip("helm is not installed; deploy/install --for-checks brings it")
    values = CHART / "ci" / f"{example}-values.yaml"
    command = [HELM, "template", "sightline", CHART, "--namespace", "plant", "--values", values, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def every() -> dict[str, list[Manifest]]:
    """All manifests by example."""
    rendered = {}
    for example in EXAMPLES:
        done = _template(example)
        assert done.returncode == 0, done.stderr
        rendered[example] = [each for each in yaml.safe_load_all(done.stdout) if each]
    return rendered


@pytest.fixture(params=EXAMPLES)
def manifests(request: pytest.FixtureRequest, every: dict[str, list[Manifest]]) -> list[Manifest]:
    """All manifests of one example after the other."""
    return every[request.param]


@pytest.fixture(scope="session")
def refusal() -> Refusal:
    """What helm says against further values on top of the minimal ones; empty for nothing."""

    def refused(*arguments: str) -> str:
        done = _template("minimal", *arguments)
        return done.stderr if done.returncode else ""

    return refused
