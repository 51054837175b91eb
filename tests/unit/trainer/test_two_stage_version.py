"""From good parts and unlabelled images to a network that is served like any other."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from services.adapters.modelfolder import WEIGHTS, read_holdout, read_reference, verify_version
from services.core.detectors.detector import DetectorSpec
from services.core.errors import ConflictError, InvalidInputError, UnavailableError
from services.core.imaging import ImageLimits, decode, encode_png
from services.core.preprocessing import Preprocessing, prepare
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from services.serving.backend.explained_version import ExplainedVersion
from services.trainer.detector_version import FitOrder
from services.trainer.two_stage_version import TwoStageOrder, fit_two_stage_version

SIDE = 32
ORDER = TwoStageOrder(
    FitOrder(
        DetectorSpec("knn", "pca8"),
        preprocessing=Preprocessing(height_px=SIDE, width_px=SIDE),
        false_reject_target=0.05,
    ),
    "customnet",
    epochs=2,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(number: int, bad: bool) -> bytes:
    image = np.random.default_rng(number).normal(100, 6, (SIDE, SIDE, 3))
    if bad:
        image[8:24, 8:24] += 100
    return encode_png(image.clip(0, 255).astype(np.uint8))


def write(folder: Path, numbers: range, bad: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:03d}.png").write_bytes(picture(number, bad))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write(root / "good", range(60), bad=False)
    write(root / "defect", range(60, 66), bad=True)
    return root


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pool")
    write(root, range(100, 130), bad=False)
    write(root, range(130, 142), bad=True)
    return root


@pytest.fixture(scope="module")
def version(data: Path, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version") / "1"
    fit_two_stage_version(data, pool, ORDER, folder)
    return folder


def labelled_pool(root: Path, pool: Path, defective: range) -> Path:
    (root / "images").mkdir(parents=True)
    rows = ["file,defect"]
    for path in sorted(pool.iterdir()):
        os.link(path, root / "images" / path.name)
        rows.append(f"{path.name},{int(int(path.stem) in defective)}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def test_the_version_is_a_network_and_says_who_labelled_its_images(version: Path) -> None:
    manifest = verify_version(version)

    assert manifest.detector == ""
    assert manifest.architecture == "customnet"
    assert manifest.classes == ("good", "anomaly")
    assert (version / WEIGHTS).is_file()
    assert manifest.operating_point.threshold == 0.5
    told = manifest.lineage.description
    assert "knn (pca8 features)" in told
    assert "42 unlabelled images with a margin of 0.1" in told
    assert "12 anomalous" in told
    assert "left out" in told
    assert {"auroc", "false_reject_rate"} <= set(manifest.metrics)
    assert "pseudo_precision" not in manifest.metrics


def test_a_fit_is_told_from_beginning_to_end(data: Path, pool: Path, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []

    fit_two_stage_version(data, pool, ORDER, tmp_path / "v", lambda *step: told.append(step))

    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert any(what.startswith("epoch 2: validation loss") for _, what in told)


def test_the_hold_out_is_of_known_parts_alone(version: Path) -> None:
    manifest, held_out = verify_version(version), read_holdout(version).parts

    assert {int(part.source.removesuffix(".png")) for part in held_out} <= set(range(66))
    assert sum(part.label != "good" for part in held_out) == 6
    assert len(read_reference(version).files) == sum(part.label == "good" for part in held_out)
    assert manifest.lineage.n_train <= 42
    assert manifest.calibration.n_good == pytest.approx(12, abs=1)


def test_no_calibration_part_is_above_the_threshold_and_the_engine_gives_the_kept_scores(version: Path) -> None:
    manifest, reference = verify_version(version), read_reference(version)
    images = np.concatenate(
        [prepare(decode(reference.images[name], ImageLimits()), manifest.preprocessing) for name in reference.files]
    )

    answer = build_engine("torch", EngineRequest(version))(images)

    np.testing.assert_allclose(answer.scores, reference.scores, atol=1e-4)
    assert manifest.calibration.method == "maximum"
    assert manifest.calibration.false_reject_rate == 0.0


def test_its_network_can_be_looked_into(version: Path) -> None:
    assert ExplainedVersion("torch", EngineRequest(version)).network().num_classes == 2


def test_the_same_seed_gives_the_same_weights(version: Path, data: Path, pool: Path, tmp_path: Path) -> None:
    fit_two_stage_version(data, pool, ORDER, tmp_path / "v")

    assert (tmp_path / "v" / WEIGHTS).read_bytes() == (version / WEIGHTS).read_bytes()


def test_labels_of_the_unlabelled_side_change_no_weight_and_only_two_figures(
    version: Path, data: Path, pool: Path, tmp_path: Path
) -> None:
    right = labelled_pool(tmp_path / "right", pool, range(130, 142))
    wrong = labelled_pool(tmp_path / "wrong", pool, range(100, 130))

    made = [
        fit_two_stage_version(data, folder, ORDER, tmp_path / f"v-{folder.name}").metrics for folder in (right, wrong)
    ]

    for name in ("right", "wrong"):
        assert (tmp_path / f"v-{name}" / WEIGHTS).read_bytes() == (version / WEIGHTS).read_bytes()
    plain = verify_version(version).metrics
    assert all({name: figures[name] for name in plain} == plain for figures in made)
    assert [figures["pseudo_precision"].value for figures in made] == [1.0, 0.0]
    assert [figures["pseudo_recall"].value for figures in made] == [1.0, 0.0]


def test_too_few_anomalies_are_an_error_and_nothing_is_half_written(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "pool", range(200, 230), bad=False)
    write(tmp_path / "pool", range(230, 233), bad=True)

    with pytest.raises(InvalidInputError, match=r"at least 8 parts must be labelled anomaly, got \d of 33"):
        fit_two_stage_version(data, tmp_path / "pool", ORDER, tmp_path / "v")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool"]


def test_an_image_on_both_sides_is_named(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "pool", range(200, 220), bad=False)
    (tmp_path / "pool" / "again.png").write_bytes(picture(7, bad=False))

    with pytest.raises(InvalidInputError, match=r"got 1 of the same content, the first again\.png"):
        fit_two_stage_version(data, tmp_path / "pool", ORDER, tmp_path / "v")


def test_a_broken_unlabelled_file_is_named_and_nothing_is_half_written(data: Path, tmp_path: Path) -> None:
    write(tmp_path / "pool", range(200, 220), bad=False)
    (tmp_path / "pool" / "torn.png").write_bytes(b"no image")

    with pytest.raises(InvalidInputError, match=r"torn\.png"):
        fit_two_stage_version(data, tmp_path / "pool", ORDER, tmp_path / "v")

    assert not (tmp_path / "v").exists()


def test_weights_that_cannot_be_had_end_the_fit_before_any_work(
    data: Path, pool: Path, tmp_path: Path, monkeypatch
) -> None:
    def unreachable(name):
        raise UnavailableError(f"no network for {name}")

    monkeypatch.setattr("services.core.models.factory.torchvision_state", unreachable)
    monkeypatch.setattr("services.trainer.two_stage_version.fit_detector", None)

    with pytest.raises(UnavailableError, match="resnet50"):
        fit_two_stage_version(data, pool, TwoStageOrder(ORDER.first, "resnet50"), tmp_path / "v")


def test_a_version_is_never_written_over(version: Path, data: Path, pool: Path) -> None:
    with pytest.raises(ConflictError, match="must not exist yet"):
        fit_two_stage_version(data, pool, ORDER, version)


def test_the_command_takes_both_folders_and_refuses_a_classifier_without_images(
    data: Path, pool: Path, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from services.cli import app

    told = ["fit", "--detector", "knn", "--features", "pca8", "--data", str(data), "--size", str(SIDE)]
    told += ["--out", str(tmp_path / "v3"), "--version", "3", "--classifier", "customnet", "--epochs", "1"]

    refused = CliRunner().invoke(app, told)
    made = CliRunner().invoke(app, [*told, "--unlabelled", str(pool), "--margin", "0.2"])

    assert refused.exit_code == 2
    assert made.exit_code == 0, made.output
    held = json.loads((tmp_path / "v3" / "model.json").read_text())
    assert (held["version"], held["architecture"]) == (3, "customnet")
    assert "margin of 0.2" in held["lineage"]["description"]
