"""The line on a GPU: ``python -m tests.bench.gpu``; says ``skipped: no GPU`` where there is none.

The same pipeline as ``tests.bench.pipeline`` with the networks on the device, ready tensors at the device's own batch
sizes, the share of verdicts that are those of float32 on the CPU, and the device's memory with four versions loaded.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
from services.serving.repository import Placement, write_entry
from tests.bench import pipeline
from tests.bench.detector_line import MeasuredLine, draw_images, prepared, tensor_rate

OUT = Path("build/bench/gpu.json")
CONSOLE = Console()
BATCHES = (16, 64, 128)
IN_FLIGHT = 4
LOADED_VERSIONS = 4
ARCHITECTURES = ("resnet18", "efficientnet-lite0")
PLACEMENT = Placement(device="gpu", gpus=(0,), max_batch_size=max(BATCHES))
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


def verdicts_equal(line: MeasuredLine, manifest: ModelManifest, rows: NDArray[np.uint8]) -> float:
    """Share of verdicts of the device that float32 on the CPU gives too."""
    folder = line.servers.folder / "versions" / manifest.architecture
    module = load_serving_module(manifest, read_weights(folder), "cpu", "float32")
    exact = np.concatenate([module(part).scores.numpy() for part in torch.from_numpy(rows).split(16)])
    client = TritonInferenceClient([line.servers.triton.grpc_url])
    parts = [rows[start : start + 16] for start in range(0, len(rows), 16)]
    served = np.concatenate([client.infer(manifest.triton_model_name, part, 60).result(60).score for part in parts])
    client.close()
    point = manifest.operating_point
    same = [
        decide(float(a), point).verdict is decide(float(b), point).verdict for a, b in zip(exact, served, strict=True)
    ]
    return float(np.mean(same))


def four_versions(line: MeasuredLine, manifest: ModelManifest, rows: NDArray[np.uint8]) -> float:
    """Peak memory of the device in MiB with four versions loaded and all of them asked."""
    folder = line.servers.folder / "versions" / manifest.architecture
    control = TritonControl(line.servers.triton.grpc_url)
    client = TritonInferenceClient([line.servers.triton.grpc_url])
    names = [manifest.triton_model_name]
    with MemoryWatch() as memory:
        for number in range(2, LOADED_VERSIONS + 1):
            # Versions of one alias differ in their numbers only, so the same folder takes as much as another.
            named = replace(manifest, version=number)
            write_entry(line.servers.folder / "repository", named, folder, line.placement)
            control.load(named.triton_model_name, 300)
            names.append(named.triton_model_name)
        batch = rows[: line.placement.max_batch_size]
        for future in [client.infer(name, batch, 60) for _ in range(10) for name in names]:
            future.result(60)
    for name in names[1:]:
        control.unload(name, 60)
    control.close()
    client.close()
    return memory.peak_mib


def run(folder: Path, placement: Placement, plan: pipeline.Plan) -> dict[str, Any]:
    """Measure everything with networks placed as asked.

    Args:
        folder: For logs and data.
        placement: How Triton runs the models; its largest batch bounds those that are measured.
        plan: Of the pipeline.
    """
    result: dict[str, Any] = {"schema": 1, "device": ask_gpu("name"), "driver": ask_gpu("driver_version"), "models": {}}
    line = MeasuredLine(folder / "pipeline", placement)
    try:
        result["pipeline"] = pipeline.run(line, plan, plan.repeats)
    finally:
        line.stop()
    result["efficiency"] = result["pipeline"]["efficiency"]
    line = MeasuredLine(folder / "models", placement)
    images = draw_images(plan.images)
    try:
        line.start()
        for architecture in ARCHITECTURES:
            manifest = line.deploy(architecture, images)
            rows = prepared(images, manifest.preprocessing)
            figures: dict[str, Any] = {
                f"images_per_s_batch_{batch}": tensor_rate(
                    line, manifest, rows, frames=plan.frames, batch=batch, in_flight=IN_FLIGHT
                )
                for batch in BATCHES
                if batch <= placement.max_batch_size
            }
            figures["verdicts_equal_to_cpu_float32"] = verdicts_equal(line, manifest, rows)
            figures["peak_mib_four_versions"] = four_versions(line, manifest, rows)
            result["models"][architecture] = figures
            line.retire(manifest)
    finally:
        line.stop()
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    pipeline.show(result["pipeline"])
    table = Table(title=result["device"])
    names = list(next(iter(result["models"].values())))
    for column in ("model", *names):
        table.add_column(column.replace("_", " "), justify="right")
    for model, figures in result["models"].items():
        table.add_row(model, *(f"{figures[name]:.4g}" for name in names))
    CONSOLE.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write ``build/bench/gpu.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    if not ask_gpu("name") or not torch.cuda.is_available():
        CONSOLE.print("skipped: no GPU")
        return 0
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        result = run(Path(folder), PLACEMENT, PLAN)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    show(result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
