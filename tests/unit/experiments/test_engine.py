import numpy as np

from services.core.models.factory import create_model
from services.experiments.engine import Remembered, compile_predict


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


def test_the_torch_engine_answers_as_the_network_does() -> None:
    import torch

    model = create_model("customnet", 2, "none", seed=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = torch.softmax(model(torch.from_numpy(images).permute(0, 3, 1, 2)).logits, dim=1).numpy()

    answers = compile_predict(model, 32, "torch")(images)

    assert np.allclose(answers, expected, atol=1e-4)
