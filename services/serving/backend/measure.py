"""Measures one engine with one version: ``python -m services.serving.backend.measure REQUEST.json RESULT.npz``.

In a process of its own: what it takes in memory, on the device too, is given back, and a crash ends it alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import verify_version
from services.serving.backend.apart import run_apart
from services.serving.backend.engine import EngineRequest, EngineUnavailableError, InferenceEngine

_LEAST_CALLS: Final = 7
_LEAST_S: Final = 2.0
_WARM_CALLS: Final = 2
#: TensorRT takes minutes to build; a network of hundreds of megabytes on one core takes as long to compare.
_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """What one engine did.

    Attributes:
        images_per_s: In full batches, from pixels in memory to answers in memory.
        scores: Of the comparison's frames, ``float32``; None where it was too slow to be worth it.
    """

    images_per_s: float
    scores: NDArray[np.float32] | None


def measure_engine(
    engine: InferenceEngine, frames: Iterator[NDArray[np.uint8]], batch: int, to_beat: float = 0.0
) -> Measurement:
    """Time an engine, then score the frames with it.

    Args:
        engine: The engine.
        frames: The comparison's.
        batch: Images in each pass.
        to_beat: Images per second; an engine that is not faster is not asked for scores.
    """
    first = np.stack(list(itertools.islice(frames, batch)))
    rate = _images_per_s(engine, np.resize(first, (batch, *first.shape[1:])))
    if rate <= to_beat:
        return Measurement(rate, None)
    scores = [engine(first).scores]
    while rows := list(itertools.islice(frames, batch)):
        scores.append(engine(np.stack(rows)).scores)
    return Measurement(rate, np.concatenate(scores))


def measure_apart(request: EngineRequest, engine: str, to_beat: float) -> Measurement:
    """The same in a process of its own.

    Args:
        request: The version, and how to run it.
        engine: Name of the engine.
        to_beat: As :func:`measure_engine` takes it.

    Raises:
        EngineUnavailableError: If it does not run here; the message tells why.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-measure-") as folder:
        order, result = Path(folder, "request.json"), Path(folder, "result.npz")
        order.write_text(
            json.dumps({"engine": engine, "to_beat": to_beat, "request": dataclasses.asdict(request)}, default=str)
        )
        failure = run_apart("services.serving.backend.measure", [str(order), str(result)], _TIMEOUT_S)
        if failure:
            raise EngineUnavailableError(failure)
        with np.load(result) as arrays:
            return Measurement(float(arrays["images_per_s"]), arrays.get("scores"))


def _images_per_s(engine: InferenceEngine, images: NDArray[np.uint8]) -> float:
    for _ in range(_WARM_CALLS):
        engine(images)
    times: list[float] = []
    while len(times) < _LEAST_CALLS or sum(times) < _LEAST_S:
        started_s = time.perf_counter()
        engine(images)
        times.append(time.perf_counter() - started_s)
    return len(images) / statistics.median(times)


def main(order: Path, result: Path) -> None:
    """Measure what an order names."""
    # It asks us for measurements; and a process that only serves draws no frames.
    from services.serving.backend.choice import engine_of  # noqa: PLC0415
    from services.serving.backend.frames import comparison_frames  # noqa: PLC0415

    asked: dict[str, Any] = json.loads(order.read_text())
    fields = asked["request"]
    cache = Path(fields["cache"]) if fields["cache"] else None
    request = EngineRequest(**fields | {"folder": Path(fields["folder"]), "cache": cache})
    frames = comparison_frames(request.folder, verify_version(request.folder))
    measured = measure_engine(engine_of(asked["engine"], request), frames, request.max_batch_size, asked["to_beat"])
    arrays: dict[str, Any] = {} if measured.scores is None else {"scores": measured.scores}
    np.savez(result, images_per_s=np.array(measured.images_per_s), **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
