"""A network that was fitted to a detector's verdicts is served and explained by Triton like any other version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.adapters.modelfolder import verify_version
from services.adapters.ports import ExplanationRequest
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.adapters.tritonexplain import TritonExplanationClient
from services.core.detectors.detector import DetectorSpec
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.core.types import triton_explainer_name
from services.local.triton import LocalTriton
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from services.serving.repository import ExplainingPlacement, Placement, write_entry, write_explaining_entry
from services.trainer.detector_version import FitOrder
from services.trainer.two_stage_version import TwoStageOrder, fit_two_stage_version

pytestmark = pytest.mark.integration

SIZE = Preprocessing(height_px=64, width_px=64)
LOAD_TIMEOUT_S = 120.0


def picture(number: int, *, bad: bool) -> np.ndarray:
    image = np.random.default_rng(number).normal(100, 6, (64, 64, 3))
    if bad:
        image[16:40, 16:40] += 100
    return image.clip(0, 255).astype(np.uint8)


def write(folder: Path, numbers: range, *, bad: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:03d}.png").write_bytes(encode_png(picture(number, bad=bad)))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two-stage")
    write(root / "data" / "good", range(48))
    write(root / "data" / "defect", range(0))
    write(root / "pool", range(100, 124))
    write(root / "pool", range(124, 136), bad=True)
    first = FitOrder(
        DetectorSpec("knn", "embedding-pca8"), alias="two-stage", preprocessing=SIZE, false_reject_target=0.05
    )
    fit_two_stage_version(root / "data", root / "pool", TwoStageOrder(first, epochs=2), root / "version")
    return root / "version"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    triton = LocalTriton(tmp_path_factory.mktemp("triton") / "models")
    triton.start()
    yield triton
    triton.kill()


@pytest.mark.timeout(180)
def test_triton_answers_as_the_version_does_and_shows_where(version: Path, triton: LocalTriton, tmp_path: Path) -> None:
    manifest = verify_version(version)
    name, explainer = manifest.triton_model_name, triton_explainer_name("two-stage", 1)
    parts = np.stack([picture(900 + number, bad=number == 3) for number in range(4)])
    write_entry(triton.repository, manifest, version, Placement(), tmp_path)
    write_explaining_entry(triton.repository, manifest, version, Placement(), ExplainingPlacement(nice=0), tmp_path)
    control = TritonControl(triton.grpc_url)
    client, explaining = TritonInferenceClient([triton.grpc_url]), TritonExplanationClient([triton.grpc_url])
    try:
        control.load(name, LOAD_TIMEOUT_S)
        told = client.infer(name, parts, 60).result(60)
        expected = build_engine("torch", EngineRequest(version))(parts)
        np.testing.assert_allclose(told.score.ravel(), expected.scores, atol=2e-3)
        assert told.score.ravel()[3] > told.score.ravel()[:3].max()

        control.load(explainer, LOAD_TIMEOUT_S)
        request = ExplanationRequest("gradcam", evidence=False)
        (step,) = explaining.explain(explainer, parts[3], request, 60)
        assert step.passes == 1
        assert np.isfinite(step.map).all()
        assert float(np.ptp(step.map)) > 0
    finally:
        control.unload(name, 60)
        control.unload(explainer, 60)
        client.close()
        explaining.close()
        control.close()
