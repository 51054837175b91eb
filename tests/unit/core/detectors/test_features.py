"""Feature pipelines: names, numbers, bounds."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.detectors import features
from services.core.detectors.backbone import Backbone
from services.core.detectors.detector import DetectorSpec
from services.core.detectors.features import KERNELS, FeatureSpec, fit_features, parse_features
from services.core.errors import InvalidInputError
from tests.unit.core.detectors.toys import good_parts

PARTS = good_parts(30, seed=0)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("raw", FeatureSpec("pixels")),
        ("embedding", FeatureSpec("embedding")),
        ("pca300", FeatureSpec("pixels", 300)),
        ("pca700-cosine", FeatureSpec("pixels", 700, "cosine")),
        ("embedding-pca100", FeatureSpec("embedding", 100)),
        ("embedding-pca5-rbf", FeatureSpec("embedding", 5, "rbf")),
    ],
)
def test_a_pipeline_s_name_says_what_it_is(name: str, spec: FeatureSpec) -> None:
    assert parse_features(name) == spec


@pytest.mark.parametrize(
    "name", ["", "pca", "pca0", "pca-5", "pca5-", "pca5-magic", "raw-pca5", "RAW", "raw\n", "x" * 99]
)
def test_names_of_no_pipeline_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="features must be raw, embedding, pcaN"):
        parse_features(name)


def test_grey_images_are_compared_by_one_channel_and_coloured_ones_by_three() -> None:
    grey = fit_features(PARTS, FeatureSpec("pixels"), seed=0)
    assert (grey.channels, grey.transform(PARTS).shape) == (1, (30, 144))
    coloured = fit_features(good_parts(30, seed=0, colour=True), FeatureSpec("pixels"), seed=0)
    assert (coloured.channels, coloured.transform(PARTS).shape) == (3, (30, 432))


def test_pixels_are_standardised_but_never_by_less_than_a_grey_level() -> None:
    images = np.full((10, 1, 2, 3), 100, np.uint8)
    images[::2, 0, 0] = 120  # mean 110, spread 10
    images[0, 0, 1] = 101  # mean 100.1, spread 0.3
    rows = fit_features(images, FeatureSpec("pixels"), seed=0).transform(images)
    np.testing.assert_allclose(rows[:2], [[1, 0.9], [-1, -0.1]], atol=1e-4)


def test_components_that_do_not_exist_are_left_out_and_the_number_is_told() -> None:
    fitted = fit_features(PARTS, FeatureSpec("pixels", 300), seed=0)
    assert fitted.components == 29
    assert fitted.transform(PARTS).shape == (30, 29)
    doubled = np.repeat(PARTS[:12], 3, axis=0)
    assert fit_features(doubled, FeatureSpec("pixels", 300), seed=0).components == 11


def test_all_components_keep_every_distance_up_to_one_unit() -> None:
    raw = fit_features(PARTS, FeatureSpec("pixels"), seed=0).transform(PARTS)
    reduced = fit_features(PARTS, FeatureSpec("pixels", 300), seed=0).transform(PARTS)
    ratio = np.linalg.norm(raw[1:] - raw[0], axis=1) / np.linalg.norm(reduced[1:] - reduced[0], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert reduced.var(axis=0).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_maps_to_finite_numbers_of_unit_variance(kernel: str) -> None:
    fitted = fit_features(PARTS, parse_features(f"pca12-{kernel}"), seed=0)
    rows = fitted.transform(PARTS)
    assert 1 <= rows.shape[1] <= 12
    assert np.isfinite(rows).all()
    assert rows.var(axis=0).mean() == pytest.approx(1, rel=1e-3)


def test_the_linear_kernel_only_turns_the_components() -> None:
    plain = fit_features(PARTS, parse_features("pca12"), seed=0).transform(PARTS)
    turned = fit_features(PARTS, parse_features("pca12-linear"), seed=0).transform(PARTS)
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=1e-3 * np.abs(plain @ plain.T).max())


def test_many_images_are_mapped_by_nystroem_s_approximation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "KERNEL_EXACT_IMAGES", 20)
    fitted = fit_features(PARTS, parse_features("pca12-rbf"), seed=0)
    assert type(fitted.pipeline["kernel"]).__name__ == "Nystroem"
    again = fit_features(PARTS, parse_features("pca12-rbf"), seed=0)
    np.testing.assert_array_equal(again.transform(PARTS), fitted.transform(PARTS))


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 10 images, got 9"):
        fit_features(PARTS[:9], FeatureSpec("pixels"), seed=0)


def test_images_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="images must differ for a detector to learn from, got 12 equal ones"):
        fit_features(np.repeat(PARTS[:1], 12, axis=0), FeatureSpec("pixels"), seed=0)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PARTS.astype(np.float32), "uint8 array, got float32"),
        (PARTS[..., :1], r"shape \(N, H, W, 3\), got \(30, 12, 12, 1\)"),
        (PARTS[0], r"got \(12, 12, 3\)"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(images: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_features(images, FeatureSpec("pixels"), seed=0)


def test_more_pixels_than_memory_is_meant_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "MAX_MATRIX_BYTES", 30 * 144 * 4 - 1)
    with pytest.raises(InvalidInputError, match="at most 17279 bytes, got 17280 for 30 images of 12 x 12"):
        fit_features(PARTS, FeatureSpec("pixels", 5), seed=0)


def test_embeddings_need_a_backbone() -> None:
    with pytest.raises(InvalidInputError, match="need a backbone, got none"):
        fit_features(PARTS, FeatureSpec("embedding"), seed=0)


def test_an_embedding_is_the_same_alone_and_in_a_batch_to_the_last_bit() -> None:
    backbone = Backbone.create(DetectorSpec("knn", "embedding", "customnet"))
    images = np.random.default_rng(3).integers(0, 255, (5, 48, 64, 3), np.uint8)
    together = backbone(images)
    for row in range(len(images)):
        np.testing.assert_array_equal(backbone(images[row : row + 1])[0], together[row])
    loaded = Backbone.load(DetectorSpec("knn", backbone="customnet"), backbone.save())
    np.testing.assert_array_equal(loaded(images), together)
