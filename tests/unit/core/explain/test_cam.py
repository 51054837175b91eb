import copy
import importlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.attribution import SCORE_TARGET, Budget
from services.core.explain.cam import ClassActivation, has_conv_layers, layer_at_stride, usual_layer
from services.core.manifest import Normalisation
from services.core.models.classifier import AverageMaxPool, AveragePool, Classifier, MultiScalePool
from services.core.models.factory import create_model
from services.core.models.serving import ServingModule, fold_batch_norm
from services.core.models.torchvision_import import torchvision_models
from tests.unit.core.explain.toys import never

PLAIN = Normalisation((0.0,) * 3, (1.0,) * 3)
BUDGET = Budget()


def values_of(classifier, image, method="gradcam", target=SCORE_TARGET, layer=None):
    explainer = ClassActivation(classifier, method, layer)
    (found,) = explainer.explain(image, target, never, seed=0, budget=BUDGET)
    assert found.final
    assert found.method == method
    assert found.passes == 1
    assert found.values.dtype == np.float32
    return found.values


def red_and_green(neck, weight):
    """Two channels: red and green as they are."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    conv.weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1)
    linear = nn.Linear(len(weight[0]), len(weight))
    linear.weight.data = torch.tensor(weight)
    linear.bias.data.zero_()
    return Classifier(nn.Sequential(conv), neck, linear, PLAIN).eval()


def two_pixels():
    """Red 2 and 0, green 4 and 8."""
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, :, 0] = 2, 0
    image[0, :, 1] = 4, 8
    return image


class Towers(nn.Module):
    """Two depths, the second half as fine as the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, padding=1, stride=2)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return [x, torch.relu(self.second(x))]


def small_net(neck, classes=3, seed=0):
    torch.manual_seed(seed)
    if isinstance(neck, MultiScalePool):
        features, width = Towers(), 20
    else:
        features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 6, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
        )
        features[1].running_mean.normal_()
        features[4].running_var.uniform_(0.5, 2)
        width = 12 if isinstance(neck, AverageMaxPool) else 6
    return Classifier(features, neck, nn.Linear(width, classes), Normalisation((127.5,) * 3, (64.0,) * 3)).eval()


class AsBlackBox(nn.Module):
    """A neck that nobody knows to be linear."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def hooked(classifier):
    """The same network, whose head is not known to pool: explained by running the gradient."""
    twin = copy.deepcopy(classifier)
    twin.neck = AsBlackBox(twin.neck)
    return twin


def picture(side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def stretched(values):
    return (values - values.min()) / (np.ptp(values) + 1e-7)


def test_grad_cam_of_an_average_pooled_head_by_hand():
    classifier = red_and_green(AveragePool(), [[0.0, 0.0], [3.0, -1.0]])
    # alpha = (3, -1) / 2: (3 * 2 - 4) / 2 = 1 and (0 - 8) / 2 = -4, which the rectifier cuts.
    np.testing.assert_allclose(values_of(classifier, two_pixels(), target=1), [[1.0, 0.0]])
    np.testing.assert_allclose(values_of(classifier, two_pixels(), "hirescam", target=1), [[1.0, -4.0]])


def test_grad_cam_of_an_average_and_max_pooled_head_by_hand():
    classifier = red_and_green(AverageMaxPool(), [[0.0] * 4, [3.0, 0.0, 0.0, 5.0]])
    # Grad-CAM: alpha = (3 / 2, 5 / 2). HiResCAM: 3 / 2 of red, and 5 of green where it is highest.
    np.testing.assert_allclose(values_of(classifier, two_pixels(), target=1), [[3 + 10, 20]])
    np.testing.assert_allclose(values_of(classifier, two_pixels(), "hirescam", target=1), [[3, 40]])


def test_the_score_of_two_classes_is_explained_by_the_difference_of_their_logits():
    classifier = red_and_green(AveragePool(), [[1.0, 4.0], [3.0, 3.0]])
    difference = red_and_green(AveragePool(), [[0.0, 0.0], [2.0, -1.0]])
    np.testing.assert_allclose(
        values_of(classifier, two_pixels(), "hirescam"), values_of(difference, two_pixels(), "hirescam", target=1)
    )


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
@pytest.mark.parametrize("neck", [AveragePool, AverageMaxPool, MultiScalePool])
@pytest.mark.parametrize("target", [SCORE_TARGET, 0, 2])
def test_the_closed_form_is_what_the_gradient_gives(method, neck, target):
    classifier = small_net(neck())
    closed = values_of(classifier, picture(), method, target)
    if neck is MultiScalePool:
        # What the gradient says of the direct way of each depth.
        by_gradient = values_of(hooked(classifier), picture(), method, target, "features")
    else:
        by_gradient = values_of(hooked(classifier), picture(), method, target)
    assert method == "gradcam" or np.abs(closed).max() > 0
    np.testing.assert_allclose(closed, by_gradient, rtol=1e-4, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([AveragePool, AverageMaxPool, MultiScalePool]))
def test_hires_cam_of_a_linear_head_sums_to_the_logit_without_its_bias(seed, neck):
    classifier = small_net(neck(), seed=seed)
    image = picture(seed=seed)
    values = values_of(classifier, image, "hirescam", target=1)
    with torch.no_grad():
        logits = classifier(torch.from_numpy(image).permute(2, 0, 1)[None]).logits[0]
    assert values.sum() == pytest.approx(float(logits[1] - classifier.linear.bias.detach()[1]), abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.125, 8, width=32))
def test_maps_are_linear_in_the_heads_weights(seed, factor):
    classifier = small_net(AverageMaxPool(), seed=seed)
    image = picture(seed=seed)
    for method in ("gradcam", "hirescam"):
        once = values_of(classifier, image, method, target=1)
        stronger = copy.deepcopy(classifier)
        stronger.linear.weight.data *= factor
        np.testing.assert_allclose(values_of(stronger, image, method, target=1), factor * once, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
@pytest.mark.parametrize("layer", [None, "features.2"])
def test_a_mirrored_image_has_a_mirrored_map(method, layer):
    classifier = red_and_green(AverageMaxPool(), [[0.1, 0.2, 0.3, 0.4], [1.0, -2.0, 0.5, 3.0]])
    layer = None if layer is None else "features.0"
    image = picture(8)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_allclose(
        values_of(classifier, mirrored, method, layer=layer),
        values_of(classifier, image, method, layer=layer)[:, ::-1],
        rtol=1e-5,
    )


@pytest.mark.parametrize("layer", ["features.0", "features.1", "features.2", "features.5"])
def test_a_hooked_layer_agrees_with_the_grad_cam_library(layer):
    torchvision_models()  # declares what is missing, without which the library's import fails
    library = importlib.import_module("pytorch_grad_cam")
    targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")
    classifier = small_net(AverageMaxPool())

    class LogitsOnly(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = copy.deepcopy(classifier)
            for module in self.net.modules():
                if isinstance(module, nn.ReLU):
                    module.inplace = False

        def forward(self, x):
            return self.net(x).logits

    model = LogitsOnly()
    image = picture()
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    module = dict(model.net.named_modules())[layer]
    for method, theirs_class in (("gradcam", library.GradCAM), ("hirescam", library.HiResCAM)):
        ours = np.maximum(values_of(classifier, image, method, target=2, layer=layer), 0)
        with theirs_class(model=model, target_layers=[module]) as cam:
            theirs = cam(input_tensor=tensor, targets=[targets.ClassifierOutputTarget(2)])[0]
        # The library stretches each map to 0..1, brings it to the image's size and stretches it again.
        ours = stretched(cv2.resize(stretched(ours), theirs.shape[::-1]))
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("neck", [AveragePool, AverageMaxPool])
def test_the_closed_form_agrees_with_captum(neck):
    attr = importlib.import_module("captum.attr")
    classifier = small_net(neck())
    image = picture()
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    theirs = attr.LayerGradCam(lambda x: classifier(x).logits, classifier.features)
    expected = theirs.attribute(tensor, target=1, relu_attributions=True)[0, 0].detach().numpy()
    np.testing.assert_allclose(values_of(classifier, image, target=1), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [None, "features.0", "features.3"])
def test_folding_batch_norm_changes_a_map_of_what_follows_it_by_nothing(layer):
    classifier = small_net(AveragePool())
    folded = copy.deepcopy(classifier)
    fold_batch_norm(folded.features)
    # Folded, the convolution gives what the batch norm gave.
    before = layer and f"features.{int(layer[-1]) + 1}"
    np.testing.assert_allclose(
        values_of(folded, picture(), layer=layer), values_of(classifier, picture(), layer=before), rtol=1e-3, atol=1e-5
    )


def test_a_network_that_serves_in_half_precision_is_explained_too():
    classifier = small_net(AverageMaxPool())
    plain = values_of(classifier, picture(), "hirescam")
    ServingModule(classifier, precision="bfloat16")
    for layer in (None, "features.5"):
        served = values_of(classifier, picture(), "hirescam", layer=layer)
        assert np.corrcoef(served.ravel(), plain.ravel())[0, 1] > 0.99


def test_a_hooked_layer_leaves_no_hook_and_no_gradient_behind():
    classifier = hooked(small_net(AveragePool()))
    with torch.inference_mode():
        values_of(classifier, picture(), layer="features.0")
    assert not classifier.features[0]._forward_hooks
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_what_a_layer_does_not_reach_is_zero():
    # A dead unit: its weights are zero, so neither its map nor its gradient has anything.
    classifier = red_and_green(AveragePool(), [[0.0, 0.0], [0.0, 0.0]])
    assert (values_of(classifier, two_pixels(), target=1) == 0).all()
    assert (values_of(classifier, two_pixels(), target=1, layer="features.0") == 0).all()


def test_a_black_image_has_a_finite_map():
    for layer in (None, "features.3"):
        values = values_of(small_net(AveragePool()), np.zeros((32, 32, 3), np.uint8), layer=layer)
        assert np.isfinite(values).all()


@pytest.mark.parametrize("layer", [None, "features.3"])
def test_a_network_that_answers_nan_is_refused(layer):
    classifier = small_net(AveragePool())
    classifier.linear.bias.data[0] = torch.nan
    with pytest.raises(ExplanationError, match="finite logits") as caught:
        values_of(classifier, picture(), layer=layer)
    assert caught.value.reason == "nan_scores"


def test_a_network_without_convolutions_is_refused():
    classifier = Classifier(nn.Sequential(nn.Flatten()), nn.Identity(), nn.Linear(12, 2), PLAIN)
    assert not has_conv_layers(classifier)
    with pytest.raises(ExplanationError, match="needs convolutional layers, got Sequential") as caught:
        ClassActivation(classifier)
    assert caught.value.reason == "no_conv_layers"


@pytest.mark.parametrize("layer", ["linear", "neck"])
def test_a_layer_that_gives_no_maps_of_features_is_refused(layer):
    with pytest.raises(ExplanationError, match="layer must give maps") as caught:
        values_of(hooked(small_net(AveragePool())), picture(), layer=layer)
    assert caught.value.reason == "no_conv_layers"


def test_wrong_names_are_refused():
    classifier = small_net(AveragePool())
    with pytest.raises(InvalidInputError, match=r"must be a module of the network, got 'features\.99'"):
        ClassActivation(classifier, layer="features.99")
    with pytest.raises(InvalidInputError, match="gradcam, hirescam, got 'scorecam'"):
        ClassActivation(classifier, method="scorecam")
    for target in (-2, 3):
        with pytest.raises(InvalidInputError, match=rf"a class in 0..2, got {target}"):
            values_of(classifier, picture(), target=target)


def test_the_deepest_block_of_a_stride_is_found():
    lite0 = create_model("efficientnet-lite0", 2, "none")
    assert layer_at_stride(lite0, 16) == "features.blocks.10"
    assert layer_at_stride(lite0, 8) == "features.blocks.4"
    assert layer_at_stride(create_model("resnet18", 2, "none"), 16) == "features.layer3"
    with pytest.raises(InvalidInputError, match="that of a block of the network, got 64"):
        layer_at_stride(lite0, 64)


def test_hires_cam_looks_at_stride_8_and_grad_cam_at_what_is_pooled():
    lite0 = create_model("efficientnet-lite0", 2, "none")
    assert usual_layer(lite0, "gradcam") is None
    assert usual_layer(lite0, "hirescam") == "features.blocks.4"
    assert usual_layer(create_model("customnet", 2, "none"), "hirescam") == "features.relu8"
    assert usual_layer(create_model("efficientnet-lite0", 2, "none", options={"taps": "4,10"}), "hirescam") is None
    assert usual_layer(small_net(AveragePool()), "hirescam") is None
