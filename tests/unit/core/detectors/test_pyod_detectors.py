"""The fifteen detectors: what each must do, whatever it is."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from pyod.models.knn import KNN
from pyod.models.lmdd import LMDD

from services.core.detectors.catalogue import fit_detector, load_detector
from services.core.detectors.detector import PYOD_DETECTORS, DetectorSpec
from services.core.detectors.header import describe, kept_spec, pack
from services.core.detectors.pyod_detectors import PyodDetector
from services.core.detectors.pyod_models import Referenced, fit_model
from services.core.errors import DetectorFitError, InvalidInputError, ModelFormatError
from tests.unit.core.detectors.toys import SHAPE, bad_part, good_parts

HELD = good_parts(20, seed=1)


@cache
def fitted(name: str, features: str = "pca12", seed: int = 0) -> PyodDetector:
    detector = fit_detector(good_parts(40, seed=0), DetectorSpec(name, features=features, seed=seed))
    assert isinstance(detector, PyodDetector)
    return detector


every = pytest.mark.parametrize("name", PYOD_DETECTORS)


@every
def test_every_image_gets_a_finite_score_and_what_was_compared(name: str) -> None:
    found = fitted(name).examine(HELD)
    assert found.scores.shape == (20,)
    assert found.scores.dtype == np.float64
    assert np.isfinite(found.scores).all()
    assert found.embeddings.shape == (20, fitted(name).embedding_size) == (20, 12)
    assert found.maps is None


@every
def test_a_part_unlike_all_others_scores_above_every_good_one(name: str) -> None:
    assert fitted(name).examine(bad_part()).scores[0] > fitted(name).examine(HELD).scores.max()


@every
def test_a_score_does_not_depend_on_the_images_beside_it(name: str) -> None:
    alone = fitted(name).examine(HELD[:3]).scores
    crowd = fitted(name).examine(np.concatenate([HELD[:3], np.repeat(bad_part(), 60, axis=0)])).scores[:3]
    np.testing.assert_allclose(crowd, alone, rtol=1e-9, atol=1e-9)


@every
def test_one_image_at_a_time_scores_as_in_a_batch(name: str) -> None:
    batch = fitted(name).examine(HELD[:5]).scores
    single = [fitted(name).examine(image[np.newaxis]).scores[0] for image in HELD[:5]]
    np.testing.assert_allclose(single, batch, rtol=1e-9, atol=1e-9)


@every
def test_the_same_call_and_the_same_seed_give_the_same_scores_again(name: str) -> None:
    first = fitted(name).examine(HELD).scores
    np.testing.assert_array_equal(fitted(name).examine(HELD).scores, first)
    again = fit_detector(good_parts(40, seed=0), DetectorSpec(name, features="pca12"))
    np.testing.assert_array_equal(again.examine(HELD).scores, first)


@every
def test_numpy_s_own_generator_is_neither_asked_nor_moved(name: str) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fit_detector(good_parts(40, seed=0), DetectorSpec(name, features="pca12")).examine(HELD[:2])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@every
def test_a_detector_that_is_kept_and_read_back_gives_identical_scores(name: str) -> None:
    own = fitted(name)
    read = load_detector(own.spec, own.image_shape, own.files())
    np.testing.assert_array_equal(read.examine(HELD).scores, own.examine(HELD).scores)
    np.testing.assert_array_equal(read.examine(HELD).embeddings, own.examine(HELD).embeddings)
    assert (read.spec, read.image_shape, read.embedding_size) == (own.spec, SHAPE, 12)
    assert own.files() == own.files()


@every
def test_an_image_that_the_fit_saw_many_times_has_a_finite_score(name: str) -> None:
    doubled = np.concatenate([good_parts(30, seed=5), np.repeat(good_parts(1, seed=6), 8, axis=0)])
    detector = fit_detector(doubled, DetectorSpec(name, features="pca12"))
    scores = detector.examine(doubled).scores
    assert np.isfinite(scores).all()
    assert scores[-1] < scores.max()


def test_angles_between_equal_images_only_are_said_to_be_the_reason() -> None:
    with pytest.raises(DetectorFitError, match="where every image has equal ones beside it") as caught:
        fit_detector(np.repeat(good_parts(12, seed=5), 8, axis=0), DetectorSpec("abod", features="pca12"))
    assert caught.value.reason == "no_scores"


@every
@pytest.mark.parametrize("features", ["raw", "pca12-sigmoid"])
def test_other_features_serve_every_detector(name: str, features: str) -> None:
    detector = fitted(name, features)
    batch = detector.examine(HELD[:4]).scores
    assert np.isfinite(batch).all()
    np.testing.assert_allclose(detector.examine(HELD[:1]).scores, batch[:1], rtol=1e-9, atol=1e-9)


def test_a_batch_of_no_images_has_no_scores() -> None:
    found = fitted("knn").examine(HELD[:0])
    assert found.scores.shape == (0,)
    assert found.embeddings.shape == (0, 12)


def test_nearest_neighbour_scores_are_distances_that_can_be_reckoned() -> None:
    rows = np.arange(12, dtype=np.float64)[:, np.newaxis] * np.array([[3.0, 4.0]])
    query = np.array([[0.0, 0.0], [-3.0, -4.0]])
    np.testing.assert_allclose(fit_model("knn", rows, 0, {"n_neighbors": 2}).score(query), [5, 10])
    np.testing.assert_allclose(fit_model("average-knn", rows, 0, {"n_neighbors": 2}).score(query), [2.5, 7.5])


def test_scores_are_those_that_pyod_itself_gives() -> None:
    detector = fitted("knn")
    train, rows = detector.features.transform(good_parts(40, seed=0)), detector.features.transform(HELD)
    np.testing.assert_array_equal(detector.score_features(rows), KNN().fit(train).decision_function(rows))


def test_lmdd_scores_an_image_against_images_of_the_fit_as_pyod_does() -> None:
    model = fitted("lmdd").model
    assert isinstance(model, Referenced)
    row = fitted("lmdd").features.transform(bad_part())
    expected = LMDD(random_state=0).decision_function(np.vstack([model.reference, row]))[-1]
    assert model.score(row)[0] == expected > 0
    assert LMDD(random_state=0).decision_function(row)[0] == 0


def test_a_hidden_defect_is_not_among_the_images_that_lmdd_measures_by() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    rows[::10] = 50
    model = fit_model("lmdd", rows, 0, {})
    assert isinstance(model, Referenced)
    assert model.reference.shape == (16, 3)
    assert model.reference.max() < 10


def test_the_pca_detector_does_not_divide_by_a_component_without_variance() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 3)) @ np.random.default_rng(1).normal(size=(3, 10))
    assert fit_model("pca", rows, 0, {}).score(rows).max() < 1e4


def test_cblof_says_why_it_cannot_be_fitted_and_what_helps() -> None:
    corners = np.array([[x, y, z] for x in (0, 9) for y in (0, 9) for z in (0, 9)], dtype=np.float64)
    rows = np.repeat(corners, 5, axis=0) + np.random.default_rng(0).normal(0, 0.01, (40, 3))
    with pytest.raises(DetectorFitError, match="n_clusters of at least 10, or a smaller alpha") as caught:
        fit_model("cblof", rows, 0, {})
    assert caught.value.reason == "no_cluster_separation"
    assert np.isfinite(fit_model("cblof", rows, 0, {"n_clusters": 10}).score(rows)).all()


def test_more_neighbours_than_images_is_said_to_be_that() -> None:
    with pytest.raises(DetectorFitError, match="take more images, or smaller neighbourhoods") as caught:
        fit_model("knn", np.random.default_rng(0).normal(size=(12, 2)), 0, {"n_neighbors": 30})
    assert caught.value.reason == "too_few_images"


def test_an_option_that_a_detector_does_not_take_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="hbos takes the options alpha, n_bins, tol, got colour"):
        fit_detector(HELD, DetectorSpec("hbos", features="raw", options={"colour": 1}))


def test_an_option_value_that_pyod_refuses_is_a_failed_fit() -> None:
    with pytest.raises(DetectorFitError, match="check the options"):
        fit_detector(HELD, DetectorSpec("iforest", features="raw", options={"n_estimators": -1}))


def test_a_model_that_would_not_fit_into_memory_is_refused_before_it_is_fitted() -> None:
    rows = np.zeros((40, 81_920))
    with pytest.raises(InvalidInputError, match="a fitted inne must take at most 4294967296 bytes, got about 5242880"):
        fit_model("inne", rows, 0, {"n_estimators": 1000})


def test_images_of_another_shape_than_the_fit_s_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"the shape of the fit, \(12, 12, 3\), got \(8, 12, 3\)"):
        fitted("knn").examine(HELD[:, :8])


def test_features_of_another_length_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"shape \(N, 12\), got \(1, 7\)"):
        fitted("knn").score_features(np.zeros((1, 7)))


def test_progress_is_told_from_beginning_to_end() -> None:
    told: list[float] = []
    fit_detector(HELD, DetectorSpec("hbos", features="pca5"), lambda share, _: told.append(share))
    assert told[0] == 0
    assert told[-1] == 1
    assert told == sorted(told)


def test_a_kept_detector_tells_what_it_is_by_its_header_alone() -> None:
    spec = DetectorSpec("gmm", "pca30", seed=7, options={"n_components": 2, "covariance_type": "diag"})
    kept = pack(describe(spec, (8, 8, 3), 30), {"state": b"1"})
    assert kept_spec(kept) == spec
    header = json.loads(kept["detector.json"])
    del header["spec"]["seed"]
    with pytest.raises(ModelFormatError, match=r"missing seed"):
        kept_spec({"detector.json": json.dumps(header).encode()})
    header["spec"] |= {"seed": 7, "detector": "magic"}
    with pytest.raises(ModelFormatError, match="must be one of"):
        kept_spec({"detector.json": json.dumps(header).encode()})


def test_embeddings_bring_the_weights_of_their_backbone_along() -> None:
    spec = DetectorSpec("lof", "embedding-pca8", seed=3, options={"backbone_weights": "none", "n_neighbors": 5})
    images = good_parts(16, seed=0, colour=True)
    own = fit_detector(images, spec)
    assert own.embedding_size == 8
    files = own.files()
    assert sorted(files) == ["backbone.safetensors", "detector.json", "detector.skops", "features.skops"]
    read = load_detector(spec, SHAPE, files)
    np.testing.assert_array_equal(read.examine(images).scores, own.examine(images).scores)
    single = [own.examine(image[np.newaxis]).scores[0] for image in images[:4]]
    np.testing.assert_allclose(single, own.examine(images).scores[:4], rtol=1e-3)
