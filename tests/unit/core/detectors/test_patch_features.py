from __future__ import annotations

import numpy as np
import pytest
import torch

from services.core.detectors.detector import DetectorSpec
from services.core.detectors.patch_features import PatchFeatures, PatchSettings, create_patch_features
from services.core.errors import InvalidInputError
from services.core.models import create_model
from tests.unit.core.detectors.parts import good_parts


@pytest.fixture(scope="module")
def features() -> PatchFeatures:
    return create_patch_features(PatchSettings())


def pixels(count: int = 1) -> torch.Tensor:
    return torch.from_numpy(good_parts(count)).permute(0, 3, 1, 2)


def test_the_taps_are_blocks_4_and_10_of_the_usual_backbone(features: PatchFeatures) -> None:
    network = create_model("efficientnet-lite0", 2, "offline", options={"taps": "4,10"})
    with torch.inference_mode():
        expected = network.features(network.normalise(pixels()))[:2]
    found = features.maps(pixels())
    assert features.channels == (40, 112)
    for own, other in zip(found, expected, strict=True):
        assert torch.allclose(own, other, atol=1e-3)


def test_every_patch_has_all_depths_on_the_finest_grid(features: PatchFeatures) -> None:
    found = features(pixels(2))
    assert found.shape == (2, features.size, 8, 8) == (2, 152, 8, 8)
    assert features.grid((64, 64, 3)) == (8, 8)
    assert features.grid((72, 96, 3)) == (9, 12)


def test_a_patch_is_the_mean_of_its_neighbourhood_and_fades_at_the_border() -> None:
    plain = create_patch_features(PatchSettings(weights="none", strides=(8,), neighbourhood=1))
    averaged = create_patch_features(PatchSettings(weights="none", strides=(8,), neighbourhood=3))
    one, mean = plain(pixels())[0], averaged(pixels())[0]
    assert torch.allclose(mean[:, 3, 4], one[:, 2:5, 3:6].mean(dim=(1, 2)), atol=1e-5)
    assert torch.allclose(mean[:, 0, 0], one[:, :2, :2].sum(dim=(1, 2)) / 9, atol=1e-5)


def test_images_come_one_by_one_with_their_channels_last(features: PatchFeatures) -> None:
    parts = good_parts(2)
    found = list(features.each(parts))
    assert [one.shape for one in found] == [(8, 8, 152)] * 2
    assert torch.allclose(found[1].permute(2, 0, 1), features(pixels(2))[1], atol=1e-4)


def test_nothing_of_the_backbone_is_trained(features: PatchFeatures) -> None:
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert not features.training


@pytest.mark.parametrize(
    ("backbone", "strides", "channels"),
    [
        ("customnet", (4, 8), (64, 128)),
        ("resnet18", (4, 8, 16), (64, 128, 256)),
        ("alexnet", (8,), (192,)),
        ("efficientnet-lite0", (4, 8), (24, 40)),
    ],
)
def test_other_backbones_are_tapped_at_their_deepest_layer_of_each_stride(
    backbone: str, strides: tuple[int, ...], channels: tuple[int, ...]
) -> None:
    features = create_patch_features(PatchSettings(backbone, "none", strides))
    assert features.channels == channels
    assert features(pixels()).shape[1] == sum(channels)


def test_batch_norm_that_was_folded_changes_nothing() -> None:
    features = create_patch_features(PatchSettings("resnet18", "none", (8,), 1), seed=3)
    network = create_model("resnet18", 2, "none", seed=3)
    with torch.inference_mode():
        expected = network.features[:6](network.normalise(pixels()))
    assert torch.allclose(features(pixels()), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": "8;16"}, "strides must be numbers such as '8,16', got '8;16'"),
        ({"strides": "16,8"}, "strides must be ascending powers of two"),
        ({"strides": "12"}, "strides must be ascending powers of two"),
        ({"neighbourhood": 2}, "neighbourhood must be odd"),
        ({"neighbourhood": 1.5}, "neighbourhood must be a whole number of at least 1, got 1.5"),
        ({"weights": "mine"}, "weights must be one of offline, imagenet, none, got 'mine'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, str | int | float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PatchSettings.of(DetectorSpec("patch-knn", options=options))


def test_a_stride_that_the_backbone_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(InvalidInputError, match=r"among \[1, 2, 4, 8, 16\] of customnet, got \[32\]"):
        create_patch_features(PatchSettings("customnet", "none", (32,)))


def test_an_image_that_vanishes_in_the_backbone_is_refused() -> None:
    features = create_patch_features(PatchSettings("customnet", "none", (16,)))
    with pytest.raises(InvalidInputError, match=r"large enough for the backbone, got \(8, 8, 3\)"):
        features.grid((8, 8, 3))


def test_weights_are_the_offline_ones_where_a_backbone_has_them() -> None:
    wanted = {"efficientnet-lite0": "offline", "customnet": "none", "resnet18": "imagenet"}
    for backbone, weights in wanted.items():
        assert PatchSettings.of(DetectorSpec("utrad", backbone=backbone)).weights == weights


def test_random_weights_repeat_by_seed() -> None:
    settings = PatchSettings("customnet", "none", (8,))
    one, same, other = (create_patch_features(settings, seed=seed)(pixels()) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not np.allclose(one, other)
