"""What an explanation costs, and after how many passes it stands: ``python -m tests.bench.explain [--quick]``.

Cost: the default method with a fixed number of passes, against as many passes over ready tensors and against passes
that each pay their own preprocessing, at the same batch size through the same engine. Their turns alternate, so that
whatever else the machine does meets all of them. Peak memory is that of a fresh process that explains, against one that
scores one batch. Where xaitk-saliency is installed (it is no dependency), its RISE stands beside ours.

Standing: each method's map on the way, against its own map of many more passes with another seed, and both against the
truth about the defect. ``--data`` takes a labelled folder in place of the simulated line.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.experiments.engine import Remembered, compile_predict  # isort: skip - OpenVINO must come before torch

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.core.errors import ExplanationError
from services.core.explain import overlap
from services.core.explain.attribution import (
    SCORE_TARGET,
    Attribution,
    AttributionMap,
    Budget,
    Predict,
    dice,
    hottest,
)
from services.core.explain.content import Content
from services.core.explain.defaults import DEFAULT_METHOD, MAX_PASSES, MIN_STABILITY, mask_sampling
from services.core.explain.sampling import Estimator, MaskSampling
from services.core.explain.temper import temper_for
from services.core.models.factory import create_model
from services.core.preprocessing import Preprocessing, placements, prepare
from services.core.simulation.line import defect_classes, draw_part
from services.experiments.classifiers import FitSettings, Fitted, fit_or_load, resolve_model
from services.experiments.parts import Part, read_parts, split

OUT = Path("build/bench/explain.json")
CONSOLE = Console()
BATCH = 16
SIDE_PX = 224
FILL = (124, 116, 104)
AGREED = 0.9
PEAKS = ("nothing", "batch", "explanation")
METHODS: tuple[Estimator, ...] = ("invrise-soft", "rise-centred", "rise", "invrise")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    passes: int
    repeats: int
    parts: int
    converge_to: int
    reference: int
    drawn: int
    methods: tuple[Estimator, ...] = METHODS


FULL = Plan(passes=1000, repeats=3, parts=30, converge_to=MAX_PASSES, reference=8000, drawn=400)
QUICK = Plan(passes=64, repeats=1, parts=2, converge_to=64, reference=128, drawn=60, methods=("invrise-soft", "rise"))


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write ``build/bench/explain.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few passes, to show that it works")
    parser.add_argument("--data", default="simulated:disc", help="parts: simulated:PRODUCT or a labelled folder")
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning before the maps; 0 fits the last layer")
    parser.add_argument("--model", default="efficientnet-lite0", help="a network, or the folder of a model version")
    parser.add_argument(
        "--size", type=int, default=SIDE_PX, help="rows and columns of the network's input for the maps"
    )
    parser.add_argument("--parts", type=int, help="defective parts that are explained")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--only", choices=("cost", "standing"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--peak", choices=PEAKS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else FULL
    plan = replace(plan, parts=options.parts or plan.parts, methods=tuple(options.methods or plan.methods))
    if options.peak:
        print(json.dumps(own_peak(options.peak, plan.passes)))
        return 0
    result: Figures = {"quick": options.quick, "load_average": [os.getloadavg()[0]]}
    if options.only != "standing":
        result["cost"] = measure_cost(network(), plan)
        result["memory"] = measure_memory(quick=options.quick)
    if options.only != "cost":
        fitted, parts = subjects(options.data, plan, options.epochs, options.model, options.size)
        result["standing"] = {"data": Path(options.data).name, "parts": len(parts), "side_px": options.size}
        result["standing"] |= measure_standing(fitted, parts, plan)
    result["load_average"].append(os.getloadavg()[0])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2))
    show(result)
    return 0


# --- cost ------------------------------------------------------------------------------------------------------------


def network() -> Predict:
    """EfficientNet-Lite0 with a last layer that was never fitted, on one thread: weights do not matter to speed."""
    return compile_predict(create_model("efficientnet-lite0", 2), SIDE_PX, "auto", "float32", 1)


def measure_cost(predict: Predict, plan: Plan) -> Figures:
    """Processor seconds of each way to spend the passes, medians, and their ratios turn by turn."""
    picture = draw_part("disc", 1, defect=defect_classes("disc")[0]).image
    preprocessing = Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX)
    image = prepare(picture, preprocessing)[0]
    batches = [min(BATCH, plan.passes - start) for start in range(0, plan.passes, BATCH)]
    tensors = np.repeat(image[np.newaxis], BATCH, axis=0)

    def ready() -> None:
        for size in batches:
            predict(tensors[:size])

    def separate() -> None:
        for size in batches:
            predict(np.concatenate([prepare(picture, preprocessing) for _ in range(size)]))

    ways: dict[str, Callable[[], object]] = {
        "ready tensors": ready,
        "own preprocessing": separate,
        DEFAULT_METHOD: lambda: explain(DEFAULT_METHOD, image, predict, plan.passes),
        "invrise (as published)": lambda: explain("invrise", image, predict, plan.passes),
    }
    if importlib.util.find_spec("xaitk_saliency"):
        from tests.bench.xaitk import peer

        ways["xaitk-saliency RISE"] = peer(image, predict, plan.passes, BATCH, FILL)
    explain(DEFAULT_METHOD, image, predict, BATCH)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    elapsed: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(plan.repeats):
        for name, way in ways.items():
            started, used = time.perf_counter(), time.process_time()
            way()
            # Everything runs on one thread, so processor time is what it takes on a machine that does nothing else.
            seconds[name].append(time.process_time() - used)
            elapsed[name].append(time.perf_counter() - started)
    return {
        "passes": plan.passes,
        "batch": BATCH,
        "repeats": plan.repeats,
        "ways": {
            name: {
                "processor_seconds": statistics.median(values),
                "elapsed_seconds": statistics.median(elapsed[name]),
                **{
                    f"against {other}": statistics.median(a / b for a, b in zip(values, seconds[other], strict=True))
                    for other in ("ready tensors", "own preprocessing")
                },
            }
            for name, values in seconds.items()
        },
    }


def explain(method: Estimator, image: NDArray[np.uint8], predict: Predict, passes: int) -> Attribution:
    """The last map of a method that spends all passes."""
    steps = mask_sampling(method, fill=FILL, backdrop=good_part()).explain(
        image, SCORE_TARGET, predict, seed=0, budget=Budget(passes, batch_size=BATCH)
    )
    *_, last = steps
    return last


@lru_cache(maxsize=1)
def good_part() -> NDArray[np.uint8]:
    """What hidden parts show."""
    return prepare(draw_part("disc", 2, defect=None).image, Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX))[0]


def own_peak(kind: str, passes: int) -> Figures:
    """Score one batch or explain one image, and tell this process's highest memory meanwhile, in bytes.

    Translating the network takes more than either, so the kernel's record is set back after it.
    """
    predict = network()
    image = prepare(
        draw_part("disc", 1, defect=defect_classes("disc")[0]).image, Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX)
    )[0]
    predict(image[np.newaxis])
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    if kind == "explanation":
        explain(DEFAULT_METHOD, image, predict, passes)
    elif kind == "batch":
        predict(np.repeat(image[np.newaxis], BATCH, axis=0))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"peak_bytes": int(status["VmHWM"].split()[0]) * 1024}


def measure_memory(*, quick: bool) -> Figures:
    """Highest memory of a fresh process that scores one batch, and of one that explains."""
    figures: Figures = {}
    for kind in PEAKS:
        command = [sys.executable, "-m", "tests.bench.explain", "--peak", kind, *(["--quick"] if quick else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
        figures[kind] = json.loads(done.stdout.splitlines()[-1])["peak_bytes"]
    above = {kind: figures[kind] - figures["nothing"] for kind in ("batch", "explanation")}
    return figures | {
        "ratio": figures["explanation"] / figures["batch"],
        "ratio_above_nothing": above["explanation"] / max(1, above["batch"]),
    }


# --- standing --------------------------------------------------------------------------------------------------------


def subjects(source: str, plan: Plan, epochs: int, model: str, side_px: int = SIDE_PX) -> tuple[Fitted, list[Part]]:
    """A classifier, and held-out defective parts with a mask that it calls defective."""
    parts = read_parts(source, plan.drawn if source.startswith("simulated:") else 0)
    sets = split(parts, seed=0)
    settings = FitSettings(side_px=side_px, epochs=epochs, learning_rate=5e-4, flips=True, batch_size=16)
    fitted = fit_or_load(resolve_model(model), parts, sets, settings, seed=0, cache=Path("build/bench/cache"))
    test = [parts[row] for row in sets["test"] if parts[row].mask is not None]
    test = [part for part, score in zip(test, fitted.scores(test), strict=True) if score > 0.5]
    order = np.random.default_rng(0).permutation(len(test))[: plan.parts]
    return fitted, [test[index] for index in order]


def measure_standing(fitted: Fitted, parts: Sequence[Part], plan: Plan) -> Figures:
    """Each method's way to its own map of many passes."""
    records: dict[str, list[Figures]] = {method: [] for method in plan.methods}
    for number, part in enumerate(parts):
        image, mask, content = placed(part, fitted)
        # The methods as published ask about the same masked images.
        predict, found_backdrop = Remembered(fitted.predict), fitted.backdrop(image)
        backdrop = None if found_backdrop is None else content.crop(found_backdrop)
        for method in plan.methods:
            try:
                temper = temper_for(predict(image[np.newaxis])[0], SCORE_TARGET)
                explainer = mask_sampling(method, fill=fitted.fill, backdrop=backdrop, temper=temper)
                found = stand(explainer, content.crop(image), mask, content.predict(predict), number, plan)
            except ExplanationError as error:
                CONSOLE.print(f"part {number + 1}, {method}: {error}", style="dim")
                continue
            if found is not None:
                records[method].append(found)
        CONSOLE.print(f"part {number + 1} of {len(parts)}", style="dim")
    return {"methods": {method: summary(found) for method, found in records.items() if found}}


def placed(part: Part, fitted: Fitted) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Content]:
    """A part as the network sees it, its defect over the picture within that input, and where the picture lies."""
    image = prepare(part.image, fitted.preprocessing)[0]
    place = placements(part.image.shape[0], part.image.shape[1], fitted.preprocessing)[0]
    content = Content.centred((image.shape[0], image.shape[1]), (place.height, place.width))
    truth = np.repeat(np.asarray(part.mask)[..., np.newaxis], 3, axis=2).astype(np.uint8) * 255
    return image, content.crop(prepare(truth, fitted.preprocessing)[0])[..., 0] > 127, content


def stand(
    explainer: MaskSampling,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    predict: Predict,
    seed: int,
    plan: Plan,
) -> Figures | None:
    """One part: how near each map on the way is to the one of many passes, and what both are worth."""
    if not mask.any():
        return None

    def steps(passes: int, seed: int) -> Iterator[Attribution]:
        return explainer.explain(image, SCORE_TARGET, predict, seed=seed, budget=Budget(passes, batch_size=BATCH))

    far = replace(explainer, refine_every=plan.reference)
    *_, reference = far.explain(
        image, SCORE_TARGET, predict, seed=10_000 + seed, budget=Budget(plan.reference, batch_size=BATCH)
    )
    target = hottest(reference.values)
    way = [(step, dice(hottest(step.values), target)) for step in steps(plan.converge_to, seed)]
    first = next((step.passes for step, agreement in way if agreement >= AGREED), None)
    within = [(step, agreement) for step, agreement in way if step.passes <= MAX_PASSES]
    stopped = next((pair for pair in within if pair[0].stability >= MIN_STABILITY), within[-1])
    return {
        "first_agreed": first,
        "way": [(step.passes, agreement, step.stability) for step, agreement in way],
        "stopped": {"passes": stopped[0].passes, "agreement": stopped[1], **worth(stopped[0].values, mask)},
        "reference": worth(reference.values, mask),
        "ceiling": overlap.dice_ceiling(mask),
    }


def worth(values: AttributionMap, mask: NDArray[np.bool_]) -> Figures:
    """A map against the truth."""
    return {
        "dice": overlap.dice(values, mask),
        "hit": float(overlap.hit(values, mask)),
        "pixel_auroc": overlap.pixel_auroc(values, mask),
    }


def summary(found: Sequence[Figures]) -> Figures:
    """Medians over parts, and what the stopped map loses against the one of many passes, with intervals."""
    never = 10**9
    first = statistics.median(part["first_agreed"] or never for part in found)
    at = {passes: [] for passes, *_ in found[0]["way"]}  # type: dict[int, list[float]]
    for part in found:
        for passes, agreement, _ in part["way"]:
            at[passes].append(agreement)
    return {
        "parts": len(found),
        "median_passes_to_agree": None if first >= never else first,
        "share_that_agree": sum(part["first_agreed"] is not None for part in found) / len(found),
        "median_agreement_at": {str(passes): statistics.median(values) for passes, values in at.items()},
        "stopped_median_passes": statistics.median(part["stopped"]["passes"] for part in found),
        "stopped_median_agreement": statistics.median(part["stopped"]["agreement"] for part in found),
        "ceiling": statistics.mean(part["ceiling"] for part in found),
        "stopped": {name: interval(part["stopped"][name] for part in found) for name in ("dice", "hit", "pixel_auroc")},
        "gain_over_reference": {
            name: interval(part["stopped"][name] - part["reference"][name] for part in found)
            for name in ("dice", "hit", "pixel_auroc")
        },
        "by_part": list(found),
    }


def interval(values: Iterable[float]) -> Figures:
    """Mean with a bootstrap interval of 95 % over parts."""
    sample = np.array(list(values))
    random = np.random.default_rng(0)
    means = sample[random.integers(0, len(sample), (2000, len(sample)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"mean": float(sample.mean()), "low": float(low), "high": float(high)}


# --- tables ----------------------------------------------------------------------------------------------------------


def show(result: Figures) -> None:
    """Print what was measured."""
    if "cost" in result:
        cost = result["cost"]
        table = Table(title=f"{cost['passes']} passes in batches of {cost['batch']}, medians of {cost['repeats']}")
        for column in ("", "processor s", "elapsed s", "against ready tensors", "against own preprocessing"):
            table.add_column(column, justify="left" if not column else "right")
        for name, way in cost["ways"].items():
            ratios = (f"{way[f'against {other}']:.3f}" for other in ("ready tensors", "own preprocessing"))
            table.add_row(name, f"{way['processor_seconds']:.2f}", f"{way['elapsed_seconds']:.2f}", *ratios)
        CONSOLE.print(table)
        memory = result["memory"]
        CONSOLE.print(
            f"peak memory: one batch {memory['batch'] / 1e6:.0f} MB, an explanation "
            f"{memory['explanation'] / 1e6:.0f} MB, ratio {memory['ratio']:.3f}; "
            f"above the idle process's {memory['nothing'] / 1e6:.0f} MB, ratio {memory['ratio_above_nothing']:.2f}"
        )
    if "standing" in result:
        show_standing(result["standing"])


def show_standing(standing: Figures) -> None:
    """Print how soon maps stand."""
    table = Table(title=f"{standing['parts']} defects of {standing['data']}: agreement with the map of many passes")
    columns = ("method", "passes to .9", "stopped after", "agreement", "Dice", "hit", "AUROC", "Δ hit", "Δ AUROC")
    for column in columns:
        table.add_column(column)
    for method, found in standing["methods"].items():
        gains = (found["gain_over_reference"][name] for name in ("hit", "pixel_auroc"))
        table.add_row(
            method,
            str(found["median_passes_to_agree"] or "never"),
            f"{found['stopped_median_passes']:.0f}",
            f"{found['stopped_median_agreement']:.3f}",
            *(f"{found['stopped'][name]['mean']:.3f}" for name in ("dice", "hit", "pixel_auroc")),
            *(f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" for gain in gains),
        )
    CONSOLE.print(table)


if __name__ == "__main__":
    sys.exit(main())
