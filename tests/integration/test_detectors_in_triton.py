"""Every detector that learns from good parts is served and explained by Triton like any other model version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.adapters.datasets import write_labelled_folder
from services.adapters.modelfolder import verify_version
from services.adapters.ports import ExplanationRequest
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.adapters.tritonexplain import TritonExplanationClient
from services.core.detectors.detector import DETECTORS, LOCALISING, DetectorSpec
from services.core.errors import ExplanationError
from services.core.manifest import OptionValue
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import draw_part
from services.core.types import triton_explainer_name
from services.local.triton import LocalTriton
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from services.serving.repository import ExplainingPlacement, Placement, write_entry, write_explaining_entry
from services.trainer.detector_version import FitOrder, fit_version

pytestmark = pytest.mark.integration

SIZE = Preprocessing(height_px=64, width_px=64)
LOAD_TIMEOUT_S = 120.0
#: Small, so that seventeen of them are fitted within a test's time.
OPTIONS: dict[str, dict[str, OptionValue]] = {
    "patch-knn": {"bank_limit": 256},
    "utrad": {"epochs": 2},
    "cblof": {"n_clusters": 10},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fabric"
    write_labelled_folder([draw_part("fabric", seed, defect=None) for seed in range(48)], folder)
    return folder


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    triton = LocalTriton(tmp_path_factory.mktemp("triton") / "models")
    triton.start()
    yield triton
    triton.kill()


def parts() -> np.ndarray:
    good = [draw_part("fabric", 900 + seed, defect=None).image for seed in range(3)]
    return np.concatenate([prepare(image, SIZE) for image in [*good, np.full((64, 64, 3), 255, np.uint8)]])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("detector", DETECTORS)
def test_triton_says_what_the_detector_says(detector: str, data: Path, triton: LocalTriton, tmp_path: Path) -> None:
    folder, cache = tmp_path / "version", tmp_path / "derived"
    spec = DetectorSpec(detector, "pca12", options=OPTIONS.get(detector, {}))
    fit_version(data, FitOrder(spec, alias=detector, preprocessing=SIZE, false_reject_target=0.05), folder)
    manifest, name = verify_version(folder), f"{detector}-v1"
    write_entry(triton.repository, manifest, folder, Placement(), cache)
    control, client = TritonControl(triton.grpc_url), TritonInferenceClient([triton.grpc_url])
    try:
        control.load(name, LOAD_TIMEOUT_S)
        told = client.infer(name, parts(), 60).result(60)
        expected = build_engine("auto", EngineRequest(folder))(parts())
        np.testing.assert_allclose(told.score.ravel(), expected.scores, atol=1e-3)
        np.testing.assert_allclose(told.embedding, expected.embeddings, rtol=1e-2, atol=1e-2)
    finally:
        control.unload(name, 60)
        client.close()
        control.close()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("detector", [*sorted(LOCALISING), "hbos"])
def test_the_explaining_model_shows_the_map_of_a_detector_that_has_one(
    detector: str, data: Path, triton: LocalTriton, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "version", tmp_path / "derived"
    spec = DetectorSpec(detector, "pca12", options=OPTIONS.get(detector, {}))
    fit_version(data, FitOrder(spec, alias=detector, preprocessing=SIZE, false_reject_target=0.05), folder)
    manifest, name = verify_version(folder), triton_explainer_name(detector, 1)
    write_explaining_entry(triton.repository, manifest, folder, Placement(), ExplainingPlacement(nice=0), cache)
    control, explaining = TritonControl(triton.grpc_url), TritonExplanationClient([triton.grpc_url])
    own = ExplanationRequest("anomaly-map", evidence=False)
    try:
        control.load(name, LOAD_TIMEOUT_S)
        if detector in LOCALISING:
            (step,) = explaining.explain(name, parts()[0], own, 60)
            assert np.isfinite(step.map).all()
        else:
            with pytest.raises(ExplanationError) as raised:
                list(explaining.explain(name, parts()[0], own, 60))
            assert raised.value.reason == "no_own_map"
        (masked,) = explaining.explain(name, parts()[0], ExplanationRequest("rise", max_passes=16, evidence=False), 60)
        assert masked.passes == 16
    finally:
        control.unload(name, 60)
        explaining.close()
        control.close()
