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
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from services.core.models.factory import create_model
from services.core.simulation.line import PRODUCTS, draw_part
from tests.bench.separability import (
    MIRRORINGS,
    RECIPES,
    Recipe,
    Scores,
    Tuned,
    bootstrap,
    by_class,
    draw_set,
    fine_tune,
    labels_of,
    linear_scores,
    raw_pixel_scores,
    to_inputs,
)

LINEAR_LIMIT = 0.8
FINE_TUNED_LIMIT = 0.97
QUICK_FINE_TUNED_LIMIT = 0.90
"""What 160 parts must reach on cloth: enough to say that there is something to learn."""
FRAMES_PER_S_LIMIT = 100.0
REPORT = Path("build/bench/simulation.json")

MODELS = ("raw_pixels", "frozen_embedding", "fine_tuned")

_TEST_SEEDS = 500_000_000  # test parts start here: no training part has such a seed
_RUN_STRIDE = 1_000_000


@dataclass(frozen=True)
class Plan:
    """How much is done."""

    products: tuple[str, ...]
    seeds: int
    train_parts: int
    test_parts: int
    most_epochs: int
    frames: int
    repeats: int


FULL = Plan(PRODUCTS, seeds=3, train_parts=480, test_parts=400, most_epochs=99, frames=60, repeats=5)
QUICK = Plan(("fabric",), seeds=1, train_parts=160, test_parts=160, most_epochs=4, frames=20, repeats=3)


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


@dataclass
class Separability:
    """AUROC of three models on one product, one entry a seed, and a 95 % interval of their mean."""

    product: str
    recipe: Recipe
    seeds: list[int]
    raw_pixels: list[float] = field(default_factory=list)
    frozen_embedding: list[float] = field(default_factory=list)
    fine_tuned: list[float] = field(default_factory=list)
    raw_pixels_interval: tuple[float, float] = (math.nan, math.nan)
    frozen_embedding_interval: tuple[float, float] = (math.nan, math.nan)
    fine_tuned_interval: tuple[float, float] = (math.nan, math.nan)
    by_class: dict[str, float] = field(default_factory=dict)
    """Fine-tuned AUROC of each defect against the good parts, all seeds' mean."""


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


@dataclass(frozen=True)
class Run:
    """What three models said of one seed's test parts, higher for *defective*."""

    classes: list[str]
    raw_pixels: list[float]
    frozen_embedding: list[float]
    fine_tuned: list[float]

    def scores(self, model: str) -> Scores:
        """One model's scores beside the truth."""
        labels = np.array([int(bool(name)) for name in self.classes], dtype=np.int64)
        return Scores(np.array(getattr(self, model)), labels)


Evidence = dict[str, dict[int, Run]]
"""Runs by product and seed."""


def summarise(product: str, runs: dict[int, Run]) -> Separability:
    """Turn scores into areas and intervals."""
    result = Separability(product, RECIPES[product], seeds=sorted(runs))
    for model in MODELS:
        found = [runs[seed].scores(model) for seed in result.seeds]
        setattr(result, model, [scores.auroc for scores in found])
        setattr(result, f"{model}_interval", bootstrap(found))
    classes = [np.array(runs[seed].classes) for seed in result.seeds]
    result.by_class = by_class([runs[seed].scores("fine_tuned") for seed in result.seeds], classes)
    return result


def collect(product: str, plan: Plan, seed: int, tick: Callable[[str], None]) -> Run:
    """Fit the three models on one seed's parts and score them on other parts."""
    recipe = RECIPES[product]
    say = _prefixed(tick, f"{product}, seed {seed}: ")
    say("drawing")
    train = draw_set(product, seed * _RUN_STRIDE, plan.train_parts)
    test = draw_set(product, _TEST_SEEDS + seed * _RUN_STRIDE, plan.test_parts)
    train_labels, test_labels = labels_of(train), labels_of(test)
    say("raw pixels")
    raw = raw_pixel_scores(train, test)
    say("looking at the parts")
    train_inputs, test_inputs = to_inputs(train, recipe), to_inputs(test, recipe)
    model = create_model("efficientnet-lite0", 2, "offline", seed=seed).to(memory_format=torch.channels_last)
    tuned = Tuned(model)
    views = [tuned.look(train_inputs.flip(axes) if axes else train_inputs) for axes in MIRRORINGS]
    test_seen = tuned.look(test_inputs)
    say("frozen embedding")
    embeddings = tuned.embed(views[0]), tuned.embed(test_seen)
    frozen = linear_scores(embeddings[0], train_labels, embeddings[1], test_labels)
    fine_tune(tuned, views, train_labels, min(recipe.epochs, plan.most_epochs), seed, say)
    fine = Scores(tuned.log_odds(test_seen), test_labels)
    say(f"AUROC raw {raw.auroc:.3f}, frozen {frozen.auroc:.3f}, fine-tuned {fine.auroc:.3f}")
    return Run([part.defect_class for part in test], *(found.values.tolist() for found in (raw, frozen, fine)))


def _prefixed(tick: Callable[[str], None], prefix: str) -> Callable[[str], None]:
    return lambda text: tick(prefix + text)


def run(
    plan: Plan, speeds: list[Speed], evidence: Evidence, tick: Callable[[str], None], keep: Callable[[], None]
) -> None:
    """Measure speed of every product and separability of the plan's, whatever of it is not known yet.

    Every product has its first seed before any has its second, and ``keep`` is called after each, so that a run that is
    cut short has said something of all.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for product in PRODUCTS[len(speeds) :]:
            tick(f"drawing {product}")
            frames = max(3, plan.frames // 10) if product == "weld" else plan.frames
            speeds.append(measure_speed(product, frames, plan.repeats))
        for seed in range(plan.seeds):
            for product in plan.products:
                known = evidence.setdefault(product, {})
                if seed not in known:
                    known[seed] = collect(product, plan, seed, tick)
                    keep()
    finally:
        cv2.setNumThreads(threads)


def save_runs(path: Path, plan: Plan, speeds: Sequence[Speed], evidence: Evidence) -> None:
    """Write what a later run can go on from."""
    runs = {product: {str(seed): asdict(run) for seed, run in known.items()} for product, known in evidence.items()}
    text = json.dumps({"parts": _parts(plan), "speed": [asdict(speed) for speed in speeds], "runs": runs})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def load_runs(path: Path, plan: Plan) -> tuple[list[Speed], Evidence]:
    """Read what an earlier run of as many parts found; nothing when there is none."""
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if saved.get("parts") != _parts(plan):
        return [], {}
    evidence = {
        product: {int(seed): Run(**run) for seed, run in known.items()} for product, known in saved["runs"].items()
    }
    return [Speed(**speed) for speed in saved["speed"]], evidence


def _parts(plan: Plan) -> list[int]:
    return [plan.train_parts, plan.test_parts, plan.most_epochs]


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
        if statistics.fmean(entry.fine_tuned) <= limit:
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
    title = f"AUROC on {plan.test_parts} unseen parts, {plan.train_parts} to train, mean over the seeds (95 %)"
    table = Table(title=title)
    models = ("linear on raw pixels", "linear on frozen embedding", "fine-tuned")
    for column in ("product", "seeds", *models, "its hardest defect"):
        table.add_column(column, justify="left" if column == "product" else "right")
    for entry in separabilities:
        cells = [
            f"{statistics.fmean(values):.3f} ({low:.3f}-{high:.3f})"
            for values, (low, high) in (
                (entry.raw_pixels, entry.raw_pixels_interval),
                (entry.frozen_embedding, entry.frozen_embedding_interval),
                (entry.fine_tuned, entry.fine_tuned_interval),
            )
        ]
        hardest = min(entry.by_class, key=entry.by_class.__getitem__)
        table.add_row(entry.product, str(len(entry.seeds)), *cells, f"{hardest} {entry.by_class[hardest]:.3f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 0 when every bound holds."""
    parser = argparse.ArgumentParser(description="Speed and difficulty of the simulated line.")
    parser.add_argument("--quick", action="store_true", help="cloth only, one seed, small: well within a minute")
    parser.add_argument("--products", nargs="+", choices=PRODUCTS, help="products to learn (default: all)")
    parser.add_argument("--seeds", type=int, help="repetitions on other parts")
    parser.add_argument("--threads", type=int, default=2, help="processor threads of the network")
    parser.add_argument("--resume", action="store_true", help="go on from what the last run with this --out found")
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
    runs_path = options.out.with_name(f"{options.out.stem}-runs.json")
    speeds, evidence = load_runs(runs_path, plan) if options.resume else ([], {})

    def keep() -> None:
        save_runs(runs_path, plan, speeds, evidence)
        write_report(options.out, plan, options.quick, (speeds, summaries(evidence)), time.perf_counter() - began)

    with console.status("starting") as status:
        # Where nobody watches a spinner (a log file), each step is a line of its own.
        run(plan, speeds, evidence, status.update if console.is_terminal else console.log, keep)
    keep()
    separabilities = summaries(evidence)
    show(console, speeds, separabilities, plan)
    missed = verdicts(speeds, separabilities, options.quick)
    console.print(f"{time.perf_counter() - began:.0f} s; written to {options.out}")
    for line in missed:
        console.print(f"[red]missed:[/red] {line}")
    return 1 if missed else 0


def summaries(evidence: Evidence) -> list[Separability]:
    """Summarise every product that has a run, in the catalogue's order."""
    return [summarise(product, evidence[product]) for product in PRODUCTS if evidence.get(product)]


def write_report(
    path: Path, plan: Plan, quick: bool, figures: tuple[list[Speed], list[Separability]], took_s: float
) -> None:
    """Write all figures as JSON."""
    report = {
        "quick": quick,
        "plan": asdict(plan),
        "limits": {"linear": LINEAR_LIMIT, "fine_tuned": QUICK_FINE_TUNED_LIMIT if quick else FINE_TUNED_LIMIT},
        "speed": [asdict(speed) for speed in figures[0]],
        "separability": [asdict(entry) for entry in figures[1]],
        "missed": verdicts(*figures, quick),
        "took_s": took_s,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
