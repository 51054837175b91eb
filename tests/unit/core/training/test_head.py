from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from services.core.errors import InvalidInputError
from services.core.models import create_model
from services.core.training.head import LinearHead, fit_head, install_head


def clusters(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(0, 1.5, (classes, 20))
    return (centres[labels] + rng.normal(0, 1, (n, 20))).astype(np.float32) * 3 + 7, labels


@pytest.mark.parametrize("classes", [2, 4])
def test_the_fit_agrees_with_scikit_learns(classes: int) -> None:
    embeddings, labels = clusters(300, classes)
    ours = fit_head(embeddings, labels, classes, regularisation=0.1, max_steps=500).probabilities(embeddings)
    share = np.array([0.5] + [0.5 / (classes - 1)] * (classes - 1))
    weight = (share / np.bincount(labels))[labels]
    # The loss here is a weighted mean, scikit-learn's a weighted sum.
    data = StandardScaler().fit_transform(embeddings)
    if classes == 2:
        # Two rows with a free difference carry half the penalty of scikit-learn's single row.
        theirs = LogisticRegression(C=0.2, max_iter=5000, tol=1e-8).fit(data, labels, weight * 300)
    else:
        theirs = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8).fit(data, labels, weight * 300)
    assert np.abs(ours - theirs.predict_proba(data)).max() < 0.01


def test_scores_and_probabilities_belong_together() -> None:
    embeddings, labels = clusters(200, 3)
    head = fit_head(embeddings, labels, 3)
    probabilities = head.probabilities(embeddings)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.allclose(head.scores(embeddings), 1 - probabilities[:, 0])
    assert ((head.scores(embeddings) > 0.5) == (labels > 0)).mean() > 0.9


def test_the_same_data_give_the_same_layer_and_constant_columns_do_no_harm() -> None:
    embeddings, labels = clusters(100, 2)
    embeddings[:, 3] = 5.0
    first, second = fit_head(embeddings, labels, 2), fit_head(embeddings, labels, 2)
    assert np.array_equal(first.weight, second.weight)
    assert np.isfinite(first.weight).all()
    assert np.abs(first.weight[:, 3]).max() < 1e-3


def test_classes_count_alike_however_many_parts_they_have() -> None:
    embeddings, labels = clusters(2000, 2)
    keep = (labels == 0) | (np.arange(2000) % 20 == 1)
    scores = fit_head(embeddings[keep], labels[keep], 2).scores(embeddings)
    assert abs((scores[labels == 1] > 0.5).mean() - (scores[labels == 0] < 0.5).mean()) < 0.1


def test_an_installed_head_is_what_the_network_says() -> None:
    model = create_model("customnet", 3, "none")
    rng = np.random.default_rng(0)
    head = LinearHead(rng.normal(size=(3, 256)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    install_head(model, head)
    with torch.no_grad():
        prediction = model(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8))
    assert np.allclose(
        head.probabilities(prediction.embedding.numpy()), prediction.logits.softmax(dim=1).numpy(), atol=1e-5
    )
    with pytest.raises(InvalidInputError, match=r"shape \(3, 256\), got \(2, 256\)"):
        install_head(model, LinearHead(head.weight[:2], head.bias[:2]))


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (np.zeros((4, 2)), np.array([0, 0, 0, 0]), "every class of 0..1 must occur"),
        (np.zeros((4, 2)), np.array([0, 1, 2, 0]), "every class of 0..1 must occur"),
        (np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), "finite"),
        (np.zeros((4, 2)), np.array([0, 1]), "one label each"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(embeddings: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_head(embeddings, labels, 2)


def test_a_row_of_weight_three_is_as_good_as_three_rows() -> None:
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(40, 5)).astype(np.float32)
    labels = np.arange(40) % 2
    embeddings[labels == 1] += 1
    # Columns are standardised by plain rows, whatever they weigh: these are so already, either way.
    pairs = np.concatenate([embeddings, -embeddings])
    pairs /= pairs.std(axis=0)
    both = np.concatenate([labels, 1 - labels])
    weighted = fit_head(pairs, both, 2, sample_weight=np.full(80, 3.0), max_steps=500)
    repeated = fit_head(np.tile(pairs, (3, 1)), np.tile(both, 3), 2, max_steps=500)
    assert np.allclose(weighted.scores(pairs), repeated.scores(pairs), atol=1e-4)


def test_heavier_rows_are_fitted_before_lighter_ones() -> None:
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(200, 4)).astype(np.float32)
    labels = (embeddings[:, 0] > 0).astype(np.int64)
    # One part says otherwise.
    labels[0] = 1 - labels[0]
    light = fit_head(embeddings, labels, 2)
    heavy = fit_head(embeddings, labels, 2, sample_weight=np.where(np.arange(200) == 0, 400.0, 1.0))
    said = [head.probabilities(embeddings[:1])[0, labels[0]] for head in (light, heavy)]
    assert said[0] < 0.5 < said[1]


def test_weights_must_be_above_zero() -> None:
    with pytest.raises(InvalidInputError, match="sample weights must be finite and above 0, one for each of 4 rows"):
        fit_head(np.eye(4), np.array([0, 1, 0, 1]), 2, sample_weight=np.array([1.0, 1.0, 0.0, 1.0]))
