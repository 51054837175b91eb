"""Is the simulated line fast enough, and neither trivial nor impossible to learn?

``python -m tests.bench.simulation`` draws parts, fits a linear model on their raw pixels, a linear model on a frozen
network's embedding and a fine-tuned network, each on the same training parts, and scores all on the same unseen parts.
The line is good when the pixels say little (AUROC below 0.8) and a fine-tuned network says nearly all (above 0.97).

The linear model on pixels is given every advantage: the best of several picture sizes and penalties on the very test.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import PRODUCTS, SimulatedPart, draw_part

LINEAR_LIMIT = 0.8
FINE_TUNED_LIMIT = 0.97
QUICK_FINE_TUNED_LIMIT = 0.90
"""What 160 parts and three epochs must reach on cloth: enough to say that there is something to learn."""
FRAMES_PER_S_LIMIT = 100.0
REPORT = Path("build/bench/simulation.json")

_TEST_SEEDS = 500_000_000  # test parts start here: no training part has such a seed
_RUN_STRIDE = 1_000_000
_DRAWN_WIDTH_PX = {"weld": 640}  # the networks look at 224 px: 1600 would only cost time
_BATCH = 16
_T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    products: tuple[str, ...]
    seeds: int
    train_parts: int
    test_parts: int
    epochs: int
    frames: int
    repeats: int


FULL = Plan(("disc", "fabric"), seeds=3, train_parts=480, test_parts=400, epochs=6, frames=60, repeats=5)
QUICK = Plan(("fabric",), seeds=1, train_parts=160, test_parts=160, epochs=3, frames=20, repeats=3)


@dataclass(frozen=True)
class Speed:
    """How fast one product is drawn on one thread."""

    product: str
    height_px: int
    width_px: int
    frames_per_s: float
    """By the clock: what a line gets, other work on the machine included."""
    frames_per_cpu_s: float
    """By this process's processor time: what one core of its own gives."""


@dataclass(frozen=True)
class Separability:
    """AUROC of three models on one product, one entry a seed."""

    product: str
    raw_pixels: list[float]
    frozen_embedding: list[float]
    fine_tuned: list[float]


def measure_speed(product: str, frames: int, repeats: int) -> Speed:
    """Draw ``frames`` parts ``repeats`` times and report the medians."""
    first = draw_part(product, 0)
    wall, processor = [], []
    for _ in range(repeats):
        clock, used = time.perf_counter(), time.process_time()
        for seed in range(frames):
            draw_part(product, seed, defect_rate=0.5)
        wall.append(frames / (time.perf_counter() - clock))
        processor.append(frames / (time.process_time() - used))
    height, width = first.mask.shape
    return Speed(product, height, width, statistics.median(wall), statistics.median(processor))


def draw_set(product: str, first_seed: int, count: int) -> list[SimulatedPart]:
    """Draw ``count`` parts, half of them defective on average."""
    width = _DRAWN_WIDTH_PX.get(product)
    return [draw_part(product, first_seed + number, defect_rate=0.5, size_px=width) for number in range(count)]


def labels_of(parts: Sequence[SimulatedPart]) -> NDArray[np.int64]:
    """1 for defective."""
    return np.array([int(part.is_defective) for part in parts], dtype=np.int64)


def linear_auroc(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float32],
    test_labels: NDArray[np.int64],
) -> float:
    """AUROC of logistic regression, the best of three penalties on the test itself."""
    scores = []
    for strength in (1e-4, 1e-2, 1.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200, tol=1e-3))
        model.fit(train, train_labels)
        scores.append(float(roc_auc_score(test_labels, model.decision_function(test))))
    return max(scores)


def raw_pixel_auroc(train: Sequence[SimulatedPart], test: Sequence[SimulatedPart]) -> float:
    """AUROC of a linear model on shrunken pixels, the best of three sizes on the test itself."""

    def pixels(parts: Sequence[SimulatedPart], side: int) -> NDArray[np.float32]:
        small = [cv2.resize(part.image, (side, side), interpolation=cv2.INTER_AREA).ravel() for part in parts]
        return np.stack(small).astype(np.float32) / 255.0

    return max(
        linear_auroc(pixels(train, side), labels_of(train), pixels(test, side), labels_of(test))
        for side in (16, 32, 64)
    )


def to_inputs(parts: Sequence[SimulatedPart]) -> torch.Tensor:
    """What the product's own preprocessing makes of the pictures: uint8, ``(N, 3, 224, 224)``."""
    stacked = np.concatenate([prepare(part.image, Preprocessing()) for part in parts])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def embed(model: Classifier, inputs: torch.Tensor) -> NDArray[np.float32]:
    """Embeddings of the network as it is, in bfloat16."""
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        batches = [model.embed(batch.contiguous(memory_format=torch.channels_last)) for batch in inputs.split(32)]
    return torch.cat(batches).float().numpy()


def fine_tune(
    model: Classifier,
    inputs: torch.Tensor,
    labels: NDArray[np.int64],
    epochs: int,
    seed: int,
    tick: Callable[[str], None],
) -> None:
    """Train the whole network: AdamW, one cycle of the learning rate, mirroring as the only augmentation."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(labels)
    batches = len(inputs) // _BATCH
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=epochs * batches, pct_start=0.2)
    for epoch in range(epochs):
        model.train()
        order = torch.from_numpy(rng.permutation(len(inputs)))
        for batch in order.split(_BATCH)[:batches]:
            pictures = inputs[batch]
            flips = [axis for axis in (2, 3) if rng.random() < 0.5]
            pictures = pictures.flip(flips) if flips else pictures
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(pictures.contiguous(memory_format=torch.channels_last)).logits
            loss = F.cross_entropy(logits.float(), targets[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        tick(f"epoch {epoch + 1} of {epochs}")


def network_auroc(model: Classifier, inputs: torch.Tensor, labels: NDArray[np.int64]) -> float:
    """AUROC of the network's own probability of *defective*."""
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = [model(batch.contiguous(memory_format=torch.channels_last)).logits for batch in inputs.split(32)]
    probability = torch.cat(logits).float().softmax(1)[:, 1]
    return float(roc_auc_score(labels, probability.numpy()))


def separate(product: str, plan: Plan, tick: Callable[[str], None]) -> Separability:
    """Fit the three models on each seed's parts and score them on other parts."""
    result = Separability(product, [], [], [])
    for run in range(plan.seeds):
        train = draw_set(product, run * _RUN_STRIDE, plan.train_parts)
        test = draw_set(product, _TEST_SEEDS + run * _RUN_STRIDE, plan.test_parts)
        train_labels, test_labels = labels_of(train), labels_of(test)
        say = _prefixed(tick, f"{product}, seed {run}: ")
        say("raw pixels")
        result.raw_pixels.append(raw_pixel_auroc(train, test))
        train_inputs, test_inputs = to_inputs(train), to_inputs(test)
        model = create_model("efficientnet-lite0", 2, "offline", seed=run).to(memory_format=torch.channels_last)
        say("frozen embedding")
        train_embedding, test_embedding = embed(model, train_inputs), embed(model, test_inputs)
        result.frozen_embedding.append(linear_auroc(train_embedding, train_labels, test_embedding, test_labels))
        fine_tune(model, train_inputs, train_labels, plan.epochs, run, say)
        result.fine_tuned.append(network_auroc(model, test_inputs, test_labels))
        latest = (result.raw_pixels[-1], result.frozen_embedding[-1], result.fine_tuned[-1])
        say("AUROC raw {:.3f}, frozen {:.3f}, fine-tuned {:.3f}".format(*latest))
    return result


def _prefixed(tick: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    return lambda text: tick(prefix + text)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval over the seeds (Student's t); the half width of one seed is NaN."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return mean, _T_975.get(len(values) - 1, 2.0) * spread


def run(plan: Plan, tick: Callable[[str], None]) -> tuple[list[Speed], list[Separability]]:
    """Measure speed of every product and separability of the plan's."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        speeds = []
        for product in PRODUCTS:
            tick(f"drawing {product}")
            frames = max(3, plan.frames // 10) if product == "weld" else plan.frames
            speeds.append(measure_speed(product, frames, plan.repeats))
        return speeds, [separate(product, plan, tick) for product in plan.products]
    finally:
        cv2.setNumThreads(threads)


def verdicts(speeds: Sequence[Speed], separabilities: Sequence[Separability], quick: bool) -> list[str]:
    """What misses its bound, in words; empty when all is well. Speed is judged by processor time at 320 px."""
    limit = QUICK_FINE_TUNED_LIMIT if quick else FINE_TUNED_LIMIT
    missed = [
        f"{speed.product}: {speed.frames_per_cpu_s:.0f} frames a processor second, wanted {FRAMES_PER_S_LIMIT:.0f}"
        for speed in speeds
        if speed.product in {"disc", "fabric"} and speed.frames_per_cpu_s < FRAMES_PER_S_LIMIT
    ]
    for entry in separabilities:
        if max(entry.raw_pixels) >= LINEAR_LIMIT:
            missed.append(f"{entry.product}: raw pixels reach {max(entry.raw_pixels):.3f}, wanted < {LINEAR_LIMIT}")
        if entry.product in {"disc", "fabric"} and statistics.fmean(entry.fine_tuned) <= limit:
            missed.append(f"{entry.product}: fine-tuned {statistics.fmean(entry.fine_tuned):.3f}, wanted > {limit}")
    return missed


def show(console: Console, speeds: Sequence[Speed], separabilities: Sequence[Separability], plan: Plan) -> None:
    """Print both tables."""
    table = Table(title="Drawing on one thread")
    for column in (
        "product",
        "size",
        "frames/s by the clock",
        "frames per processor second",
        f"ratio to {FRAMES_PER_S_LIMIT:.0f}/s",
    ):
        table.add_column(column, justify="left" if column == "product" else "right")
    for speed in speeds:
        size = f"{speed.width_px} × {speed.height_px}"  # noqa: RUF001 - a multiplication sign
        ratio = f"{speed.frames_per_cpu_s / FRAMES_PER_S_LIMIT:.2f}"
        table.add_row(speed.product, size, f"{speed.frames_per_s:.0f}", f"{speed.frames_per_cpu_s:.0f}", ratio)
    console.print(table)
    title = f"AUROC on {plan.test_parts} unseen parts, {plan.train_parts} to train, {plan.seeds} seed(s), mean ± 95 %"
    table = Table(title=title)
    for column in ("product", "linear on raw pixels", "linear on frozen embedding", "fine-tuned"):
        table.add_column(column, justify="left" if column == "product" else "right")
    for entry in separabilities:
        cells = []
        for values in (entry.raw_pixels, entry.frozen_embedding, entry.fine_tuned):
            mean, half = interval(values)
            cells.append(f"{mean:.3f}" if math.isnan(half) else f"{mean:.3f} ± {half:.3f}")
        table.add_row(entry.product, *cells)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when every bound holds."""
    parser = argparse.ArgumentParser(description="Speed and difficulty of the simulated line.")
    parser.add_argument("--quick", action="store_true", help="cloth only, one seed, small: well within a minute")
    parser.add_argument("--products", nargs="+", choices=PRODUCTS, help="products to learn (default: disc fabric)")
    parser.add_argument("--seeds", type=int, help="repetitions on other parts")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the network")
    parser.add_argument("--out", type=Path, default=REPORT, help="where the JSON goes")
    options = parser.parse_args(arguments)
    base = QUICK if options.quick else FULL
    chosen = {
        "products": tuple(options.products) if options.products else base.products,
        "seeds": options.seeds or base.seeds,
    }
    plan = Plan(**{**asdict(base), **chosen})
    torch.set_num_threads(options.threads)
    console = Console()
    began = time.perf_counter()
    with console.status("starting") as status:
        # Where nobody watches a spinner (a log file), each step is a line of its own.
        speeds, separabilities = run(plan, status.update if console.is_terminal else console.log)
    show(console, speeds, separabilities, plan)
    missed = verdicts(speeds, separabilities, options.quick)
    report = {
        "quick": options.quick,
        "plan": asdict(plan),
        "limits": {"linear": LINEAR_LIMIT, "fine_tuned": QUICK_FINE_TUNED_LIMIT if options.quick else FINE_TUNED_LIMIT},
        "speed": [asdict(speed) for speed in speeds],
        "separability": [asdict(entry) for entry in separabilities],
        "missed": missed,
        "took_s": time.perf_counter() - began,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2), encoding="utf-8")
    console.print(f"{report['took_s']:.0f} s; written to {options.out}")
    for line in missed:
        console.print(f"[red]missed:[/red] {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
