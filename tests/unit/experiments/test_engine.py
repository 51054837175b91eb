import numpy as np
import pytest

from services.core.models.factory import create_model
from services.experiments.engine import Remembered, compile_predict, tempered


def test_remembered_answers_are_asked_for_once_and_their_time_is_still_charged() -> None:
    asked = []

    def slow(images):
        asked.append(len(images))
        return images.reshape(len(images), -1)[:, :2].astype(np.float32)

    remembered = Remembered(slow)
    batch = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)

    first = remembered(batch)
    before = remembered.saved_s
    second = remembered(batch.copy())

    assert asked == [2]
    assert np.array_equal(first, second)
    assert remembered.saved_s != before
    remembered(batch + 1)
    remembered.forget()
    remembered(batch)
    assert asked == [2, 2, 2]


def test_tempering_keeps_verdicts_order_and_sums_but_not_saturation() -> None:
    sure = np.array([[1e-12, 0.75, 0.25], [1e-9, 0.5, 0.5], [0.5, 0.5, 0.0], [0.9, 0.05, 0.05]], np.float32)
    flat = tempered(lambda _: sure, 8.0)(np.zeros((4, 2, 2, 3), np.uint8))
    scores = 1 - flat[:, 0]

    assert np.allclose(flat.sum(axis=1), 1, atol=1e-6)
    assert scores[0] - scores[1] > 1e-3  # equal to the last digit before
    assert scores[2] == pytest.approx(0.5)
    assert list(np.argsort(-scores)) == [0, 1, 2, 3]
    assert flat[0, 1] == pytest.approx(3 * flat[0, 2])


def test_tempering_lets_nan_through_so_that_it_is_noticed() -> None:
    broken = np.full((1, 2), np.nan, np.float32)

    assert np.isnan(tempered(lambda _: broken, 4.0)(np.zeros((1, 2, 2, 3), np.uint8))).all()


def test_the_torch_engine_answers_as_the_network_does() -> None:
    import torch

    model = create_model("customnet", 2, "none", seed=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = torch.softmax(model(torch.from_numpy(images).permute(0, 3, 1, 2)).logits, dim=1).numpy()

    answers = compile_predict(model, 32, "torch")(images)

    assert np.allclose(answers, expected, atol=1e-4)
