from __future__ import annotations

import dataclasses

import pytest
import safetensors.torch
import torch

from services.core.errors import InvalidInputError, ModelFormatError
from services.core.manifest import Calibration, Lineage, ModelManifest, Normalisation
from services.core.models import ARCHITECTURES, create_model
from services.core.models.serving import ServingModule, build_model, load_serving_module
from services.core.models.state import load_state, save_state
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint


def manifest_for(architecture: str, classes: tuple[str, ...] = ("good", "defect")) -> ModelManifest:
    model = create_model(architecture, len(classes), "none")
    return ModelManifest(
        alias="default",
        version=1,
        architecture=architecture,
        classes=classes,
        preprocessing=Preprocessing(),
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=OperatingPoint(0.5, 0.5, 0.5),
        calibration=Calibration("escape_rate", 0.05, 0.95, "clopper-pearson", 100, 100, 0.0, 0.0, 0.0, 0.0, 0.0),
        lineage=Lineage("simulation", "", 0, 1, 1, 1, "0" * 64),
        metrics={},
        code_version="0",
        created_at_ns=0,
    )


def images(batch: int = 4, side: int = 96) -> torch.Tensor:
    # Smooth pictures: pure noise would drive networks without trained weights into corners no photo reaches.
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_serving_says_in_float32_what_the_network_says(architecture: str) -> None:
    model = create_model(architecture, 3, "none", seed=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = model(images().permute(0, 3, 1, 2))
    served = ServingModule(model, precision="float32")(images())
    assert torch.allclose(served.embeddings, expected.embedding, rtol=1e-3, atol=1e-4)
    assert torch.allclose(served.probabilities, expected.logits.softmax(dim=1), atol=1e-4)
    assert torch.allclose(served.scores, 1 - served.probabilities[:, 0], atol=1e-6)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.features.modules())


@pytest.mark.parametrize("architecture", ["efficientnet-lite0", "resnet18"])
def test_bfloat16_keeps_the_score_and_returns_float32(architecture: str) -> None:
    weights = "offline" if architecture == "efficientnet-lite0" else "none"
    served = [
        ServingModule(create_model(architecture, 2, weights), precision=precision)(images(8))  # type: ignore[arg-type]
        for precision in ("float32", "bfloat16")
    ]
    assert {tensor.dtype for tensor in served[1]} == {torch.float32}
    assert (served[0].scores - served[1].scores).abs().max() < 0.02
    similarity = torch.nn.functional.cosine_similarity(served[0].embeddings, served[1].embeddings)
    assert similarity.min() > 0.995


def test_a_frames_score_does_not_depend_on_its_batch_mates() -> None:
    module = ServingModule(create_model("efficientnet-lite0", 2), precision="float32")
    batch = images(5)
    together = module(batch).scores
    alone = torch.cat([module(batch[i : i + 1]).scores for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_very_good_part_still_has_a_score_above_zero() -> None:
    model = create_model("customnet", 2, "none")
    with torch.no_grad():
        model.linear.weight.zero_()
        model.linear.bias.copy_(torch.tensor([40.0, 0.0]))
    scores = ServingModule(model, precision="float32")(images()).scores
    assert (scores > 0).all()
    assert (scores < 1e-15).all()


def test_weights_come_back_through_safetensors_and_equal_weights_give_equal_bytes() -> None:
    manifest = manifest_for("customnet")
    model = create_model("customnet", 2, "none", seed=9)
    data = save_state(model)
    assert save_state(build_model(manifest, data)) == data
    served = load_serving_module(manifest, data, precision="float32")(images())
    with torch.no_grad():
        expected = model(images().permute(0, 3, 1, 2)).logits.softmax(dim=1)
    assert torch.allclose(served.probabilities, expected, atol=1e-4)


def edited(**changes: torch.Tensor | None) -> bytes:
    state = dict(create_model("customnet", 2, "none").state_dict())
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor
    return safetensors.torch.save(state)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must be a safetensors file"),
        (b"\x80\x04pickle", "must be a safetensors file"),
        (edited()[:-10], "must be a safetensors file"),
        (edited(linear__bias=None), "missing linear.bias"),
        (edited(linear__extra=torch.zeros(1)), "known tensors, got linear.extra"),
        (edited(linear__bias=torch.zeros(3)), r"linear.bias must have shape \(2,\), got \(3,\)"),
        (edited(linear__bias=torch.zeros(2, dtype=torch.float64)), "linear.bias must be of type torch.float32"),
        (edited(linear__bias=torch.tensor([0.0, torch.nan])), "linear.bias must be finite"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused_and_change_nothing(data: bytes, message: str) -> None:
    model = create_model("customnet", 2, "none")
    before = save_state(model)
    with pytest.raises(ModelFormatError, match=message):
        load_state(model, data)
    assert save_state(model) == before


def test_a_manifest_that_does_not_describe_the_network_is_refused() -> None:
    manifest = manifest_for("customnet")
    data = save_state(create_model("customnet", 2, "none"))
    for wrong, message in (
        (dataclasses.replace(manifest, embedding_size=100), "embedding_size of customnet must be 256"),
        (dataclasses.replace(manifest, architecture="skynet"), "architecture must be one of"),
        (dataclasses.replace(manifest, architecture_options={"taps": "4"}), "customnet takes the options"),
        (dataclasses.replace(manifest, normalisation=Normalisation((0.0,) * 3, (1.0,) * 3)), "normalisation of"),
        (dataclasses.replace(manifest, classes=("good", "a", "b")), "linear"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            build_model(wrong, data)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="precision must be one of float32, bfloat16, float16"):
        ServingModule(create_model("customnet", 2, "none"), precision="int8")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_gives_the_cpus_scores() -> None:
    cpu = ServingModule(create_model("efficientnet-lite0", 2), precision="float32")(images())
    gpu = ServingModule(create_model("efficientnet-lite0", 2), device="cuda", precision="float32")(images())
    assert (cpu.scores - gpu.scores.cpu()).abs().max() < 1e-3
