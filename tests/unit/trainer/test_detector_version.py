"""From a folder of good parts to a model version that is served like any other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.adapters.datasets import read_labelled_folder, write_labelled_folder
from services.adapters.modelfolder import (
    CHECKSUMS,
    listed_files,
    read_detector,
    read_holdout,
    read_reference,
    verify_version,
)
from services.cli import app
from services.core.decision import decide
from services.core.detectors import panel as panels
from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.detector import DetectorSpec
from services.core.detectors.panel import named_spec
from services.core.errors import ConflictError, ExplanationError, InvalidInputError, ModelFormatError
from services.core.imaging import ImageLimits, decode, encode_png
from services.core.manifest import ModelManifest
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import defect_classes, draw_part
from services.core.types import Reason, Verdict
from services.explainer.versions import Version
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from services.serving.backend.explained_version import ExplainedVersion
from services.trainer.detector_version import FitOrder, fit_images, fit_version

SIZE = Preprocessing(height_px=64, width_px=64)
SIZE_96 = Preprocessing(height_px=96, width_px=96)
KNN = DetectorSpec("knn", "pca16")
PATCHES = DetectorSpec("patch-knn", options={"bank_limit": 256})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fabric"
    kinds = defect_classes("fabric")
    good = [draw_part("fabric", seed, defect=None) for seed in range(70)]
    bad = [draw_part("fabric", 1_000 + seed, defect=kinds[seed % len(kinds)]) for seed in range(12)]
    write_labelled_folder([*good, *bad], folder)
    return folder


@pytest.fixture(scope="module", params=[KNN, PATCHES], ids=["knn", "patch-knn"])
def version(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version") / "1"
    fit_version(data, FitOrder(request.param, preprocessing=SIZE, false_reject_target=0.05), folder)
    return folder


def test_a_fit_is_told_from_beginning_to_end_and_writes_a_whole_version(data: Path, tmp_path: Path) -> None:
    told: list[float] = []
    manifest = fit_version(
        data,
        FitOrder(KNN, alias="cloth", version=3, preprocessing=SIZE),
        tmp_path / "v",
        lambda share, _: told.append(share),
    )
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert told == sorted(told)
    assert verify_version(tmp_path / "v") == manifest
    assert (manifest.alias, manifest.version, manifest.detector) == ("cloth", 3, "knn")
    assert manifest.architecture_options["features"] == "pca16"
    assert manifest.classes == ("good", "anomaly")
    assert {"auroc", "escape_rate", "false_reject_rate"} <= set(manifest.metrics)


def test_no_part_is_on_two_sides_and_no_defect_is_fitted_or_calibrated_on(version: Path, data: Path) -> None:
    lineage = verify_version(version).lineage
    held_out = read_holdout(version).parts
    assert lineage.n_train + lineage.n_calibration + sum(part.label == "good" for part in held_out) == 70
    assert sum(part.label != "good" for part in held_out) == 12
    reference = read_reference(version)
    assert len(reference.files) == sum(part.label == "good" for part in held_out)


def test_the_engine_gives_the_scores_that_the_version_was_calibrated_on(version: Path) -> None:
    manifest, reference = verify_version(version), read_reference(version)
    engine = build_engine("auto", EngineRequest(version))
    images = np.concatenate(
        [prepare(decode(reference.images[name], ImageLimits()), manifest.preprocessing) for name in reference.files]
    )
    answer = engine(images)
    np.testing.assert_allclose(answer.scores, reference.scores, atol=1e-4)
    np.testing.assert_allclose(answer.probabilities.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(answer.probabilities[:, 1], answer.scores)
    assert answer.embeddings.shape == (len(images), manifest.embedding_size)
    passed = [decide(float(score), manifest.operating_point).verdict is Verdict.PASS for score in answer.scores]
    assert np.mean(passed) > 0.5


def test_a_detector_that_finds_places_has_a_map_of_its_own_and_none_has_a_network(version: Path) -> None:
    explained = ExplainedVersion("auto", EngineRequest(version))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    own = explained.own_map(image)
    if verify_version(version).detector == "patch-knn":
        assert own is not None
        assert np.isfinite(own).all()
    else:
        assert own is None
    with pytest.raises(ExplanationError) as raised:
        explained.network()
    assert raised.value.reason == "no_conv_layers"


def test_a_line_that_has_no_defect_yet_gets_a_version_with_the_figures_of_good_parts(tmp_path: Path) -> None:
    write_labelled_folder([draw_part("fabric", seed, defect=None) for seed in range(40)], tmp_path / "data")
    manifest = fit_version(tmp_path / "data", FitOrder(KNN, preprocessing=SIZE), tmp_path / "v")
    assert set(manifest.metrics) == {"good_pass_rate", "false_reject_rate"}
    assert manifest.calibration.n_defective == 0


def test_a_scale_that_had_too_few_parts_for_its_promise_says_so(version: Path) -> None:
    assert verify_version(version).calibration.method in {"conformal", "maximum"}


def test_too_few_good_parts_are_refused_with_their_number(tmp_path: Path) -> None:
    write_labelled_folder([draw_part("fabric", seed, defect=None) for seed in range(6)], tmp_path / "data")
    with pytest.raises(InvalidInputError, match=r"at least 32 good parts .*got 6"):
        fit_version(tmp_path / "data", FitOrder(KNN, preprocessing=SIZE), tmp_path / "v")
    assert not (tmp_path / "v").exists()


def test_a_broken_file_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    good = tmp_path / "data" / "good"
    good.mkdir(parents=True)
    (tmp_path / "data" / "defect").mkdir()
    rng = np.random.default_rng(0)
    for number in range(36):
        (good / f"{number:02d}.png").write_bytes(encode_png(rng.integers(0, 255, (64, 64, 3), np.uint8)))
    (good / "07.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"07\.png"):
        fit_version(tmp_path / "data", FitOrder(KNN, preprocessing=SIZE), tmp_path / "v")
    assert not (tmp_path / "v").exists()


@pytest.fixture(scope="module")
def panel(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panel") / "1"
    spec = named_spec(["hbos:pca12", "lof:pca16", "patch-knn"], "raw", KNN.backbone, 0, {"patch-knn.bank_limit": 256})
    fit_version(data, FitOrder(spec, preprocessing=SIZE, false_reject_target=0.05), folder)
    return folder


def test_a_panel_becomes_a_version_whose_manifest_lists_its_members(panel: Path) -> None:
    manifest = verify_version(panel)
    assert manifest.architecture == "detector:panel"
    assert manifest.architecture_options["members"] == "hbos:pca12,lof:pca16,patch-knn"
    assert manifest.architecture_options["patch-knn.bank_limit"] == 256
    assert manifest.lineage.description.startswith("panel of hbos:pca12, lof:pca16, patch-knn on good parts alone")
    good = sum(part.label == "good" for part in read_holdout(panel).parts)
    assert manifest.lineage.n_train + manifest.lineage.n_calibration + good == 70
    version = Version.of(manifest)
    assert version.members == ("hbos", "lof", "patch-knn")
    assert version.finds_places


def test_the_command_fits_a_panel_where_several_detectors_are_named(data: Path, tmp_path: Path) -> None:
    named = ["--detector", "hbos", "--detector", "knn:pca12", "--features", "pca8", "--option", "knn.n_neighbors=3"]
    where = ["--data", str(data), "--out", str(tmp_path / "v"), "--size", "64"]
    done = CliRunner().invoke(app, ["fit", *named, *where])
    assert done.exit_code == 0, done.output
    manifest = verify_version(tmp_path / "v")
    assert manifest.detector == "panel"
    assert manifest.architecture_options["members"] == "hbos:pca8,knn:pca12"
    assert manifest.architecture_options["knn.n_neighbors"] == 3
    done = CliRunner().invoke(
        app, ["fit", "--detector", "lof:pca8", *where[:2], "--out", str(tmp_path / "w"), *where[4:]]
    )
    assert done.exit_code == 0, done.output
    assert verify_version(tmp_path / "w").architecture == "detector:lof"


def test_the_engine_of_a_panel_gives_its_scores_its_disagreement_and_the_map_of_its_member(panel: Path) -> None:
    manifest, reference = verify_version(panel), read_reference(panel)
    images = np.concatenate(
        [prepare(decode(reference.images[name], ImageLimits()), manifest.preprocessing) for name in reference.files]
    )
    answer = build_engine("auto", EngineRequest(panel))(images)
    np.testing.assert_allclose(answer.scores, reference.scores, atol=1e-4)
    assert answer.disagreements is not None
    assert answer.disagreements.dtype == np.float32
    assert set(np.round(answer.disagreements * 3).tolist()) <= {0, 2}
    own = ExplainedVersion("auto", EngineRequest(panel)).own_map(images[0])
    assert own is not None
    assert own.shape == (64, 64)
    assert np.isfinite(own).all()


def test_the_figures_of_a_panel_hold_what_its_disagreement_costs(panel: Path) -> None:
    manifest, holdout = verify_version(panel), read_reference(panel)
    images = np.concatenate(
        [prepare(decode(holdout.images[name], ImageLimits()), manifest.preprocessing) for name in holdout.files]
    )
    answer = build_engine("auto", EngineRequest(panel))(images)
    assert answer.disagreements is not None
    decisions = [
        decide(float(score), manifest.operating_point, float(far))
        for score, far in zip(answer.scores, answer.disagreements, strict=True)
    ]
    reviewed = np.mean([one.verdict is Verdict.REVIEW for one in decisions])
    disagreed = np.mean([one.reason is Reason.DISAGREEMENT for one in decisions])
    assert manifest.metrics["review_rate_good"].value == pytest.approx(reviewed)
    assert manifest.metrics["disagreement_rate_good"].value == pytest.approx(disagreed)
    assert "disagreement_rate_defective" in manifest.metrics


def test_the_calibration_of_a_panel_counts_reviews_by_disagreement(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = FitOrder(named_spec(["hbos", "knn"], "pca12", KNN.backbone, 0, {}), preprocessing=SIZE)
    agreed = fit_version(data, order, tmp_path / "agreed").calibration
    monkeypatch.setattr(panels, "disagreement", lambda votes: np.ones(votes.shape[1]))
    split = fit_version(data, order, tmp_path / "split").calibration
    assert agreed.review_rate_good < 0.5
    assert split.review_rate_good == 1
    assert split.false_reject_rate == 0


def test_a_panel_on_good_parts_alone_tells_what_its_disagreement_costs(tmp_path: Path) -> None:
    write_labelled_folder([draw_part("fabric", seed, defect=None) for seed in range(40)], tmp_path / "data")
    order = FitOrder(named_spec(["hbos", "knn"], "pca8", KNN.backbone, 0, {}), preprocessing=SIZE)
    manifest = fit_version(tmp_path / "data", order, tmp_path / "v")
    assert set(manifest.metrics) == {"good_pass_rate", "false_reject_rate", "disagreement_rate_good"}


def test_a_panel_takes_more_good_parts_than_one_detector(tmp_path: Path) -> None:
    write_labelled_folder([draw_part("fabric", seed, defect=None) for seed in range(36)], tmp_path / "data")
    order = FitOrder(named_spec(["hbos", "knn"], "pca8", KNN.backbone, 0, {}), preprocessing=SIZE)
    with pytest.raises(InvalidInputError, match=r"at least 40 good parts .*are needed, got 36"):
        fit_version(tmp_path / "data", order, tmp_path / "v")


def test_a_manifest_of_a_panel_that_lists_no_members_is_refused_by_the_explainer(panel: Path) -> None:
    manifest = verify_version(panel)
    with pytest.raises(ModelFormatError, match=r"model\.json: a panel must list its members"):
        Version.of(dataclasses.replace(manifest, architecture_options={}))


def test_a_version_is_never_written_over(version: Path, data: Path) -> None:
    with pytest.raises(ConflictError, match="must not exist yet"):
        fit_version(data, FitOrder(KNN, preprocessing=SIZE), version)


def test_tiles_and_contradicting_targets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="got tiles"):
        FitOrder(KNN, preprocessing=Preprocessing(mode="tiles"))
    with pytest.raises(InvalidInputError, match=r"got 0\.2 and 0\.1"):
        FitOrder(KNN, false_reject_target=0.2, review_target=0.1)


def test_a_version_whose_detector_is_another_than_its_manifest_says_is_refused(version: Path) -> None:
    files, shape = read_detector(version), (64, 64, 3)
    with pytest.raises(ModelFormatError, match="must be of lof, got"):
        CalibratedDetector.load("lof", shape, files)
    with pytest.raises(ModelFormatError, match=r"must be kept with scale\.json"):
        CalibratedDetector.load("knn", shape, {name: data for name, data in files.items() if name != "scale.json"})


def test_a_version_has_weights_or_a_detector_and_never_both(version: Path, tmp_path: Path) -> None:
    listed = json.loads((version / CHECKSUMS).read_text())
    listed["files"]["weights.safetensors"] = {"bytes": 1, "sha256": "0" * 64}
    with pytest.raises(ModelFormatError, match="either"):
        listed_files(json.dumps(listed).encode())
    assert ModelManifest.from_json((version / "model.json").read_bytes()).detector


def test_hidden_defects_up_to_a_tenth_cost_little_and_the_version_says_that_they_are_there(tmp_path: Path) -> None:
    kinds = defect_classes("thermal")
    good = [draw_part("thermal", seed, defect=None) for seed in range(120)]
    bad = [draw_part("thermal", 1_000 + seed, defect=kinds[seed % len(kinds)]) for seed in range(40)]
    write_labelled_folder([*good, *bad], tmp_path / "data")
    images = read_labelled_folder(tmp_path / "data")
    known = [one for one in images if one.defect]
    hidden = [dataclasses.replace(one, defect=False, defect_class="") for one in known[:13]]
    order = FitOrder(DetectorSpec("knn", "embedding-pca16"), preprocessing=SIZE_96, false_reject_target=0.05)
    fits = {}
    for name, extra in (("clean", []), ("spoiled", hidden)):
        parts = [one for one in images if not one.defect] + extra + known[13:]
        fits[name] = fit_images(parts, order, tmp_path / name)
    assert fits["spoiled"].metrics["auroc"].value > fits["clean"].metrics["auroc"].value - 0.05
    assert "look like hidden defects" in fits["spoiled"].lineage.description
    assert "look like hidden defects" not in fits["clean"].lineage.description


def test_a_plain_folder_of_pictures_is_a_folder_of_good_parts(data: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for one in read_labelled_folder(data):
        if not one.defect:
            (plain / one.path.name).write_bytes(one.path.read_bytes())
    manifest = fit_version(plain, FitOrder(KNN, preprocessing=SIZE), tmp_path / "v")
    assert set(manifest.metrics) == {"good_pass_rate", "false_reject_rate"}
