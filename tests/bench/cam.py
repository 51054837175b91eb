"""What Grad-CAM costs, against one forward pass of the same network.

``python -m tests.bench.cam`` explains one image with Grad-CAM in closed form, with the gradient run back to the same
layer, and with the ``grad-cam`` library, in turn, and takes the median of the ratios to a forward pass of the same
round. Processor time of one thread is measured, so that what else the machine does counts little. The closed form must
cost no more than 1.05 of a forward pass.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from services.core.explain.attribution import SCORE_TARGET, Budget
from services.core.explain.cam import CamMethod, ClassActivation, usual_layer
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from services.core.models.torchvision_import import torchvision_models

LIMIT = 1.05
REPORT = Path("build/bench/cam.json")
BASELINE = "forward pass"

NETWORKS: dict[str, dict[str, Any]] = {
    "efficientnet-lite0": {},
    "efficientnet-lite0, three depths": {"options": {"taps": "4,10"}},
    "customnet": {},
    "resnet18": {},
}
_LIMITED = ("closed form, gradcam", "closed form, hirescam")


class _LogitsOnly(nn.Module):
    """What the library expects of a network."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Give the logits."""
        logits: Tensor = self.classifier(images).logits
        return logits


def ways(classifier: Classifier, image: NDArray[np.uint8]) -> dict[str, Callable[[], object]]:
    """Everything that is measured, by name; the baseline comes first."""

    def tensor() -> Tensor:
        return torch.from_numpy(image)[None].permute(0, 3, 1, 2)

    @torch.inference_mode()
    def forward() -> Tensor:
        return torch.softmax(classifier(tensor()).logits, dim=1)

    def cam(method: CamMethod, layer: str | None) -> Callable[[], object]:
        explainer = ClassActivation(classifier, method, layer)
        return lambda: list(explainer.explain(image, SCORE_TARGET, _never, seed=0, budget=Budget()))

    found: dict[str, Callable[[], object]] = {
        BASELINE: forward,
        "closed form, gradcam": cam("gradcam", None),
        "closed form, hirescam": cam("hirescam", None),
    }
    last = [name for name, _ in classifier.features.named_children()][-1]
    found["gradient to the last block"] = cam("gradcam", f"features.{last}")
    usual = usual_layer(classifier, "hirescam")
    if usual is not None:
        found["gradient to stride 8, hirescam"] = cam("hirescam", usual)
    library = _library(classifier, f"features.{last}")
    if library is not None:
        found["grad-cam library"] = lambda: library(tensor().float())
    return found


def _never(_: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise AssertionError("Grad-CAM asks the network itself")


def _library(classifier: Classifier, layer: str) -> Callable[[Tensor], object] | None:
    torchvision_models()
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        return None
    # A copy: the library leaves its hooks in the network.
    model = _LogitsOnly(copy.deepcopy(classifier))
    peer = GradCAM(model=model, target_layers=[dict(model.classifier.named_modules())[layer]])
    targets = [ClassifierOutputTarget(1)]
    return lambda images: peer(input_tensor=images, targets=targets)


def measure(network: str, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and the ratio to a forward pass of the same round, medians over the rounds."""
    architecture, _, _ = network.partition(",")
    classifier = create_model(architecture, 2, "none", **NETWORKS[network])
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    todo = ways(classifier, image)
    seconds: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(rounds + 2):
        for name, work in todo.items():
            start = time.process_time()
            work()
            if number >= 2:
                seconds[name].append(time.process_time() - start)
    return {
        name: {
            "milliseconds": 1000 * statistics.median(own),
            "ratio": statistics.median(mine / base for mine, base in zip(own, seconds[BASELINE], strict=True)),
        }
        for name, own in seconds.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write down; 1 where the closed form costs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network, few rounds")
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args(arguments)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        networks = ["efficientnet-lite0"] if options.quick else list(NETWORKS)
        results = {network: measure(network, 15 if options.quick else 60) for network in networks}
    finally:
        torch.set_num_threads(threads)
    table = Table("network", "way", "ms", "forward passes", title="Grad-CAM at 224 px, one thread")
    for network, found in results.items():
        for name, figures in found.items():
            table.add_row(network, name, f"{figures['milliseconds']:.2f}", f"{figures['ratio']:.3f}")
    Console().print(table)
    worst = max(found[name]["ratio"] for found in results.values() for name in _LIMITED)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"schema": 1, "baseline": BASELINE, "limit": LIMIT, "worst_ratio": worst, "networks": results}
    options.out.write_text(json.dumps(report, indent=1))
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
