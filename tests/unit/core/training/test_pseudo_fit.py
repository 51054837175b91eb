from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.core.detectors.pseudo_labels import LEFT_OUT, PseudoLabels
from services.core.errors import InvalidInputError
from services.core.models import create_model
from services.core.models.state import save_state
from services.core.training.finetune import TrainingSettings, predict
from services.core.training.pseudo_fit import fit_to_pseudo_labels

SETTINGS = TrainingSettings(epochs=4, batch_size=8, learning_rate=3e-3)


def spots(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey noise; every second picture has a dark square."""
    rng = np.random.default_rng(0)
    images = rng.normal(128, 10, (n, 32, 32, 3))
    labels = np.arange(n) % 2
    images[labels == 1, 8:20, 8:20] -= 90
    return images.clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def labelled(labels: np.ndarray) -> PseudoLabels:
    return PseudoLabels(labels, tuple(f"p{number}" for number in range(len(labels))), 0.1)


def fitted(images: np.ndarray, labels: PseudoLabels, seed: int = 0, epochs: int = 1):
    model = create_model("customnet", 2, "none", seed=0)
    settings = replace(SETTINGS, epochs=epochs, seed=seed)
    return model, fit_to_pseudo_labels(model, images, labels, settings)


def test_a_network_learns_what_the_detector_said() -> None:
    images, labels = spots(120)

    model, fit = fitted(images, labelled(labels), epochs=4)

    assert ((predict(model, images)[:, 1] > 0.5) == labels).mean() > 0.95
    assert fit.n_train + fit.n_validation == 120
    assert fit.n_validation == pytest.approx(24, abs=2)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    images, labels = spots(40)

    first, again, other = (save_state(fitted(images, labelled(labels), seed)[0]) for seed in (0, 0, 1))

    assert first == again
    assert first != other


def test_what_was_left_out_is_never_looked_at() -> None:
    images, labels = spots(40)
    labels[30:] = LEFT_OUT
    spoiled = images.copy()
    spoiled[30:] = 255

    first, second = fitted(images, labelled(labels)), fitted(spoiled, labelled(labels))

    assert save_state(first[0]) == save_state(second[0])
    assert first[1].n_train + first[1].n_validation == 30


def test_no_part_is_both_trained_on_and_validated_on(monkeypatch) -> None:
    seen = []

    def train(_model, data, _settings, *, validation, on_epoch):
        seen.append((data, validation))

    monkeypatch.setattr("services.core.training.pseudo_fit.train", train)
    images = np.zeros((40, 8, 8, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(40) // 2  # its part's number
    labels = np.zeros(40, np.int64)
    labels[::4] = 1
    groups = tuple(str(number // 2) for number in range(40))

    fit_to_pseudo_labels(create_model("customnet", 2, "none"), images, PseudoLabels(labels, groups, 0.0), SETTINGS)

    ((training, validation),) = seen
    assert not set(training.images[:, 0, 0, 0].tolist()) & set(validation.images[:, 0, 0, 0].tolist())
    assert {0, 1} == set(training.labels.tolist()) == set(validation.labels.tolist())


def test_labels_that_do_not_fit_are_refused() -> None:
    images, labels = spots(10)
    with pytest.raises(InvalidInputError, match="got 10 and 9"):
        fit_to_pseudo_labels(create_model("customnet", 2, "none"), images, labelled(labels[:9]), SETTINGS)
    with pytest.raises(InvalidInputError, match="two classes, got 3"):
        fit_to_pseudo_labels(create_model("customnet", 3, "none"), images, labelled(labels), SETTINGS)
