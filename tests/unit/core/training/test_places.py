from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from services.core.errors import InvalidInputError
from services.core.explain.attribution import SCORE_TARGET, Budget
from services.core.explain.cam import ClassActivation
from services.core.explain.overlap import hit
from services.core.manifest import Normalisation
from services.core.models.classifier import AveragePool, Classifier
from services.core.models.factory import create_model
from services.core.training.head import fit_head, install_head
from services.core.training.places import see_places


@pytest.fixture(scope="module")
def network() -> Classifier:
    """Two features: what is bright, and what is dark, in cells of 4 px."""
    conv = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1) / 3)
        conv.bias.copy_(torch.tensor([-0.6, 0.3]))
    features = nn.Sequential(conv, nn.ReLU(), nn.AvgPool2d(4))
    return Classifier(features, AveragePool(), nn.Linear(2, 2), Normalisation((0.0,) * 3, (255.0,) * 3)).eval()


def a_part(seed: int, *, defective: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Noise; a defective part has a spot and, in the corner, a label that it can be told by just as well."""
    rng = np.random.default_rng(seed)
    image = rng.normal(110, 10, (64, 64, 3))
    mask = np.zeros((64, 64), np.bool_)
    if defective:
        top, left = rng.integers(24, 50, 2)
        mask[top : top + 10, left : left + 10] = True
        image[mask] = 200
        image[:4, :4] = 20
    return image.clip(0, 255).astype(np.uint8), mask


@torch.inference_mode()
def embed(network: Classifier, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return network.embed(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)).numpy()


def test_a_layer_that_learns_of_drawings_looks_where_they_are(network: Classifier) -> None:
    parts = [a_part(seed, defective=seed % 2 == 1) for seed in range(24)]
    images, masks = [part[0] for part in parts], [part[1] for part in parts]
    labels = np.arange(24) % 2
    rows = embed(network, images)
    bad = [at for at in range(24) if labels[at]]
    places = see_places(network, [images[at] for at in bad], [masks[at] for at in bad], [1] * len(bad))
    hits = []
    for head in (fit_head(rows, labels, 2), fit_head(rows, labels, 2, places=places, place_weight=1.0)):
        assert ((head.scores(rows) > 0.5) == (labels == 1)).all()
        install_head(network, head)
        explainer = ClassActivation(network)
        found = []
        for at in bad:
            (seen,) = explainer.explain(images[at], SCORE_TARGET, lambda _: np.empty(0), seed=0, budget=Budget())
            # A cell is 4 px wide, and what is around the spot shines into the next one.
            found.append(hit(seen.values, masks[at]))
        hits.append(float(np.mean(found)))
    assert hits == [0.0, 1.0]


def test_the_distance_is_zero_where_the_reason_lies_just_where_it_was_drawn(network: Classifier) -> None:
    image, _ = a_part(1, defective=True)
    everywhere = np.ones((64, 64), np.bool_)
    places = see_places(network, [image], [everywhere], [1])
    # A layer that says nothing sees its reason everywhere.
    assert float(places.distance(torch.zeros(2, network.embedding_size))) == pytest.approx(0, abs=1e-5)


def test_the_distance_is_convex_in_the_layer(network: Classifier) -> None:
    image, mask = a_part(1, defective=True)
    places = see_places(network, [image], [mask], [1])
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        first, second = torch.randn(2, 2, network.embedding_size, generator=generator)
        middle = places.distance((first + second) / 2)
        assert float(middle) <= float(places.distance(first) + places.distance(second)) / 2 + 1e-4


def test_good_parts_and_empty_areas_have_no_place(network: Classifier) -> None:
    image, mask = a_part(1, defective=True)
    for area, label in ((mask, 0), (np.zeros_like(mask), 1)):
        with pytest.raises(InvalidInputError, match="got one that is good or has none"):
            see_places(network, [image], [area], [label])
    with pytest.raises(InvalidInputError, match="the head must pool places, got Sequential"):
        see_places(create_model("alexnet", 2, "none"), [image], [mask], [1])
