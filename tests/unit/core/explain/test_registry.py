import subprocess
import sys

import numpy as np
import pytest
from torch import nn

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.attribution import METHODS, Budget
from services.core.explain.registry import build_explainer
from services.core.explain.sampling import ESTIMATORS
from services.core.manifest import Normalisation
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from tests.unit.core.explain.toys import brightness_at, two_classes

FILL = (10, 20, 30)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_built_by_name_and_explains_an_image(method):
    classifier = create_model("customnet", 2, "none")
    explainer = build_explainer(method, fill=FILL, classifier=classifier)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    predict = two_classes(brightness_at(np.ones((32, 32))))
    *_, last = explainer.explain(image, 1, predict, seed=0, budget=Budget(max_passes=128))
    assert last.method == explainer.method == method
    assert last.final
    assert last.values.ndim == 2
    assert last.passes <= 128
    assert last.coverage > 0


@pytest.mark.parametrize("method", [*ESTIMATORS, "occlusion", "lime"])
def test_what_hides_parts_hides_them_with_the_fill(method):
    assert build_explainer(method, fill=FILL).fill == FILL


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_what_looks_into_the_network_needs_one_with_convolutions(method):
    with pytest.raises(ExplanationError, match="got a model that only answers") as caught:
        build_explainer(method, fill=FILL)
    assert caught.value.reason == "needs_the_network"
    flat = Classifier(nn.Flatten(), nn.Identity(), nn.Linear(12, 2), Normalisation((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(ExplanationError, match="needs convolutional layers") as caught:
        build_explainer(method, fill=FILL, classifier=flat)
    assert caught.value.reason == "no_conv_layers"


def test_a_layer_can_be_chosen():
    classifier = create_model("customnet", 2, "none")
    assert (
        build_explainer("gradcam", fill=FILL, classifier=classifier, layer="features.pool4").layer == "features.pool4"
    )


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"one of rise, .*anomaly-map, got 'saliency'"):
        build_explainer("saliency", fill=FILL)


def test_what_services_need_of_explanations_loads_no_torch():
    modules = ("attribution", "heatmap", "faithfulness", "grade", "overlap", "registry", "sampling", "resizing")
    lines = [f"import services.core.explain.{module}" for module in modules]
    lines.append("import sys; sys.exit(int('torch' in sys.modules))")
    assert subprocess.run([sys.executable, "-c", "; ".join(lines)], check=False).returncode == 0
