import importlib

import numpy as np
import pytest
import torch

from services.core.errors import ExplanationError
from services.core.explain.attribution import SCORE_TARGET, Budget, hottest
from services.core.explain.lime import Lime
from services.core.explain.superpixels import superpixels
from tests.unit.core.explain.toys import brightness_at, two_classes

SIDE = 32
BLACK = (0, 0, 0)


def weights_at(rows, columns):
    weights = np.zeros((SIDE, SIDE))
    weights[rows, columns] = 1.0
    return weights


def white():
    return np.full((SIDE, SIDE, 3), 255, np.uint8)


CORNER = two_classes(brightness_at(weights_at(slice(0, 4), slice(0, 4))))


def explained(predict=CORNER, budget=None, seed=0, image=None, target=SCORE_TARGET, **settings):
    settings = {"fill": BLACK, **settings}
    found = Lime(**settings).explain(
        white() if image is None else image, target, predict, seed=seed, budget=budget or Budget(256, 16)
    )
    return list(found)


def test_the_patch_that_carries_the_answer_gets_its_whole_effect_and_the_others_none():
    values = explained(penalty=1e-4)[-1].values
    # Shown or hidden, the first of 8 x 8 patches moves the answer from 0 to 1.
    np.testing.assert_allclose(values[:4, :4], 1.0, atol=0.01)
    np.testing.assert_allclose(values[4:], 0.0, atol=0.01)
    np.testing.assert_allclose(values[:, 4:], 0.0, atol=0.01)


def test_a_linear_model_is_found_by_its_weights():
    weights = np.kron(np.arange(1.0, 17.0).reshape(4, 4), np.ones((8, 8)))
    values = explained(two_classes(brightness_at(weights)), across=4, penalty=1e-4)[-1].values
    np.testing.assert_allclose(values * weights.sum() / 64, weights, rtol=0.02)


def test_a_small_effect_is_not_penalised_away():
    faint = two_classes(lambda images: 0.5 + 0.001 * brightness_at(weights_at(slice(0, 4), slice(0, 4)))(images))
    values = explained(faint)[-1].values
    assert values[:4, :4].min() > 0
    assert values[:4, :4].min() > 5 * np.abs(values[4:]).max()


def test_it_agrees_with_captums_own_lime_at_a_fitting_penalty():
    attr = importlib.import_module("captum.attr")
    linear = importlib.import_module("captum._utils.models.linear_model")
    lime = importlib.import_module("captum.attr._core.lime")
    weights = np.random.default_rng(3).uniform(0, 1, (SIDE, SIDE))
    predict = two_classes(brightness_at(weights))
    ours = explained(predict, across=4, penalty=1e-3, budget=Budget(512, 16))[-1].values
    library = attr.Lime(
        lambda images: torch.from_numpy(predict(images.numpy())[:, 1]),
        interpretable_model=linear.SkLearnLasso(alpha=1e-5),
        similarity_func=lime.get_exp_kernel_similarity_function("cosine", 0.25),
    )
    torch.manual_seed(0)
    patches = torch.from_numpy(superpixels(white(), 4))
    theirs = library.attribute(
        torch.from_numpy(white())[None],
        feature_mask=patches[None, ..., None],
        baselines=0,
        n_samples=512,
        perturbations_per_eval=16,
    )[0, ..., 0].numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0.05)


def test_maps_come_early_and_the_last_says_so():
    steps = explained(budget=Budget(300, 16))
    assert [step.passes for step in steps] == [128, 256, 300]
    assert [step.final for step in steps] == [False, False, True]
    assert not any(step.partial for step in steps)
    assert all(0 <= step.stability <= 1 for step in steps)


def test_no_more_passes_are_spent_than_allowed_and_batches_are_no_larger():
    seen = []

    def predict(images):
        seen.append(len(images))
        assert images.dtype == np.uint8
        assert images.shape[1:] == (SIDE, SIDE, 3)
        return CORNER(images)

    assert explained(predict, Budget(70, 16))[-1].passes == sum(seen) == 70
    assert max(seen) == 16


def test_a_stable_map_ends_the_work():
    steps = explained(budget=Budget(1000, 16, min_stability=0.5))
    assert steps[-1].final
    assert steps[-1].passes < 1000
    assert steps[-1].stability >= 0.5
    assert not steps[-1].partial


def test_when_time_runs_out_there_is_the_map_so_far():
    asked = iter([False] * 9)
    steps = explained(budget=Budget(1000, 16, out_of_time=lambda: next(asked, None) is not False))
    assert steps[-1].passes == 160
    assert steps[-1].final
    assert steps[-1].partial


def test_equal_seeds_give_equal_maps_and_the_global_generator_is_left_alone():
    noisy = two_classes(brightness_at(np.random.default_rng(1).uniform(0, 1, (SIDE, SIDE))))
    state = torch.random.get_rng_state()
    first, again, other = (explained(noisy, Budget(64, 16), seed)[-1].values for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_hidden_patches_show_the_fill():
    def predict(images):
        assert set(np.unique(images)) <= {255, 7}
        return CORNER(images)

    explained(predict, Budget(16, 16), fill=(7, 7, 7))


def test_a_target_is_the_class_that_is_asked_for():
    good, bad = (explained(target=target, budget=Budget(64, 16))[-1].values for target in (0, 1))
    np.testing.assert_allclose(good, -bad, atol=1e-5)
    assert hottest(bad)[:4, :4].all()


def test_a_map_without_a_patch_that_counts_is_a_failure():
    with pytest.raises(ExplanationError, match="got none after 64 passes") as caught:
        explained(two_classes(lambda images: np.full(len(images), 0.75)), Budget(64, 16))
    assert caught.value.reason == "flat_map"
    with pytest.raises(ExplanationError) as caught:
        explained(image=np.zeros((SIDE, SIDE, 3), np.uint8), budget=Budget(64, 16))
    assert caught.value.reason == "flat_map"


def test_answers_that_are_no_numbers_are_refused():
    with pytest.raises(ExplanationError) as caught:
        explained(lambda images: np.full((len(images), 2), np.nan, np.float32))
    assert caught.value.reason == "nan_scores"


def test_an_image_smaller_than_the_patches_is_explained_pixel_by_pixel():
    image = np.full((4, 5, 3), 255, np.uint8)
    values = explained(two_classes(lambda images: images[:, 0, 0, 0] / 255.0), image=image)[-1].values
    assert values.shape == (4, 5)
    assert np.isfinite(values).all()
