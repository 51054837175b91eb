"""Which engine serves a version on a CPU: ``python -m tests.bench.serving [--quick]``.

Torch in bfloat16 with channels last, the baseline, against torch in float32, OpenVINO in both and ONNX Runtime, each
inside the same Triton Python backend, in one process with as many threads as are asked for. Their turns alternate, so
that whatever else the machine does meets all of them. Every engine then scores the same frames, and the one that is
faster than the baseline may become the default if it keeps verdicts and scores. Kept is what torch says in float32,
since the baseline itself does not keep that; agreement with the baseline is shown too.

EfficientNet-Lite0 is the starter model, fitted on the simulated line. ResNet-18 has random features with a fitted last
layer, since its ImageNet weights cannot be assumed to be here; that is nothing to its speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.adapters.modelfolder import Holdout, HoldoutPart, ModelVersion, Reference, verify_version, write_version
from services.adapters.ports import InferenceResult
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core.decision import decide
from services.core.imaging import ImageLimits, decode, encode_jpeg
from services.core.manifest import Calibration, Lineage, ModelManifest
from services.core.models.factory import create_model
from services.core.models.state import save_state
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import defect_classes, draw_part
from services.core.training.head import fit_head, install_head
from services.core.types import OperatingPoint
from services.local.starter import fit_starter
from services.local.triton import LocalTriton
from services.serving.repository import Engine, Placement, Precision, write_entry
from services.serving.servicer import model_memory_bytes

OUT = Path("build/bench/serving.json")
CONSOLE = Console()
BATCH = 16
IN_FLIGHT = 2
#: What an engine must keep to replace the baseline: the share of equal verdicts, the largest difference of a score.
AGREEMENT = 0.999
SCORE_TOLERANCE = 0.01
BASELINE = "torch bfloat16"
ENGINES: tuple[tuple[Engine, Precision], ...] = (
    ("torch", "bfloat16"),
    ("torch", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "float32"),
    ("onnx", "float32"),
)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    frames: int
    repeats: int
    batches: int
    singles: int
    starter_parts: int


FULL = Plan(frames=2_000, repeats=5, batches=8, singles=20, starter_parts=600)
QUICK = Plan(frames=48, repeats=1, batches=3, singles=5, starter_parts=600)


def draw_frames(count: int, preprocessing: Preprocessing) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Prepared frames of both default products, every other one defective, from seeds that no model was fitted on."""
    frames, defective = [], []
    for number in range(count):
        product = ("disc", "fabric")[number % 2]
        faults = defect_classes(product)
        defect = faults[number // 4 % len(faults)] if number // 2 % 2 else None
        part = draw_part(product, 5_000_000 + number, defect=defect, view=number // 4 % 2)
        frames.append(prepare(decode(encode_jpeg(part.image), ImageLimits()), preprocessing)[0])
        defective.append(defect is not None)
    return np.stack(frames), np.array(defective)


def make_resnet(folder: Path, frames: NDArray[np.uint8], defective: NDArray[np.bool_]) -> ModelManifest:
    """Write a ResNet-18 whose last layer is fitted on some frames, with an operating point in their middle."""
    model = create_model("resnet18", 2, "none", seed=0)
    with torch.inference_mode():
        images = torch.from_numpy(frames).permute(0, 3, 1, 2)
        embeddings = torch.cat([model.embed(part) for part in images.split(16)]).numpy()
    # Strongly regularised: it must not learn these few frames by heart.
    install_head(model, fit_head(embeddings, defective.astype(np.int64), 2, regularisation=1e-3))
    manifest = ModelManifest(
        alias="resnet18",
        version=1,
        architecture="resnet18",
        classes=("good", "defect"),
        preprocessing=Preprocessing(),
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=OperatingPoint(0.5, 0.45, 0.55),
        calibration=Calibration("escape_rate", 0.1, 0.0, "none", 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0),
        lineage=Lineage("simulation", "random features", 0, len(frames), 0, 0, "0" * 64),
        metrics={},
        code_version="0",
        created_at_ns=1,
    )
    reference = Reference(
        {"a.png": b"-"}, ("a.png",), np.zeros(1, np.float32), np.zeros((1, model.embedding_size), np.float16)
    )
    part = HoldoutPart("part-1", "disc", "good", "seed 1", "0" * 64)
    write_version(ModelVersion(manifest, save_state(model), Holdout((part,)), reference), folder)
    return manifest


class Served:
    """One version in one Triton, once for each engine."""

    def __init__(self, work: Path, folder: Path, manifest: ModelManifest, threads: int) -> None:
        self._triton = LocalTriton(work / "models")
        self._triton.start()
        control = TritonControl(self._triton.grpc_url)
        self.load_s: dict[str, float] = {}
        self.names: dict[str, str] = {}
        for engine, precision in ENGINES:
            label = f"{engine} {precision}"
            # The name is all that is another's: each serves the very same folder.
            named = dataclasses.replace(manifest, alias=f"{manifest.alias}-{engine}-{precision}")
            placement = Placement(engine=engine, precision=precision, threads=threads, max_batch_size=BATCH)
            write_entry(self._triton.repository, named, folder, placement, work / "cache")
            started_s = time.perf_counter()
            control.load(named.triton_model_name, 300)
            self.load_s[label] = time.perf_counter() - started_s
            self.names[label] = named.triton_model_name
        control.close()
        self._client = TritonInferenceClient([self._triton.grpc_url])

    def memory_mb(self, label: str) -> float:
        """Resident memory of the model's process."""
        return model_memory_bytes(self._triton.repository).get(self.names[label], 0) / 1e6

    def score(self, label: str, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores of all frames, in batches, some in flight."""
        waiting: deque[Future[InferenceResult]] = deque()
        scores: list[NDArray[np.float32]] = []
        for start in range(0, len(frames), BATCH):
            waiting.append(self._client.infer(self.names[label], frames[start : start + BATCH], 120))
            if len(waiting) > IN_FLIGHT:
                scores.append(waiting.popleft().result(120).score)
        scores.extend(future.result(120).score for future in waiting)
        return np.concatenate(scores)

    def images_per_s(self, label: str, frames: NDArray[np.uint8], batches: int) -> float:
        """Throughput in full batches."""
        rows = np.resize(frames, (batches * BATCH, *frames.shape[1:]))
        started_s = time.perf_counter()
        self.score(label, rows)
        return len(rows) / (time.perf_counter() - started_s)

    def latency_ms(self, label: str, frames: NDArray[np.uint8], count: int) -> float:
        """Median time of one frame alone, from request to answer."""
        times = []
        for number in range(count):
            image = frames[number % len(frames)][None]
            started_s = time.perf_counter()
            self._client.infer(self.names[label], image, 60).result(60)
            times.append(time.perf_counter() - started_s)
        return statistics.median(times) * 1e3

    def close(self) -> None:
        """End the server."""
        self._client.close()
        self._triton.kill()


def measure(served: Served, manifest: ModelManifest, frames: NDArray[np.uint8], plan: Plan) -> dict[str, Any]:
    """Speed of every engine in alternation, then agreement with the baseline."""
    labels = list(served.names)
    rates: dict[str, list[float]] = {label: [] for label in labels}
    latencies: dict[str, list[float]] = {label: [] for label in labels}
    for _ in range(plan.repeats):
        for label in labels:
            rates[label].append(served.images_per_s(label, frames, plan.batches))
            latencies[label].append(served.latency_ms(label, frames, plan.singles))
    scores = {label: served.score(label, frames) for label in labels}
    verdicts = {label: verdicts_of(scores[label], manifest.operating_point) for label in labels}
    result: dict[str, Any] = {}
    for label in labels:
        difference = np.abs(scores[label] - scores[BASELINE])
        exact = np.abs(scores[label] - scores["torch float32"])
        ratios = [rate / base for rate, base in zip(rates[label], rates[BASELINE], strict=True)]
        result[label] = {
            "images_per_s": statistics.median(rates[label]),
            "ratio": statistics.median(ratios),
            "latency_ms": statistics.median(latencies[label]),
            "load_s": served.load_s[label],
            "memory_mb": served.memory_mb(label),
            "verdicts_equal": float(np.mean(verdicts[label] == verdicts[BASELINE])),
            "verdicts_equal_to_float32": float(np.mean(verdicts[label] == verdicts["torch float32"])),
            "score_difference_max": float(difference.max()),
            "score_difference_mean": float(difference.mean()),
            "score_difference_to_float32_max": float(exact.max()),
            "score_difference_to_float32_mean": float(exact.mean()),
        }
    return result


def verdicts_of(scores: NDArray[np.float32], point: OperatingPoint) -> NDArray[np.str_]:
    """The verdict of each score."""
    return np.array([decide(float(score), point).verdict.value for score in scores])


def judge(engines: dict[str, Any]) -> dict[str, bool]:
    """Which engines may be the default: at least as fast as the baseline, with the verdicts and scores of float32."""
    return {
        label: bool(
            figures["ratio"] >= 1
            and figures["verdicts_equal_to_float32"] >= AGREEMENT
            and figures["score_difference_to_float32_max"] <= SCORE_TOLERANCE
        )
        for label, figures in engines.items()
    }


def show(title: str, engines: dict[str, Any], admitted: dict[str, bool]) -> None:
    """Print one model's tables."""
    speed = Table(title=title)
    for column in ("engine", "images/s", "x baseline", "one image", "load", "memory"):
        speed.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
    same = Table(title="the same verdicts, the largest and the mean difference of a score")
    for column in ("engine", "baseline's", "max", "mean", "float32's", "max", "mean", "default?"):
        same.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
    for label, figures in engines.items():
        speed.add_row(
            label,
            f"{figures['images_per_s']:.1f}",
            f"{figures['ratio']:.2f}",
            f"{figures['latency_ms']:.1f} ms",
            f"{figures['load_s']:.1f} s",
            f"{figures['memory_mb']:.0f} MB",
        )
        same.add_row(
            label,
            f"{figures['verdicts_equal']:.4f}",
            f"{figures['score_difference_max']:.4f}",
            f"{figures['score_difference_mean']:.4f}",
            f"{figures['verdicts_equal_to_float32']:.4f}",
            f"{figures['score_difference_to_float32_max']:.4f}",
            f"{figures['score_difference_to_float32_mean']:.4f}",
            "may be" if admitted[label] else "no",
        )
    CONSOLE.print(speed)
    CONSOLE.print(same)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both networks, print, write ``build/bench/serving.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small run that shows that it works")
    parser.add_argument("--threads", type=int, default=1, help="threads of each model's process")
    parser.add_argument("--starter", type=Path, help="folder of a starter version; fitted when it is not named")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else FULL
    result: dict[str, Any] = {
        "schema": 1,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "frames": plan.frames,
        "quick": options.quick,
        "models": {},
    }
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        work = Path(folder)
        frames, defective = draw_frames(plan.frames, Preprocessing())
        starter = options.starter or work / "starter"
        if not options.starter:
            fit_starter(starter, n_per_class=plan.starter_parts)
        fitted = min(200, len(frames))
        make_resnet(work / "resnet18", frames[:fitted], defective[:fitted])
        for name, version in (("efficientnet-lite0", starter), ("resnet18", work / "resnet18")):
            manifest = verify_version(version)
            served = Served(work / f"triton-{name}", version, manifest, options.threads)
            try:
                engines = measure(served, manifest, frames, plan)
            finally:
                served.close()
            admitted = judge(engines)
            result["models"][name] = {"engines": engines, "may_be_default": admitted}
            show(f"{name}, {options.threads} thread(s), batches of {BATCH}", engines, admitted)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
