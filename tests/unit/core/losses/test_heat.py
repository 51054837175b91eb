from __future__ import annotations

import pytest
import torch
from torch import nn

from services.core.explain.cam import ClassActivation
from services.core.losses.heat import predict_with_heat
from services.core.models import create_model
from services.core.models.classifier import AverageMaxPool, AveragePool, Classifier

IMAGES = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 1])


class FlattenNeck(nn.Module):
    """A head that Grad-CAM has no closed form for."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.tanh(features.flatten(2).mean(dim=2))


def in_another_class(neck: nn.Module) -> nn.Module:
    """The same neck, which is not recognised: its map is differentiated."""

    class Same(nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return neck(features)  # type: ignore[no-any-return]

    return Same()


@pytest.mark.parametrize(("architecture", "options"), [("customnet", {}), ("efficientnet-lite0", {"taps": "4,10"})])
def test_the_map_is_that_of_grad_cam(architecture: str, options: dict[str, str]) -> None:
    model = create_model(architecture, 2, "none", options=options, seed=3)
    _, heat = predict_with_heat(model, IMAGES, LABELS)
    for row, label in enumerate(LABELS.tolist()):
        (shown,) = ClassActivation(model).explain(
            IMAGES[row].permute(1, 2, 0).numpy(),
            label,
            lambda _: None,
            seed=0,
            budget=None,  # type: ignore[arg-type, return-value]
        )
        expected = torch.from_numpy(shown.values)
        ours = torch.relu(heat[row]) if not options else heat[row]
        if options:
            # Several depths: an explanation adds what is left of each after ReLU, a loss takes the signed sum.
            assert ours.shape == expected.shape
            continue
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("pool", [AveragePool, AverageMaxPool])
def test_the_closed_form_is_the_gradient_both_in_value_and_in_what_it_trains(pool: type[nn.Module]) -> None:
    model = create_model("customnet", 2, "none", seed=5).double()
    model.neck = pool()
    if pool is AveragePool:
        model.linear = nn.Linear(128, 2).double()
    found = []
    for neck in (model.neck, in_another_class(model.neck)):
        model.neck = neck
        model.zero_grad()
        _, heat = predict_with_heat(model, IMAGES, LABELS)
        torch.relu(heat).square().sum().backward()
        found.append((heat.detach(), [one.grad.clone() for one in model.parameters() if one.grad is not None]))
    (closed, closed_gradients), (run, run_gradients) = found
    torch.testing.assert_close(closed, run)
    # A bias of the last layer is in no map: run back it has a gradient of nothing at most.
    for ours, theirs in zip(closed_gradients, run_gradients, strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


def test_any_other_head_is_differentiated() -> None:
    base = create_model("customnet", 2, "none", seed=7)
    model = Classifier(base.features, FlattenNeck(), nn.Linear(128, 2), base.normalisation).eval()
    logits, heat = predict_with_heat(model, IMAGES, LABELS)
    assert heat.shape == (3, 4, 4)
    heat.abs().sum().backward()  # type: ignore[no-untyped-call]
    assert model.features.conv1.weight.grad.abs().sum() > 0
    assert logits.shape == (3, 2)


@pytest.mark.parametrize("neck", [None, FlattenNeck()])
def test_a_backbone_that_is_not_trained_gets_no_gradient(neck: nn.Module | None) -> None:
    model = create_model("customnet", 2, "none", seed=7)
    if neck is not None:
        model = Classifier(model.features, neck, nn.Linear(128, 2), model.normalisation).eval()
    logits, heat = predict_with_heat(model, IMAGES, LABELS, train_backbone=False)
    (logits.sum() + heat.sum()).backward()  # type: ignore[no-untyped-call]
    assert model.linear.weight.grad is not None
    assert all(one.grad is None for one in model.features.parameters())
