"""Verdicts while explanations are made beside them: ``python -m tests.bench.verdicts_beside_explanations``.

One Triton with a full-size version and the model that explains it. Single images are asked for verdicts at a steady
pace, once with nothing beside them and once with explanations without a pause, in turns. The ratio of the 99th
percentiles is what explanations cost the line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.adapters.ports import ExplanationRequest
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.adapters.tritonexplain import TritonExplanationClient
from services.core.manifest import ModelManifest
from services.core.types import triton_explainer_name
from services.local.triton import LocalTriton
from services.serving.repository import ExplainingPlacement, Placement, write_entry, write_explaining_entry
from services.serving.servicer import model_memory_bytes
from tests.support.model_versions import write_model_version

#: Most that explanations may make of the 99th percentile of a verdict's latency.
BOUND = 1.5
METHODS = ("invrise-soft", "gradcam")


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one stretch of verdicts, in milliseconds."""

    p50_ms: float
    p99_ms: float
    verdicts: int
    explanations: int
    passes: int


def pace(client: TritonInferenceClient, name: str, images: NDArray[np.uint8], rate: float, count: int) -> list[float]:
    """Ask for verdicts at a steady pace; give the milliseconds that each took."""
    took: list[float] = []
    lock = threading.Lock()
    begun_s = time.perf_counter() + 0.05
    futures = []
    for number in range(count):
        due_s = begun_s + number / rate
        time.sleep(max(0.0, due_s - time.perf_counter()))
        asked_s = time.perf_counter()

        def done(_future: object, asked_s: float = asked_s) -> None:
            with lock:
                took.append((time.perf_counter() - asked_s) * 1e3)

        future = client.infer(name, images[number % len(images)][None], 30.0)
        future.add_done_callback(done)
        futures.append(future)
    for future in futures:
        future.result(30)
    return took


class Explaining:
    """Explanations one after the other, with the methods in turn, until it is stopped."""

    def __init__(self, client: TritonExplanationClient, name: str, images: NDArray[np.uint8], passes: int) -> None:
        self.explanations = self.passes = 0
        self._client, self._name, self._images, self._most = client, name, images, passes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def once(self, method: str) -> None:
        """Explain one image."""
        request = ExplanationRequest(method, seed=self.explanations, max_passes=self._most, steps=True)
        steps = self._client.explain(self._name, self._images[self.explanations % len(self._images)], request, 120)
        spent = 0
        for step in steps:
            self.passes += step.passes - spent
            spent = step.passes
            if self._stop.is_set():
                steps.close()
                return
        self.explanations += 1

    def _run(self) -> None:
        while not self._stop.is_set():
            for method in METHODS:
                if not self._stop.is_set():
                    self.once(method)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Without a pause until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(120)


class Line:
    """A Triton with both models of one version."""

    def __init__(self, folder: Path, architecture: str, size_px: int, placement: Placement, nice: int) -> None:
        self.triton = LocalTriton(folder / "models")
        self._size_px = size_px
        self.manifest: ModelManifest = write_model_version(
            folder / "version", architecture=architecture, size_px=size_px
        )
        self.explainer = triton_explainer_name("default", 1)
        repository, version, derived = self.triton.repository, folder / "version", folder / "derived"
        write_entry(repository, self.manifest, version, placement, derived)
        write_explaining_entry(repository, self.manifest, version, placement, ExplainingPlacement(nice=nice), derived)
        self.images = np.random.default_rng(0).integers(0, 256, (16, size_px, size_px, 3), dtype=np.uint8)

    def measure(self, rate: float, count: int, repeats: int, passes: int) -> dict[str, object]:
        """Alternate stretches with and without explanations beside them."""
        with self.triton as triton:
            control = TritonControl(triton.grpc_url)
            verdicts = TritonInferenceClient([triton.grpc_url])
            explanations = TritonExplanationClient([triton.grpc_url])
            try:
                for name in (self.manifest.triton_model_name, self.explainer):
                    control.load(name, 300)
                memory = {"idle": model_memory_bytes(triton.repository)[self.explainer]}
                for method in METHODS:
                    # Engine and network come up with the first of each.
                    Explaining(explanations, self.explainer, self.images, 32).once(method)
                    memory[method] = model_memory_bytes(triton.repository)[self.explainer]
                name = self.manifest.triton_model_name
                pace(verdicts, name, self.images, rate, min(count, 50))
                alone, beside = [], []
                for _ in range(repeats):
                    alone.append(_latency(pace(verdicts, name, self.images, rate, count), None))
                    explaining = Explaining(explanations, self.explainer, self.images, passes)
                    with explaining.running():
                        took = pace(verdicts, name, self.images, rate, count)
                    beside.append(_latency(took, explaining))
            finally:
                explanations.close()
                verdicts.close()
                control.close()
        return _result(alone, beside, memory)


def _latency(took_ms: Sequence[float], explaining: Explaining | None) -> Latency:
    p50, p99 = np.percentile(took_ms, [50, 99])
    made, passes = (explaining.explanations, explaining.passes) if explaining else (0, 0)
    return Latency(float(p50), float(p99), len(took_ms), made, passes)


def _result(alone: Sequence[Latency], beside: Sequence[Latency], memory: dict[str, int]) -> dict[str, object]:
    def ratio(figure: str) -> float:
        pairs = zip(beside, alone, strict=True)
        return statistics.median(getattr(with_, figure) / getattr(without, figure) for with_, without in pairs)

    return {
        "baseline": "the same verdicts with nothing explained beside them",
        "bound": BOUND,
        "p50_ratio": ratio("p50_ms"),
        "p99_ratio": ratio("p99_ms"),
        "alone": [asdict(one) for one in alone],
        "beside": [asdict(one) for one in beside],
        "explaining_memory_mb": {name: size / 1e6 for name, size in memory.items()},
    }


def show(result: dict[str, object], console: Console) -> None:
    """Put the figures on the screen."""
    table = Table(title="Verdicts beside explanations: medians of the stretches")
    for column in ("", "p50 ms", "p99 ms", "passes beside"):
        table.add_column(column, justify="right")
    for name in ("alone", "beside"):
        stretches: list[dict[str, float]] = result[name]  # type: ignore[assignment]
        row = [statistics.median(one[figure] for one in stretches) for figure in ("p50_ms", "p99_ms", "passes")]
        table.add_row(name, *(f"{value:.1f}" for value in row))
    table.add_row("ratio", f"{result['p50_ratio']:.2f}", f"{result['p99_ratio']:.2f}", "")
    console.print(table)
    console.print(f"memory of the explaining model, MB: {result['explaining_memory_mb']}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 where the bound is broken at full size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network and a few verdicts: that it works")
    parser.add_argument("--architecture", default="efficientnet-lite0")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rate", type=float, default=20.0, help="verdicts a second")
    parser.add_argument("--count", type=int, default=600, help="verdicts of each stretch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nice", type=int, default=ExplainingPlacement().nice)
    parser.add_argument("--out", type=Path, default=Path("build/bench/verdicts_beside_explanations.json"))
    options = parser.parse_args(arguments)
    if options.quick:
        options.architecture, options.engine, options.count, options.repeats = "customnet", "torch", 60, 2
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        size_px = 64 if options.quick else 224
        line = Line(Path(folder), options.architecture, size_px, Placement(engine=options.engine), options.nice)
        result = line.measure(options.rate, options.count, options.repeats, 128 if options.quick else 1000)
    result["settings"] = {name: str(value) for name, value in vars(options).items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result, Console())
    return 0 if options.quick or float(str(result["p99_ratio"])) <= BOUND else 1


if __name__ == "__main__":
    raise SystemExit(main())
