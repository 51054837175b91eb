"""A panel of detectors on the line: Triton says how far its members disagree, and a person gets the part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from services.adapters.datasets import write_labelled_folder
from services.adapters.modelfolder import verify_version
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core.detectors.panel import named_spec
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import defect_classes, draw_part
from services.core.types import CaseKind, Reason, Verdict
from services.detector.job import Deployment
from services.local.triton import LocalTriton
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from services.serving.repository import Placement, write_entry
from services.trainer.detector_version import FitOrder, fit_version
from tests.support.detector_line import Line, make_frame, wait_until

pytestmark = pytest.mark.integration

SIZE = Preprocessing(height_px=64, width_px=64)
LOAD_TIMEOUT_S = 120.0
MEMBERS = ("hbos:pca12", "knn:pca12", "gmm:pca12")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panel")
    write_labelled_folder([draw_part("fabric", seed, defect=None) for seed in range(60)], folder / "data")
    spec = named_spec(MEMBERS, "embedding", "efficientnet-lite0", 0, {})
    fit_version(folder / "data", FitOrder(spec, preprocessing=SIZE, false_reject_target=0.05), folder / "1")
    return folder / "1"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    triton = LocalTriton(tmp_path_factory.mktemp("triton") / "models")
    triton.start()
    yield triton
    triton.kill()


@pytest.mark.timeout(180)
def test_a_part_on_which_the_members_are_split_goes_to_a_person(version: Path, triton: LocalTriton) -> None:
    manifest = verify_version(version)
    write_entry(triton.repository, manifest, version, Placement())
    kinds = defect_classes("fabric")
    pictures = [draw_part("fabric", 900 + seed, defect=kinds[seed % len(kinds)]).image for seed in range(40)]
    told = build_engine("auto", EngineRequest(version))(np.concatenate([prepare(one, SIZE) for one in pictures]))
    assert told.disagreements is not None
    assert {0, 2} == set(np.round(told.disagreements * 3).tolist()), "the members must agree on some and not on others"
    control, client = TritonControl(triton.grpc_url), TritonInferenceClient([triton.grpc_url])
    line = Line()
    try:
        control.load(manifest.triton_model_name, LOAD_TIMEOUT_S)
        line.inference = client  # type: ignore[assignment]
        line.deployments["default", 1] = Deployment.of(manifest)
        line.promote(1)
        line.start()
        line.send(*(make_frame(number, encode_png(picture)) for number, picture in enumerate(pictures)))
        said = {item.part_id: item for item in line.wait_for_verdicts(len(pictures), 60)}
        flagged = sum(item.verdict is not Verdict.PASS for item in said.values())
        wait_until(lambda: len(line.cases) == flagged, "a case of each part that did not pass")
    finally:
        line.stop()
        control.unload(manifest.triton_model_name, 60)
        client.close()
        control.close()

    reasons = [said[f"part-{number}"].reason for number in range(len(pictures))]
    assert Reason.DISAGREEMENT in reasons
    for number, far in enumerate(told.disagreements):
        one = said[f"part-{number}"]
        assert one.disagreement == pytest.approx(float(far))
        assert one.score == pytest.approx(float(told.scores[number]), abs=1e-3)
        if far:
            assert one.verdict is Verdict.REVIEW
            assert one.reason in (Reason.DISAGREEMENT, Reason.UNSURE)
        else:
            assert one.reason is not Reason.DISAGREEMENT
    disputed = next(case for case in line.cases if case.inspection.reason is Reason.DISAGREEMENT)
    assert disputed.kind is CaseKind.REVIEW
    assert disputed.inspection.disagreement == pytest.approx(2 / 3)
