from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.adapters.modelfolder import (
    HOLDOUT,
    TRAINING_EMBEDDINGS,
    TRAINING_PARTS,
    ModelVersion,
    read_holdout,
    read_reference,
    read_training,
    read_weights,
    verify_version,
    write_version,
)
from services.core.errors import ConflictError
from services.core.losses.ceod import CeodSettings
from services.core.models.classifier import Classifier
from services.core.models.serving import build_model
from services.core.selection.snapshot import SnapshotItem
from services.core.training.finetune import DivergedError, LabelledImages, TrainingReport
from services.core.training_run import Loss, Recipe
from services.core.types import Verdict
from services.trainer import fitting
from services.trainer.learning import learn
from services.trainer.order import CannotLearnError, LearningOrder, LearningProgress, LearningSettings
from tests.support.tiny_line import SETTINGS, TinyLine, answer, snapshot, without_base, write_live

FINETUNE = replace(SETTINGS, recipe=Recipe.FINETUNE)


@pytest.fixture(autouse=True)
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch answers: to make a network ready for OpenVINO takes longer than all else here."""
    monkeypatch.setattr("services.trainer.networks.openvino", None)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> TinyLine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.trainer.networks.openvino", None)
        return write_live(tmp_path_factory.mktemp("line") / "1")


@pytest.fixture(scope="module")
def items(line: TinyLine) -> list[SnapshotItem]:
    """Six spots, which the live version knows nothing of, and two good parts."""
    return [*(answer(line, "spot", seed) for seed in range(6)), *(answer(line, "good", seed) for seed in range(10, 12))]


def order(
    line: TinyLine, items: Sequence[SnapshotItem], settings: LearningSettings = SETTINGS, version: int = 2
) -> LearningOrder:
    return LearningOrder("default", version, line.folder, snapshot(items), settings)


def test_a_candidate_is_a_whole_version_with_its_parents_sets(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path
) -> None:
    told: list[LearningProgress] = []
    asked = order(line, items)
    report = learn(asked, line.pictures, tmp_path / "2", told.append)
    manifest = verify_version(tmp_path / "2")
    assert (manifest.version, manifest.lineage.parent, manifest.lineage.source) == (2, "default-v1", "reviews")
    assert manifest.classes == ("good", "bar", "spot")
    for name in (HOLDOUT, TRAINING_PARTS, TRAINING_EMBEDDINGS):
        assert (tmp_path / "2" / name).read_bytes() == (line.folder / name).read_bytes()
    before, after = read_reference(line.folder), read_reference(tmp_path / "2")
    assert before.images == after.images
    assert (before.scores != after.scores).any()
    assert manifest.metrics["mcc"].low <= manifest.metrics["mcc"].value <= manifest.metrics["mcc"].high
    assert report.live_version == 1
    assert report.holdout_parts == len(read_holdout(line.folder).parts)
    # Six defects with three refutations each; a good part that misled nobody is only moved.
    assert report.lessons == 6 * 4 + 2 * 2
    shares = [one.share for one in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert told[-1].epochs[0].train_loss < 0.7
    assert [one.evaluating for one in told] == sorted(one.evaluating for one in told)


def test_what_people_said_comes_out_in_the_candidate(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    report = learn(order(line, items), line.pictures, tmp_path / "2")
    assert len(report.answered) == 8
    assert all(one.verdict is not Verdict.FAIL for one in report.answered if one.label == "good")
    spots = [one for one in report.answered if one.label == "spot"]
    assert all(one.verdict_right and one.region_corrected for one in spots)
    assert {one.review_ids for one in report.answered} == {item.review_ids for item in items}


def test_the_same_order_gives_the_same_weights(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    for number in (2, 3):
        learn(order(line, items), line.pictures, tmp_path / str(number))
    assert read_weights(tmp_path / "2") == read_weights(tmp_path / "3")


def test_an_answer_that_was_taken_back_leaves_no_trace(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path
) -> None:
    learn(order(line, items), line.pictures, tmp_path / "2")
    again = LearningOrder("default", 3, tmp_path / "2", snapshot(items[:3]), SETTINGS)
    learn(again, line.pictures, tmp_path / "3")
    learn(order(line, items[:3], version=3), line.pictures, tmp_path / "as-if")
    assert read_weights(tmp_path / "3") == read_weights(tmp_path / "as-if")
    assert verify_version(tmp_path / "3").classes == ("good", "bar")


def test_after_trained_convolutions_the_first_backbone_is_found_again(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path
) -> None:
    learn(order(line, items, FINETUNE), line.pictures, tmp_path / "2")
    tuned = build_model(verify_version(tmp_path / "2"), read_weights(tmp_path / "2"))
    first = build_model(verify_version(line.folder), read_weights(line.folder))
    assert (tuned.features.conv8.weight != first.features.conv8.weight).any()
    assert (tuned.features.conv1.weight == first.features.conv1.weight).all()
    learn(LearningOrder("default", 3, tmp_path / "2", snapshot(items), SETTINGS), line.pictures, tmp_path / "3")
    learn(order(line, items, version=3), line.pictures, tmp_path / "as-if")
    assert read_weights(tmp_path / "3") == read_weights(tmp_path / "as-if")


def test_the_overlap_loss_tells_of_its_distance(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    told: list[LearningProgress] = []
    settings = replace(SETTINGS, loss=Loss.CEOD, ceod=CeodSettings(omega=0.1))
    learn(order(line, items, settings), line.pictures, tmp_path / "2", told.append)
    assert [one.epoch for one in told[-1].epochs] == [1, 2]
    assert all(np.isfinite(one.distance) for one in told[-1].epochs)


def test_the_overlap_loss_takes_a_products_area_where_nobody_drew_and_nothing_was_moved(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undrawn = [replace(item, mask_keys=(), product="disc") for item in items]
    box = ("disc", "box:0,0,1,0.25")
    settings = replace(SETTINGS, loss=Loss.CEOD, ceod=CeodSettings(omega=0.1), areas=(box,))
    settings = replace(settings, refutations=replace(settings.refutations, light=1))
    seen: list[LabelledImages] = []

    def train(model: Classifier, data: LabelledImages, *arguments: Any, **named: Any) -> TrainingReport:
        seen.append(data)
        return real(model, data, *arguments, **named)

    real = fitting.train
    monkeypatch.setattr(fitting, "train", train)
    learn(order(line, undrawn, settings), line.pictures, tmp_path / "2")
    (data,) = seen
    assert data.areas is not None
    whole = np.zeros(data.areas.shape[1:], np.bool_)
    whole[: len(whole) // 4] = True
    fixed = (data.areas == whole).all(axis=(1, 2))
    empty = ~data.areas.any(axis=(1, 2))
    assert fixed.any()
    # Good parts have none, and those whose picture was moved have none that is known.
    assert (data.labels[fixed] > 0).all()
    assert empty[data.labels == 0].all()
    assert (empty & (data.labels > 0)).any()


def test_a_training_goes_on_from_its_checkpoint(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    asked = order(line, items, replace(FINETUNE, finetune=replace(FINETUNE.finetune, epochs=3)))
    learn(asked, line.pictures, tmp_path / "whole")
    checkpoint = tmp_path / "checkpoint.bin"

    class _CutOffError(Exception):
        pass

    def cut_off(progress: LearningProgress) -> None:
        # Told of the second epoch before its state is kept: it is done again.
        if [one.epoch for one in progress.epochs] == [1, 2]:
            raise _CutOffError

    with pytest.raises(_CutOffError):
        learn(asked, line.pictures, tmp_path / "resumed", cut_off, checkpoint=checkpoint)
    told: list[LearningProgress] = []
    learn(asked, line.pictures, tmp_path / "resumed", told.append, checkpoint=checkpoint)
    assert read_weights(tmp_path / "resumed") == read_weights(tmp_path / "whole")
    assert [one.epoch for one in told[-1].epochs] == [1, 2, 3]


def test_a_checkpoint_of_another_order_is_not_gone_on_from(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.bin"
    learn(order(line, items[:3], FINETUNE), line.pictures, tmp_path / "other", checkpoint=checkpoint)
    learn(order(line, items, FINETUNE), line.pictures, tmp_path / "after", checkpoint=checkpoint)
    learn(order(line, items, FINETUNE), line.pictures, tmp_path / "plain")
    assert read_weights(tmp_path / "after") == read_weights(tmp_path / "plain")


def test_a_loss_that_diverges_is_told(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    settings = replace(FINETUNE, finetune=replace(FINETUNE.finetune, learning_rate=1e30))
    with pytest.raises(DivergedError):
        learn(order(line, items, settings), line.pictures, tmp_path / "2")
    assert not (tmp_path / "2").exists()


# ---- classes


def test_a_name_that_few_pictures_have_is_trained_as_what_it_resembles(line: TinyLine, tmp_path: Path) -> None:
    few = [answer(line, "spot", seed) for seed in range(4)]
    report = learn(order(line, few), line.pictures, tmp_path / "2")
    assert verify_version(tmp_path / "2").classes == ("good", "bar")
    assert {one.label for one in report.answered} == {"spot"}
    assert all(one.verdict_right for one in report.answered)


def test_names_that_differ_in_case_and_blanks_are_one_class(line: TinyLine, tmp_path: Path) -> None:
    named = [answer(line, name, seed, shape="spot") for seed, name in enumerate(["Hot Spot", "hot spot"] * 3)]
    learn(order(line, [*named, answer(line, "BAR", 7, shape="bar")]), line.pictures, tmp_path / "2")
    assert verify_version(tmp_path / "2").classes == ("good", "bar", "hot_spot")


def test_a_base_of_good_parts_alone_learns_its_first_defect(tmp_path: Path) -> None:
    good_only = write_live(tmp_path / "1", faults=())
    with pytest.raises(CannotLearnError, match="must have good and defective parts, got only good") as caught:
        learn(order(good_only, [answer(good_only, "good", 1)]), good_only.pictures, tmp_path / "2")
    assert caught.value.reason == "one_class_only"


def test_answers_of_one_class_suffice_beside_a_base(line: TinyLine, tmp_path: Path) -> None:
    report = learn(order(line, [answer(line, "bar", 3)]), line.pictures, tmp_path / "2")
    assert [one.verdict_right for one in report.answered] == [True]


# ---- what cannot be used


def test_a_drawing_of_another_size_leaves_its_picture_out_and_is_told(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path
) -> None:
    from services.core.review_mask import encode_mask

    line.pictures.masks["small"] = encode_mask(np.ones((5, 5), np.bool_))
    bad = replace(answer(line, "spot", 77), mask_keys=("small",))
    told: list[LearningProgress] = []
    report = learn(order(line, [*items, bad]), line.pictures, tmp_path / "2", told.append)
    assert told[-1].left_out == (("mask_does_not_fit", 1),)
    assert len(report.answered) == len(items)


def test_a_picture_that_is_gone_is_left_out_and_one_alone_is_nothing_to_learn(line: TinyLine, tmp_path: Path) -> None:
    gone = replace(answer(line, "spot", 78), image_key="record/images/00/gone.png")
    with pytest.raises(CannotLearnError, match="got 1 no_picture") as caught:
        learn(order(line, [gone]), line.pictures, tmp_path / "2")
    assert caught.value.reason == "nothing_to_learn"


def test_an_empty_snapshot_is_nothing_to_learn(line: TinyLine, tmp_path: Path) -> None:
    with pytest.raises(CannotLearnError, match="must have a picture to learn from") as caught:
        learn(order(line, []), line.pictures, tmp_path / "2")
    assert caught.value.reason == "nothing_to_learn"


def test_a_version_without_a_base_set_says_what_to_do(
    line: TinyLine, items: list[SnapshotItem], tmp_path: Path
) -> None:
    bare = without_base(line, tmp_path / "bare")
    with pytest.raises(CannotLearnError, match="with sightline fit --network") as caught:
        learn(replace(order(line, items), live=bare), line.pictures, tmp_path / "2")
    assert caught.value.reason == "no_base_set"


def test_a_detector_says_what_to_do(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    manifest = replace(verify_version(line.folder), architecture="detector:hbos")
    version = ModelVersion(manifest, b"", read_holdout(line.folder), read_reference(line.folder), {"scale.json": b"{}"})
    write_version(version, tmp_path / "1")
    with pytest.raises(CannotLearnError, match="make a network live first") as caught:
        learn(replace(order(line, items), live=tmp_path / "1"), line.pictures, tmp_path / "2")
    assert caught.value.reason == "live_is_detector"


def test_a_base_that_another_network_saw_is_refused(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    base = read_training(line.folder)
    assert base is not None
    rng = np.random.default_rng(0)
    other = replace(base, embeddings=rng.normal(size=base.embeddings.shape).astype(np.float32))
    version = ModelVersion(
        verify_version(line.folder),
        read_weights(line.folder),
        read_holdout(line.folder),
        read_reference(line.folder),
        training=other,
    )
    write_version(version, tmp_path / "1")
    with pytest.raises(CannotLearnError) as caught:
        learn(replace(order(line, items), live=tmp_path / "1"), line.pictures, tmp_path / "2")
    assert caught.value.reason == "backbone_unknown"


def test_a_version_is_never_written_over(line: TinyLine, items: list[SnapshotItem], tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    with pytest.raises(ConflictError):
        learn(order(line, items), line.pictures, tmp_path / "2")
    with pytest.raises(CannotLearnError, match="a number above its parent's 1, got 1"):
        learn(order(line, items, version=1), line.pictures, tmp_path / "1")
