"""What a training step with CEOD costs, against one with cross-entropy.

``python -m tests.bench.ceod`` trains the same network on the same batch with either loss, step by step in turn, each
from its own copy of the weights, and takes the median of the ratios of neighbouring steps. Two steps of hundreds of
milliseconds cannot be told apart to a hundredth on a machine that does other work, so what the losses differ by (head,
map and loss, forward and back, on features that are held) is timed by itself too, and its share of a whole step with
cross-entropy decides: where the head pools and is linear it must stay within 1.03. Processor time of one thread, with
time by the clock beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from services.core.losses.ceod import ceod_loss
from services.core.losses.ceod_settings import CeodSettings
from services.core.losses.heat import predict_with_heat
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model

LIMIT: Final = 1.03
REPORT: Final = Path("build/bench/ceod.json")
NETWORKS: Final = ("customnet", "efficientnet-lite0", "resnet18")
SETTINGS: Final = {"ceod": CeodSettings(), "ceod-paper": CeodSettings(variant="paper")}

Step = Callable[[], object]


def steps(network: str, side_px: int, batch: int, *, held: bool = False) -> dict[str, Step]:
    """A step with each loss, by name, each on its own copy of one network; cross-entropy comes first.

    ``held`` leaves of the step what comes after the features, which are reckoned once and beforehand.
    """
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, side_px, side_px, 3), dtype=torch.uint8, generator=rng).permute(0, 3, 1, 2)
    labels = torch.arange(batch) % 2
    areas = torch.zeros(batch, side_px, side_px)
    areas[:, side_px // 4 : side_px // 2, side_px // 4 : side_px // 2] = 1
    model = create_model(network, 2, "none").train()
    if held:
        with torch.no_grad():
            model.features = _Held(model.features(model.normalise(images)))

    def with_entropy(own: Classifier, optimiser: torch.optim.Optimizer) -> None:
        _descend(optimiser, F.cross_entropy(own(images).logits.float(), labels))

    def with_distance(own: Classifier, optimiser: torch.optim.Optimizer, settings: CeodSettings) -> None:
        logits, heat = predict_with_heat(own, images, labels)
        _descend(optimiser, ceod_loss(logits, heat, labels, areas, settings).total)

    def bound(settings: CeodSettings | None) -> Step:
        own = copy.deepcopy(model)
        optimiser = torch.optim.Adamax(own.parameters(), lr=2e-3)
        return lambda: with_entropy(own, optimiser) if settings is None else with_distance(own, optimiser, settings)

    return {"ce": bound(None)} | {name: bound(settings) for name, settings in SETTINGS.items()}


class _Held(nn.Module):
    """Features that are there already, whatever the images."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.held = features.requires_grad_()

    def forward(self, _: Tensor) -> Tensor:
        """Give them."""
        return self.held


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    float(loss.detach())


def measure(network: str, side_px: int, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds and ratios to cross-entropy in the same round, medians over the rounds."""
    cpu_s, wall_s = _timed(steps(network, side_px, batch), rounds)
    alone_s, _ = _timed(steps(network, side_px, batch, held=True), 3 * rounds)
    whole = statistics.median(cpu_s["ce"])
    return {
        name: {
            "cpu_ms": 1000 * statistics.median(cpu_s[name]),
            "wall_ms": 1000 * statistics.median(wall_s[name]),
            "cpu_ratio": _ratio(cpu_s[name], cpu_s["ce"]),
            "wall_ratio": _ratio(wall_s[name], wall_s["ce"]),
            "added_ms": 1000 * (statistics.median(alone_s[name]) - statistics.median(alone_s["ce"])),
            "ratio": 1 + (statistics.median(alone_s[name]) - statistics.median(alone_s["ce"])) / whole,
        }
        for name in cpu_s
    }


def _timed(todo: Mapping[str, Step], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Processor time and time by the clock of each step in each round; a first round warms up."""
    names = list(todo)
    cpu_s: dict[str, list[float]] = {name: [] for name in names}
    wall_s: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        # Forward and backward in turn, so that no loss always follows the same one.
        for name in names if number % 2 else names[::-1]:
            start = time.process_time(), time.perf_counter()
            todo[name]()
            if number:
                cpu_s[name].append(time.process_time() - start[0])
                wall_s[name].append(time.perf_counter() - start[1])
    return cpu_s, wall_s


def _ratio(own: Sequence[float], base: Sequence[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(own, base, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write down; 1 where CEOD costs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one network, small pictures, few rounds")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--size", type=int, default=224, help="rows and columns, pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=REPORT)
    options = parser.parse_args(arguments)
    networks = ["customnet"] if options.quick else options.networks.split(",")
    side_px, batch, rounds = (64, 8, 5) if options.quick else (options.size, options.batch, options.rounds)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = {network: measure(network, side_px, batch, rounds) for network in networks}
    finally:
        torch.set_num_threads(threads)
    title = f"Training steps at {side_px} px, batch {batch}, one thread, {rounds} rounds"
    table = Table("network", "loss", "CPU ms", "ratio", "ms", "ratio", "added CPU ms", "ratio by it", title=title)
    for network, found in results.items():
        for name, figures in found.items():
            table.add_row(
                network,
                name,
                f"{figures['cpu_ms']:.1f}",
                f"{figures['cpu_ratio']:.3f}",
                f"{figures['wall_ms']:.1f}",
                f"{figures['wall_ratio']:.3f}",
                f"{figures['added_ms']:.2f}",
                f"{figures['ratio']:.4f}",
            )
    Console().print(table)
    worst = max(found["ceod"]["ratio"] for found in results.values())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report = {"schema": 1, "limit": LIMIT, "size_px": side_px, "batch": batch, "rounds": rounds}
    options.out.write_text(json.dumps(report | {"worst_ratio": worst, "networks": results}, indent=1))
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
