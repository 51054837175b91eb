import numpy as np
import pytest

from services.core.errors import InvalidInputError, UnavailableError
from services.experiments import classifiers
from services.experiments.classifiers import FitSettings, fit_or_load, resolve_model
from services.experiments.parts import Part

SETTINGS = FitSettings(side_px=32, epochs=1, engine="torch", batch_size=8)


def parts(count: int = 24) -> list[Part]:
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        image = random.integers(60, 120, (40, 40, 3), dtype=np.uint8)
        if number % 2:
            image[10:20, 10:20] = 255
        made.append(Part(f"p{number}", f"g{number}", "spot" if number % 2 else "good", image, None))
    return made


SETS = {"train": np.arange(16), "validation": np.arange(16, 20), "test": np.arange(20, 24)}


def test_names_as_papers_write_them_are_understood(tmp_path) -> None:
    assert resolve_model("AlexNet") == "alexnet"
    assert resolve_model("VGG-16") == "vgg16"
    assert resolve_model("ResNeXt-50") == "resnext50"
    assert resolve_model("EfficientNet-Lite0") == "efficientnet-lite0"
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    with pytest.raises(InvalidInputError, match="lenet"):
        resolve_model("lenet")


def test_a_fit_is_kept_and_found_again(tmp_path) -> None:
    told = []

    def fit(seed: int):
        return fit_or_load(
            "customnet", parts(), SETS, SETTINGS, seed, cache=tmp_path, progress=lambda *step: told.append(step)
        )

    first, again = fit(0), fit(0)

    assert len(told) == 1
    assert np.allclose(first.scores(parts()), again.scores(parts()))
    fit(1)
    assert len(told) == 2


def test_a_network_whose_weights_cannot_be_had_starts_from_scratch_and_says_so(monkeypatch) -> None:
    def unreachable(name):
        raise UnavailableError(f"no network for {name}")

    monkeypatch.setattr("services.core.models.factory.torchvision_state", unreachable)

    model, origin = classifiers._start("resnet18", seed=0)

    assert origin.startswith("from scratch")
    assert model.num_classes == 2


def test_a_head_alone_on_random_features_is_refused() -> None:
    settings = FitSettings(side_px=32, epochs=0, engine="torch")

    with pytest.raises(InvalidInputError, match="at least 1 epoch"):
        fit_or_load("customnet", parts(), SETS, settings, 0)


def test_batch_norm_of_a_small_training_follows_its_weights() -> None:
    model, _ = classifiers._start("customnet", seed=0)

    classifiers._follow_quickly(model)

    norms = [module for module in model.features.modules() if type(module).__name__ == "BatchNorm2d"]
    assert norms
    assert {module.momentum for module in norms} == {0.1}
