from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from services.core.errors import ConflictError, DivergedError, InvalidInputError, ModelFormatError
from services.core.losses.ceod_settings import CeodSettings
from services.core.models import create_model
from services.core.models.classifier import Classifier
from services.core.models.state import save_state
from services.core.training.finetune import (
    EpochReport,
    LabelledImages,
    TrainingSettings,
    predict,
    settle_norm,
    train,
)


def spots(n: int, seed: int = 0, side: int = 32) -> LabelledImages:
    """Grey noise; the defective half has one dark spot somewhere."""
    rng = np.random.default_rng(seed)
    images = rng.normal(128, 10, (n, side, side, 3))
    labels = np.arange(n) % 2
    for index in np.flatnonzero(labels):
        y, x = rng.integers(2, side - 10, 2)
        images[index, y : y + 8, x : x + 8] -= 90
    return LabelledImages(images.clip(0, 255).astype(np.uint8), labels)


SETTINGS = TrainingSettings(epochs=5, batch_size=8, learning_rate=3e-3)


def test_a_small_network_learns_to_see_a_spot() -> None:
    model = create_model("customnet", 2, "none")
    report = train(model, spots(160), SETTINGS)
    scores = predict(model, spots(100, seed=2).images)[:, 1]
    accuracy = ((scores > 0.5) == (spots(100, seed=2).labels == 1)).mean()
    assert accuracy > 0.9
    assert report.epochs[-1].train_loss < report.epochs[0].train_loss


def test_a_pass_takes_one_picture_of_each_owner_drawn_anew() -> None:
    owners = np.array([5, 5, 5, 9, 2, 2])
    data = LabelledImages(np.zeros((6, 8, 8, 3), np.uint8), np.array([1, 1, 1, 0, 0, 0]), owners=owners)
    rng = np.random.default_rng(0)
    passes = [data.order(rng) for _ in range(200)]
    assert all(sorted(owners[rows]) == [2, 5, 9] for rows in passes)
    taken = np.bincount(np.concatenate(passes), minlength=6)
    assert taken[3] == 200
    assert all(40 < count < 95 for count in taken[:3])
    assert all(70 < count < 130 for count in taken[4:])
    assert len({tuple(owners[rows]) for rows in passes}) == 6  # mixed, too
    assert data.first_of_each.tolist() == [4, 0, 3]


def test_many_pictures_of_one_owner_weigh_no_more_than_one() -> None:
    few = spots(40)
    owners = np.repeat(np.arange(40), np.where(np.arange(40) < 4, 8, 1))
    many = LabelledImages(few.images[owners], few.labels[owners], owners=owners)

    def trained(data: LabelledImages) -> tuple[int, bytes]:
        steps: list[None] = []
        model = create_model("customnet", 2, "none")
        train(model, data, replace(SETTINGS, epochs=1, settle=True), on_step=lambda: steps.append(None))
        return len(steps), save_state(model)

    steps, weights = trained(many)
    assert steps == trained(few)[0] < trained(replace(many, owners=None))[0]
    # Eight copies of a picture are that picture: the same draw of owners gives the same network.
    assert weights == trained(replace(few, owners=np.arange(40)))[1]


def test_pictures_of_one_owner_with_two_labels_are_refused() -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    with pytest.raises(InvalidInputError, match="one label"):
        LabelledImages(images, np.array([0, 1, 1]), owners=np.array([0, 0, 1]))
    with pytest.raises(InvalidInputError, match="owners"):
        LabelledImages(images, np.array([0, 1, 1]), owners=np.array([0, 0]))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> bytes:
        model = create_model("customnet", 2, "none")
        train(model, spots(40), TrainingSettings(epochs=2, batch_size=16, seed=seed, flips=True))
        return save_state(model)

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


@pytest.mark.parametrize("optimiser", ["sgd", "adamax", "adamw"])
def test_each_optimiser_lowers_the_loss(optimiser: str) -> None:
    model = create_model("customnet", 2, "none")
    settings = TrainingSettings(epochs=3, batch_size=16, optimiser=optimiser, learning_rate=2e-3)  # type: ignore[arg-type]
    losses = [epoch.train_loss for epoch in train(model, spots(96), settings).epochs]
    assert losses[-1] < losses[0]


def test_with_a_frozen_backbone_only_the_last_layer_moves() -> None:
    model = create_model("customnet", 2, "none")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, spots(40), TrainingSettings(epochs=2, train_backbone=False))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"linear.weight", "linear.bias"}


def test_it_stops_without_progress_and_keeps_the_best_epoch() -> None:
    model = create_model("customnet", 2, "none")
    noise = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3)).astype(np.uint8)
    validation = LabelledImages(noise, np.arange(40) % 2)
    settings = TrainingSettings(epochs=12, batch_size=16, patience=2, learning_rate=3e-3)
    told: list[EpochReport] = []
    report = train(model, spots(64), settings, validation=validation, on_epoch=told.append)
    losses = [epoch.validation_loss for epoch in report.epochs]
    assert len(report.epochs) < 12
    assert tuple(told) == report.epochs
    assert report.best_epoch == int(np.argmin(losses)) + 1


def test_a_last_batch_of_one_image_joins_the_one_before() -> None:
    model = create_model("customnet", 2, "none")
    report = train(model, spots(33), TrainingSettings(epochs=1, batch_size=16))
    assert np.isfinite(report.epochs[0].train_loss)


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    model = create_model("customnet", 2, "none")
    with torch.no_grad():
        model.linear.weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="in epoch 1"):
        train(model, spots(32), TrainingSettings(epochs=2, batch_size=16))


def test_a_label_that_the_network_does_not_have_is_refused() -> None:
    data = LabelledImages(spots(4).images, np.array([0, 1, 2, 0]))
    with pytest.raises(InvalidInputError, match=r"labels must lie in 0\.\.1, got up to 2"):
        train(create_model("customnet", 2, "none"), data, SETTINGS)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int)),
        (np.zeros((4, 8, 8, 3)), np.zeros(4, int)),
        (np.zeros((4, 8, 8, 3), np.uint8), np.zeros(3, int)),
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, int)),
    ],
)
def test_images_and_labels_that_do_not_fit_are_refused(images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        LabelledImages(images, labels)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"optimiser": "lion"}, {"weight_decay": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingSettings(**wrong)  # type: ignore[arg-type]


def test_settled_batch_norm_has_the_figures_of_the_images_and_nothing_else_moves() -> None:
    model = create_model("customnet", 2, "none")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = spots(64).images

    settle_norm(model, images, seed=0)

    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}
    first = model.features.conv1(model.normalise(torch.from_numpy(images).permute(0, 3, 1, 2)))
    torch.testing.assert_close(model.features.norm1.running_mean, first.mean(dim=(0, 2, 3)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.features.norm1.running_var, first.var(dim=(0, 2, 3)), atol=1e-3, rtol=1e-1)
    assert model.features.norm1.momentum == 0.1
    assert not model.training


def test_a_short_training_is_validated_as_it_was_trained_where_batch_norm_settles() -> None:
    def last(*, settle: bool) -> EpochReport:
        model = create_model("customnet", 2, "none")
        settings = TrainingSettings(epochs=2, batch_size=8, learning_rate=3e-3, settle=settle)
        return train(model, spots(64), settings, validation=spots(32, seed=1)).epochs[-1]

    assert last(settle=True).validation_loss < last(settle=False).validation_loss / 2


def framed(n: int, seed: int = 0, side: int = 32) -> LabelledImages:
    """As :func:`spots`, on the left half only; good parts have such a spot on the right, where it does not count."""
    rng = np.random.default_rng(seed)
    images = rng.normal(128, 10, (n, side, side, 3))
    labels = np.arange(n) % 2
    areas = np.zeros((n, side, side), np.bool_)
    areas[labels == 1, :, : side // 2] = True
    for index, label in enumerate(labels):
        y, x = int(rng.integers(2, side - 10)), int(rng.integers(1, side // 2 - 8)) + (0 if label else side // 2)
        images[index, y : y + 8, x : x + 8] -= 90
    return LabelledImages(images.clip(0, 255).astype(np.uint8), labels, areas)


def test_with_ceod_the_heat_of_defects_moves_into_the_area_where_they_count() -> None:
    def last_distance(omega: float) -> float:
        model = create_model("customnet", 2, "none")
        settings = replace(SETTINGS, epochs=4, ceod=CeodSettings(omega=omega))
        reports = train(model, framed(64), settings).epochs
        assert all(report.clipped_share == 0 for report in reports)
        return reports[-1].distance

    assert last_distance(1.0) < 0.7 * last_distance(0.0)


def test_as_the_paper_writes_it_the_share_without_a_gradient_is_told() -> None:
    settings = replace(SETTINGS, epochs=1, ceod=CeodSettings(variant="paper"))
    (report,) = train(create_model("customnet", 2, "none"), framed(32), settings).epochs
    assert report.clipped_share > 0


def test_with_ceod_a_weight_of_zero_trains_as_cross_entropy_does() -> None:
    def weights(ceod: CeodSettings | None) -> bytes:
        model = create_model("customnet", 2, "none")
        train(model, framed(32), TrainingSettings(epochs=1, batch_size=8, flips=True, ceod=ceod))
        return save_state(model)

    assert weights(CeodSettings(omega=0)) == weights(None)


def test_with_ceod_the_last_layer_alone_can_be_trained() -> None:
    model = create_model("customnet", 2, "none")
    before = model.features.conv1.weight.detach().clone()
    settings = replace(SETTINGS, epochs=2, train_backbone=False, ceod=CeodSettings(omega=0.1))
    (_, report) = train(model, framed(32), settings).epochs
    assert report.distance > 0
    assert (model.features.conv1.weight == before).all()


def test_ceod_without_areas_and_areas_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="areas must be given"):
        train(create_model("customnet", 2, "none"), spots(8), replace(SETTINGS, ceod=CeodSettings()))
    data = framed(8)
    with pytest.raises(InvalidInputError, match="areas must be bool"):
        LabelledImages(data.images, data.labels, data.areas[:-1] if data.areas is not None else None)


class KilledError(Exception):
    """The process ends here."""


@pytest.mark.parametrize("optimiser", ["sgd", "adamax", "adamw"])
def test_a_training_that_was_killed_ends_with_the_weights_that_it_would_have_had(optimiser: str) -> None:
    settings = TrainingSettings(epochs=4, batch_size=8, optimiser=optimiser, flips=True, settle=True)  # type: ignore[arg-type]
    data, held_out = spots(24), spots(12, seed=9)

    def network() -> Classifier:
        model = create_model("customnet", 2, "none", seed=1)
        # Draws from torch's own generator.
        model.dropout.p = 0.3
        return model

    whole = network()
    expected = train(whole, data, settings, validation=held_out)

    kept: list[bytes] = []

    def die(report: EpochReport) -> None:
        if report.epoch == 3:
            raise KilledError

    with pytest.raises(KilledError):
        train(network(), data, settings, validation=held_out, on_epoch=die, on_checkpoint=kept.append)
    assert len(kept) == 2, "killed in the third epoch, before it was written down"
    resumed = network()
    report = train(resumed, data, settings, validation=held_out, resume=kept[-1])
    assert save_state(resumed) == save_state(whole)
    # Compared as text: a figure that is not there is NaN, which equals nothing.
    assert repr(report) == repr(expected)


def test_a_training_that_was_over_stays_as_it_is_when_it_is_resumed() -> None:
    settings = TrainingSettings(epochs=30, batch_size=8, learning_rate=1e-6, patience=1)
    kept: list[bytes] = []
    first = create_model("customnet", 2, "none")
    ended = train(first, spots(16), settings, validation=spots(8, seed=4), on_checkpoint=kept.append)
    again = create_model("customnet", 2, "none")
    assert repr(train(again, spots(16), settings, validation=spots(8, seed=4), resume=kept[-1])) == repr(ended)
    assert save_state(again) == save_state(first)


def test_a_training_is_not_resumed_with_other_data_or_settings_nor_with_rubbish() -> None:
    settings = replace(SETTINGS, epochs=1)
    kept: list[bytes] = []
    train(create_model("customnet", 2, "none"), spots(8), settings, on_checkpoint=kept.append)
    for data, how in ((spots(8, seed=5), settings), (spots(8), replace(settings, seed=3))):
        with pytest.raises(ConflictError, match="its own data, settings and network"):
            train(create_model("customnet", 2, "none"), data, how, resume=kept[0])
    for rubbish in (b"x", b"\xff" * 40, kept[0][:100], save_state(create_model("customnet", 2, "none"))):
        with pytest.raises(ModelFormatError, match="a checkpoint must be one"):
            train(create_model("customnet", 2, "none"), spots(8), settings, resume=rubbish)


def test_with_the_last_convolutions_alone_what_lies_before_stays_with_its_norms() -> None:
    model = create_model("customnet", 2, "none")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, spots(40), TrainingSettings(epochs=2, batch_size=16, last_convolutions=2, settle=True))
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    trained = {name.split(".")[-2] for name in moved}
    assert trained == {"conv7", "norm7", "conv8", "norm8", "linear"}
    assert "features.norm7.running_mean" in moved
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_more_convolutions_than_there_are_train_everything() -> None:
    model = create_model("customnet", 2, "none")
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    train(model, spots(40), TrainingSettings(epochs=1, batch_size=16, last_convolutions=20))
    assert not any(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters() if "weight" in name)


def test_whoever_has_a_clock_is_told_of_every_step_and_of_an_epochs_end() -> None:
    told: list[str] = []
    train(
        create_model("customnet", 2, "none"),
        spots(40),
        TrainingSettings(epochs=2, batch_size=16),
        on_epoch=lambda _: told.append("epoch"),
        on_step=lambda: told.append("step"),
    )
    assert told == [*["step"] * 4, "epoch"] * 2
