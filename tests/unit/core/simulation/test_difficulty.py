"""The simulated line must not be solvable from raw pixels: whoever tests a model on it would measure nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from services.core.simulation.line import PRODUCTS, draw_part

LIMIT = 0.8
PARTS = 200


def draw_features(product: str, first_seed: int, size_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pixels, statistics, labels = [], [], []
    for seed in range(first_seed, first_seed + PARTS):
        part = draw_part(product, seed, defect_rate=0.5, size_px=size_px)
        pixels.append(cv2.resize(part.image, (24, 24), interpolation=cv2.INTER_AREA).ravel() / 255.0)
        statistics.append(np.concatenate([part.image.mean((0, 1)), part.image.std((0, 1))]))
        labels.append(part.is_defective)
    return np.array(pixels), np.array(statistics), np.array(labels)


@pytest.mark.parametrize("product", PRODUCTS)
def test_neither_raw_pixels_nor_overall_brightness_tell_good_from_bad(product: str) -> None:
    size_px = 128 if product == "zipper" else 192
    train, test = draw_features(product, 0, size_px), draw_features(product, 1_000_000, size_px)
    for kind in (0, 1):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=200, tol=1e-3))
        model.fit(train[kind], train[2])
        assert roc_auc_score(test[2], model.decision_function(test[kind])) < LIMIT
