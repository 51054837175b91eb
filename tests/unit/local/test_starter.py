from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from services.adapters.modelfolder import read_holdout, read_reference, read_training, read_weights, verify_version
from services.core.calibration import Promise
from services.core.errors import InvalidInputError
from services.core.imaging import ImageLimits, decode
from services.core.manifest import ModelManifest
from services.core.models.serving import load_serving_module
from services.core.preprocessing import prepare
from services.core.simulation.drawing import drawing_from
from services.core.simulation.line import defect_classes
from services.local.starter import PRODUCTS, PROMISE, fit_starter

# Enough parts to go all the way, not enough to say how good the model is: the real fit takes most of a minute.
SMALL = Promise("escape_rate", 0.3, other_target=0.3, confidence=0.8)
N_PER_CLASS = 50


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelManifest, list[tuple[float, str]]]:
    told: list[tuple[float, str]] = []
    folder = tmp_path_factory.mktemp("starter") / "1"
    manifest = fit_starter(
        folder, ["fabric"], N_PER_CLASS, 3, lambda share, what: told.append((share, what)), promise=SMALL
    )
    return folder, manifest, told


def test_the_starter_is_a_whole_model_version(fitted: tuple[Path, ModelManifest, list[tuple[float, str]]]) -> None:
    folder, manifest, _ = fitted
    assert verify_version(folder) == manifest
    assert manifest.classes == ("good", *sorted(defect_classes("fabric")))
    assert manifest.lineage.n_train + manifest.lineage.n_calibration + manifest.lineage.n_holdout == 2 * N_PER_CLASS
    assert manifest.calibration.rule == "escape_rate"


def test_it_tells_good_from_bad_on_parts_it_never_saw(
    fitted: tuple[Path, ModelManifest, list[tuple[float, str]]],
) -> None:
    _, manifest, _ = fitted
    assert manifest.metrics["auroc"].value > 0.8
    assert manifest.metrics["auroc"].low <= manifest.metrics["auroc"].value <= manifest.metrics["auroc"].high
    assert "escape_rate.fabric" in manifest.metrics


def test_the_served_version_gives_the_reference_parts_the_scores_on_record(
    fitted: tuple[Path, ModelManifest, list[tuple[float, str]]],
) -> None:
    folder, manifest, _ = fitted
    reference = read_reference(folder)
    served = load_serving_module(manifest, read_weights(folder), precision="float32")
    pictures = [decode(reference.images[name], ImageLimits()) for name in reference.files]
    answers = served(torch.from_numpy(np.concatenate([prepare(p, manifest.preprocessing) for p in pictures])))
    assert np.abs(answers.scores.numpy() - reference.scores).max() < 0.01
    similarity = torch.nn.functional.cosine_similarity(
        answers.embeddings, torch.from_numpy(reference.embeddings.astype(np.float32))
    )
    assert similarity.min() > 0.99


def test_reference_parts_are_good_and_from_the_holdout(
    fitted: tuple[Path, ModelManifest, list[tuple[float, str]]],
) -> None:
    folder, manifest, _ = fitted
    holdout = {part.part_id: part for part in read_holdout(folder).parts}
    assert len(holdout) == manifest.lineage.n_holdout
    for name in read_reference(folder).files:
        assert holdout[name.removesuffix(".jpg")].label == "good"


def test_the_base_set_is_what_it_was_fitted_and_calibrated_on(
    fitted: tuple[Path, ModelManifest, list[tuple[float, str]]],
) -> None:
    folder, manifest, _ = fitted
    base, holdout = read_training(folder), read_holdout(folder)
    assert base is not None
    roles = [part.role for part in base.parts]
    assert (roles.count("train"), roles.count("calibration")) == (
        manifest.lineage.n_train,
        manifest.lineage.n_calibration,
    )
    # A part comes out of its source again, byte for byte, and its row is what the network saw.
    part = base.parts[0]
    picture = drawing_from(part.source, part.label).picture()
    assert hashlib.sha256(picture).hexdigest() == part.sha256
    reference = read_reference(folder)
    rows = {held.part_id: row for row, held in enumerate(holdout.parts, len(base.parts))}
    for name, embedding in zip(reference.files, reference.embeddings, strict=True):
        assert (base.embeddings[rows[name.removesuffix(".jpg")]].astype(np.float16) == embedding).all()


def test_progress_goes_from_nothing_to_done_without_a_step_back(
    fitted: tuple[Path, ModelManifest, list[tuple[float, str]]],
) -> None:
    shares = [share for share, _ in fitted[2]]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert len(shares) > 5


def test_the_same_seed_gives_the_same_weights(
    fitted: tuple[Path, ModelManifest, list[tuple[float, str]]], tmp_path: Path
) -> None:
    folder, manifest, _ = fitted
    again = fit_starter(tmp_path / "again", ["fabric"], N_PER_CLASS, 3, promise=SMALL)
    assert again.lineage.data_sha256 == manifest.lineage.data_sha256
    listed = [json.loads((f / "checksums.json").read_bytes())["files"] for f in (folder, tmp_path / "again")]
    assert listed[0]["weights.safetensors"] == listed[1]["weights.safetensors"]
    assert listed[0]["holdout.json"] == listed[1]["holdout.json"]


def test_too_few_parts_for_the_promise_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="takes at least 745 parts of each class over all products, got 744"):
        fit_starter(tmp_path / "v", PRODUCTS, 372, promise=PROMISE)
    assert list(tmp_path.iterdir()) == []
