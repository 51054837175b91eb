"""The line on a GPU: ``python -m tests.bench.gpu``; says ``skipped: no GPU`` where there is none.

The same pipeline as ``tests.bench.pipeline`` with the networks on the device, by the engine that was measured fastest;
then each engine in each precision inside Triton, with ready tensors at the device's own batch sizes, the share of
verdicts that are those of float32 on the CPU, the time of a single image, and the device's memory with four versions
loaded. ``--engines-only`` leaves the pipeline out, and needs neither broker nor object store.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.adapters.modelfolder import read_weights
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core.decision import decide
from services.core.manifest import ModelManifest
from services.core.models.serving import load_serving_module
from services.serving.backend.choice import CANDIDATES
from services.serving.backend.record import read_choices
from services.serving.repository import Engine, Placement, Precision, write_entry
from tests.bench import pipeline
from tests.bench.detector_line import (
    LOAD_TIMEOUT_S,
    MeasuredLine,
    MeasuredTriton,
    draw_images,
    prepared,
    tensor_rate,
)

OUT = Path("build/bench/gpu.json")
CONSOLE = Console()
BATCHES = (16, 64, 128)
IN_FLIGHT = 4
LOADED_VERSIONS = 4
_SINGLES = 500
_WARM_UP = 20
ARCHITECTURES = ("resnet18", "efficientnet-lite0")
#: The engine is the default one: on a GPU, the one that is measured fastest.
PLACEMENT = Placement(device="gpu", gpus=(0,), max_batch_size=max(BATCHES))
_FIGURES = ("images_per_s", "verdicts_equal", "score_difference")
PLAN = pipeline.Plan(frames=20_000, repeats=3, images=256, latency_s=20.0, default_frames=0, batch=64, in_flight=4)


def ask_gpu(field_name: str) -> str:
    """One figure of the first GPU from NVIDIA's own tool; empty where there is no GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, f"--query-gpu={field_name}", "--format=csv,noheader,nounits", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass
class MemoryWatch:
    """The highest memory in use on the device while it is entered, in MiB."""

    peak_mib: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> MemoryWatch:
        """Begin to look."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look a last time."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            used = ask_gpu("memory.used")
            self.peak_mib = max(self.peak_mib, float(used or 0))
            if self._stop.wait(0.1):
                return


def cpu_scores(line: MeasuredTriton, manifest: ModelManifest, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What torch says in float32 on the CPU."""
    module = load_serving_module(manifest, read_weights(line.version_folder(manifest)), "cpu", "float32")
    return np.concatenate([module(part).scores.numpy() for part in torch.from_numpy(rows).split(16)])


def verdicts_equal(manifest: ModelManifest, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Share of verdicts that are the same."""
    point = manifest.operating_point
    pairs = zip(ours, theirs, strict=True)
    return float(np.mean([decide(float(a), point).verdict is decide(float(b), point).verdict for a, b in pairs]))


class ServedCandidate:
    """Four versions in Triton, all by one engine.

    Args:
        line: Whose Triton.
        manifest: Of the version that is served under four numbers: those of one alias differ in their weights only, so
            the same folder takes as much as another.
        candidate: Engine and precision.
    """

    def __init__(self, line: MeasuredTriton, manifest: ModelManifest, candidate: tuple[Engine, Precision]) -> None:
        self._line = line
        self._placement = replace(line.placement, engine=candidate[0], precision=candidate[1])
        self._versions = [replace(manifest, version=number) for number in range(2, 2 + LOADED_VERSIONS)]
        self._control = TritonControl(line.triton.grpc_url)
        self._client = TritonInferenceClient([line.triton.grpc_url])

    @property
    def first(self) -> ModelManifest:
        """The version that is measured alone."""
        return self._versions[0]

    def load(self, manifest: ModelManifest) -> str:
        """Load one of them; why another engine serves it, or nothing."""
        folder = self._line.version_folder(manifest)
        write_entry(self._line.repository, manifest, folder, self._placement, self._line.derived)
        self._control.load(manifest.triton_model_name, LOAD_TIMEOUT_S)
        device = "cpu" if self._placement.device == "cpu" else "cuda"
        found = read_choices(self._line.derived, folder, self._placement.engine, device)
        return " ".join(choice.fallback for choice in found.values())

    def scores(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the first says."""
        parts = [rows[start : start + 16] for start in range(0, len(rows), 16)]
        name = self.first.triton_model_name
        return np.concatenate([self._client.infer(name, part, 60).result(60).score for part in parts])

    def single_ms(self, rows: NDArray[np.uint8], count: int) -> tuple[float, float]:
        """Median and 99th percentile of one image alone, there and back, one after the other."""
        times_ms = []
        for number in range(count + _WARM_UP):
            began_s = time.perf_counter()
            self._client.infer(self.first.triton_model_name, rows[number % len(rows)][None], 60).result(60)
            times_ms.append((time.perf_counter() - began_s) * 1e3)
        return tuple(np.percentile(times_ms[_WARM_UP:], (50, 99)).tolist())

    def peak_mib(self, rows: NDArray[np.uint8]) -> float:
        """Peak memory of the device with all four loaded and asked; the first is loaded already."""
        batch = rows[: self._placement.max_batch_size]
        with MemoryWatch() as memory:
            for manifest in self._versions[1:]:
                self.load(manifest)
            asked = [self._client.infer(one.triton_model_name, batch, 60) for _ in range(10) for one in self._versions]
            for future in asked:
                future.result(60)
        return memory.peak_mib

    def close(self) -> None:
        """Unload what is loaded."""
        for name in self._control.ready_models() & {one.triton_model_name for one in self._versions}:
            self._control.unload(name, 60)
        self._control.close()
        self._client.close()


def measure_model(line: MeasuredTriton, architecture: str, plan: pipeline.Plan) -> dict[str, Any]:
    """Which engine is chosen for a model, and what each of them does inside Triton.

    Args:
        line: Started; its placement's engine is the one that measures.
        architecture: Of the model.
        plan: How much.
    """
    images = draw_images(plan.images)
    manifest = line.deploy(architecture, images)
    rows = prepared(images, manifest.preprocessing)
    device = "cpu" if line.placement.device == "cpu" else "cuda"
    choices = read_choices(line.derived, line.version_folder(manifest), line.placement.engine, device)
    line.retire(manifest)
    exact = cpu_scores(line, manifest, rows)
    engines: dict[str, dict[str, Any]] = {}
    for candidate in CANDIDATES[device]:
        if line.placement.precision not in ("auto", candidate[1]):
            continue
        served = ServedCandidate(line, manifest, candidate)
        try:
            fallback = served.load(served.first)
            if fallback:
                engines[" ".join(candidate)] = {"not_here": fallback}
                continue
            figures: dict[str, Any] = {
                f"images_per_s_batch_{batch}": tensor_rate(
                    line, served.first, rows, frames=plan.frames, batch=batch, in_flight=IN_FLIGHT
                )
                for batch in BATCHES
                if batch <= line.placement.max_batch_size
            }
            figures["single_ms_p50"], figures["single_ms_p99"] = served.single_ms(rows, min(plan.frames, _SINGLES))
            figures["verdicts_equal_to_cpu_float32"] = verdicts_equal(manifest, served.scores(rows), exact)
            figures["peak_mib_four_versions"] = served.peak_mib(rows)
            engines[" ".join(candidate)] = figures
        finally:
            served.close()
    return {"chosen": {name: asdict(choice) for name, choice in choices.items()}, "engines": engines}


def run(
    folder: Path,
    placement: Placement,
    plan: pipeline.Plan,
    *,
    engines_only: bool = False,
    keep: Callable[[dict[str, Any]], object] = lambda _: None,
) -> dict[str, Any]:
    """Measure everything with networks placed as asked.

    Args:
        folder: For logs and data.
        placement: How Triton runs the models; its largest batch bounds those that are measured.
        plan: Of the pipeline.
        engines_only: Leaves the pipeline out.
        keep: Given what there is after each part.
    """
    result: dict[str, Any] = {"schema": 2, "device": ask_gpu("name"), "driver": ask_gpu("driver_version")}
    if not engines_only:
        line = MeasuredLine(folder / "pipeline", placement)
        try:
            result["pipeline"] = pipeline.run(line, plan, plan.repeats)
        finally:
            line.stop()
        result["efficiency"] = result["pipeline"]["efficiency"]
        keep(result)
    result["models"] = {}
    served = MeasuredTriton(folder / "models", placement)
    try:
        served.start()
        for name in ARCHITECTURES:
            result["models"][name] = measure_model(served, name, plan)
            keep(result)
    finally:
        served.stop()
    return result


def show(models: dict[str, Any]) -> None:
    """Print a table for each model."""
    for model, measured in models.items():
        for device, choice in measured["chosen"].items():
            why = f" ({choice['fallback']})" if choice["fallback"] else ""
            where = choice["key"]["device"] or device
            CONSOLE.print(f"{model} on {where}: {choice['engine']} {choice['precision']}{why}")
            table = Table(title="measured at load")
            for column in ("engine", "images/s", "verdicts equal", "score differs by", "refused"):
                table.add_column(column)
            for one in choice["candidates"]:
                told = [f"{one[name]:.5g}" if one[name] is not None else "" for name in _FIGURES]
                table.add_row(f"{one['engine']} {one['precision']}", *told, one["refused"])
            CONSOLE.print(table)
        table = Table(title="inside Triton")
        columns = {name: None for figures in measured["engines"].values() for name in figures}
        for column in ("engine", *columns):
            table.add_column(column.replace("_", " "))
        for engine, figures in measured["engines"].items():
            cells = [figures.get(name, "") for name in columns]
            table.add_row(engine, *(cell if isinstance(cell, str) else f"{cell:.5g}" for cell in cells))
        CONSOLE.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/gpu.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--engines-only", action="store_true", help="without broker, object store and detector")
    parser.add_argument("--frames", type=int, default=PLAN.frames, help="images of each measurement")
    options = parser.parse_args(argv)
    if not ask_gpu("name") or not torch.cuda.is_available():
        CONSOLE.print("skipped: no GPU")
        return 0
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plan = replace(PLAN, frames=options.frames)
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        result = run(
            Path(folder),
            PLACEMENT,
            plan,
            engines_only=options.engines_only,
            keep=lambda so_far: options.out.write_text(json.dumps(so_far, indent=2) + "\n"),
        )
    if "pipeline" in result:
        pipeline.show(result["pipeline"])
    show(result["models"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
