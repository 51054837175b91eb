"""From a labelled folder to a network that can be taught."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.adapters.caserecord import CaseRecord
from services.adapters.memory import MemoryObjectStore
from services.adapters.modelfolder import read_holdout, read_reference, read_training, verify_version
from services.core.calibration import Promise
from services.core.errors import ConflictError, InvalidInputError
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.trainer.classifier_version import ClassifierOrder, fit_classifier_version, keep_pictures
from services.trainer.order import LearningOrder, LearningSettings
from services.trainer.pictures import RecordedPictures

SIDE = 64
PARTS = 40
ORDER = ClassifierOrder(
    preprocessing=Preprocessing(height_px=SIDE, width_px=SIDE),
    promise=Promise("escape_rate", 0.2, other_target=0.2, confidence=0.0),
    product="plate",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture(number: int, kind: str) -> bytes:
    image = np.random.default_rng(number).normal(110, 6, (SIDE, SIDE, 3))
    if kind == "spot":
        image[20:44, 20:44] += 110
    if kind in ("line", "rare"):
        image[:, 28:36] -= 90
    return encode_png(image.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    with (root / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "defect", "class", "group"))
        for number in range(2 * PARTS):
            kind = ("good", "spot", "good", "line")[number % 4]
            if number == 3:
                kind = "rare"
            (root / "images" / f"{number:03d}.png").write_bytes(picture(number, kind))
            table.writerow((f"{number:03d}", int(kind != "good"), "" if kind == "good" else kind, number))
    return root


@pytest.fixture(scope="module")
def version(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version") / "1"
    fit_classifier_version(data, ORDER, folder)
    return folder


def test_a_labelled_folder_becomes_a_whole_version_that_tells_its_defects(version: Path) -> None:
    manifest = verify_version(version)
    assert manifest.classes == ("good", "line", "spot"), "a class of one part is fitted with others"
    assert manifest.metrics["auroc"].value > 0.9
    assert manifest.calibration.rule == "escape_rate"
    assert manifest.lineage.backbone_weights == "offline"
    assert {part.product for part in read_holdout(version).parts} == {"plate"}
    assert len(read_reference(version).files) == sum(one.label == "good" for one in read_holdout(version).parts)


def test_no_part_is_on_two_sides_and_every_part_is_on_one(version: Path) -> None:
    base = read_training(version)
    assert base is not None
    held = [part.part_id for part in read_holdout(version).parts]
    sides = {role: {part.part_id for part in base.parts if part.role == role} for role in ("train", "calibration")}
    assert not sides["train"] & sides["calibration"]
    assert not (sides["train"] | sides["calibration"]) & set(held)
    assert len(base.parts) + len(held) == 2 * PARTS == len(base.embeddings)


def test_the_same_folder_and_seed_give_the_same_version_and_another_seed_another(
    data: Path, version: Path, tmp_path: Path
) -> None:
    fit_classifier_version(data, ORDER, tmp_path / "again")
    fit_classifier_version(data, replace(ORDER, seed=1), tmp_path / "other")
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (version, tmp_path / "again")]
    assert weights[0] == weights[1]
    assert (tmp_path / "other" / "weights.safetensors").read_bytes() != weights[0]


def test_its_pictures_are_kept_where_a_training_looks_for_them(data: Path, version: Path) -> None:
    store = MemoryObjectStore()
    assert keep_pictures(version, data, CaseRecord(store)) == (2 * PARTS, 0)
    base = read_training(version)
    assert base is not None
    pictures = RecordedPictures(store)
    assert pictures.base_image(base.parts[0].sha256).startswith(b"\x89PNG")


def test_pictures_that_are_not_there_are_counted(data: Path, version: Path, tmp_path: Path) -> None:
    for name in ("good", "defect"):
        (tmp_path / name).mkdir()
    (tmp_path / "good" / "a.png").write_bytes((data / "images" / "000.png").read_bytes())
    (tmp_path / "defect" / "b.png").write_bytes(picture(999, "spot"))
    assert keep_pictures(version, tmp_path, CaseRecord(MemoryObjectStore())) == (1, 2 * PARTS - 1)


def test_too_few_parts_for_the_promise_are_refused_before_any_work_is_done(data: Path, tmp_path: Path) -> None:
    strict = replace(ORDER, promise=Promise("escape_rate", 0.02, other_target=0.2))
    with pytest.raises(InvalidInputError, match=r"takes at least \d+ defective parts \(groups\), got 40"):
        fit_classifier_version(data, strict, tmp_path / "1")
    assert not (tmp_path / "1").exists()


def test_a_folder_that_exists_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="must not exist yet"):
        fit_classifier_version(data, ORDER, tmp_path)


def test_what_people_answer_can_teach_it(version: Path, data: Path, tmp_path: Path) -> None:
    from services.core.selection.snapshot import ContradictionPolicy, Snapshot, SnapshotItem
    from services.trainer.learning import learn

    store = MemoryObjectStore()
    keep_pictures(version, data, CaseRecord(store))
    items = []
    for number, kind in enumerate(("line", "spot", "good", "line", "spot", "good")):
        ref = CaseRecord(store).add_image(picture(5_000 + number, kind))
        items.append(
            SnapshotItem(ref.sha256, ref.key, f"live-{number}", kind, (), (), (), True, False, (f"review-{number}",))
        )
    items.sort(key=lambda item: item.image_sha256)
    snapshot = Snapshot(tuple(items), (), (), ContradictionPolicy.LEAVE_OUT)
    order = LearningOrder("default", 2, version, snapshot, LearningSettings())
    report = learn(order, RecordedPictures(store), tmp_path / "2")
    assert verify_version(tmp_path / "2").lineage.parent == "default-v1"
    assert [one.verdict_right for one in report.answered] == [True] * 6
