"""Which engine runs a version: torch, OpenVINO on a CPU, ONNX Runtime, TensorRT on a GPU; by setting or by measurement.

Only the engine that serves is imported: torch alone is 200 MB of memory.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import verify_version
from services.core.decision import decide
from services.core.errors import InvalidInputError
from services.core.types import OperatingPoint
from services.serving.backend.engine import (
    EngineRequest,
    EngineUnavailableError,
    InferenceEngine,
    resolve_precision,
)
from services.serving.backend.gently import import_gently
from services.serving.backend.measure import Measurement, measure_apart
from services.serving.backend.record import (
    AGREEMENT,
    Candidate,
    Choice,
    fastest,
    key_of,
    only_one,
    read_choices,
    write_choice,
)

LOG = logging.getLogger(__name__)

MEASURED: Final = "measured"
#: What ``auto`` means; docs/serving.md has the measurements.
CPU_DEFAULT: Final = "openvino"
GPU_DEFAULT: Final = MEASURED
#: What serves where nothing else can, and what the others are compared with.
REFERENCE: Final = ("torch", "float32")

#: What is measured, by kind of device; the reference comes first.
CANDIDATES: Final = {
    "cpu": (REFERENCE, ("openvino", "float32"), ("onnx", "float32"), ("openvino", "bfloat16"), ("torch", "bfloat16")),
    "cuda": (
        REFERENCE,
        ("torch", "float16"),
        ("torch", "bfloat16"),
        ("onnx", "float32"),
        ("onnx", "float16"),
        ("tensorrt", "float32"),
        ("tensorrt", "float16"),
    ),
}


def _fetch(request: EngineRequest, module: str) -> None:
    """Import an engine's module ahead of its use, so that those that serve do not feel it."""
    if request.gentle:
        import_gently(f"services.serving.backend.{module}")


def _torch(request: EngineRequest) -> InferenceEngine:
    _fetch(request, "torch_engine")
    from services.serving.backend.torch_engine import TorchEngine  # noqa: PLC0415 - see the module's summary

    return TorchEngine(request)


def _openvino(request: EngineRequest) -> InferenceEngine:
    _fetch(request, "openvino_engine")
    from services.serving.backend.openvino_engine import OpenVinoEngine  # noqa: PLC0415

    return OpenVinoEngine(request)


def _onnx(request: EngineRequest) -> InferenceEngine:
    _fetch(request, "onnx_engine")
    from services.serving.backend.onnx_engine import OnnxEngine  # noqa: PLC0415

    return OnnxEngine(request, "CPU" if request.device == "cpu" else "CUDA")


def _tensorrt(request: EngineRequest) -> InferenceEngine:
    _fetch(request, "onnx_engine")
    from services.serving.backend.onnx_engine import OnnxEngine  # noqa: PLC0415

    return OnnxEngine(request, "Tensorrt")


def _detector(request: EngineRequest) -> InferenceEngine:
    _fetch(request, "detector_engine")
    from services.serving.backend.detector_engine import DetectorEngine  # noqa: PLC0415

    return DetectorEngine(request)


#: One more engine is one more entry here, and in the candidates.
_ENGINES: Final[dict[str, Callable[[EngineRequest], InferenceEngine]]] = {
    "torch": _torch,
    "openvino": _openvino,
    "onnx": _onnx,
    "tensorrt": _tensorrt,
}


def build_engine(setting: str, request: EngineRequest) -> InferenceEngine:
    """Bring a model version up by what serves it best; what that is, is logged and kept in the cache.

    An engine that cannot run here is replaced by torch. A detector brings its own, whatever is asked for. The version's
    folder is verified, since it may have changed since it was installed.

    Args:
        setting: The name of an engine, ``measured`` or ``auto``.
        request: The version, and how to run it.

    Raises:
        NotFoundError: If the folder does not exist.
        ModelFormatError: If it is damaged or from an unknown schema.
        InvalidInputError: If engine or precision are not known or do not fit the device.
    """
    name = resolve_engine(setting, request.device)
    if verify_version(request.folder).detector:
        return _detector(request)
    if name == MEASURED:
        choice = _measured(setting, request)
    else:
        choice = Choice(key_of(request), setting, name, resolve_precision(request.precision))
    try:
        engine = engine_of(choice.engine, replace(request, precision=choice.precision))
    except EngineUnavailableError as error:
        if choice.engine == REFERENCE[0]:
            raise
        choice = replace(choice, engine=REFERENCE[0], precision=REFERENCE[1], fallback=f"{choice.engine}: {error}")
        engine = engine_of(choice.engine, replace(request, precision=choice.precision))
    if choice.fallback:
        LOG.warning("%s serves instead of what was asked for: %s", choice.engine, choice.fallback)
    if request.cache is not None:
        write_choice(request.cache, choice, request.device)
    return engine


def resolve_engine(setting: str, device: str) -> str:
    """Name the engine that a setting means on a device, or ``measured``; raises ``InvalidInputError``."""
    if setting == "auto":
        return CPU_DEFAULT if device == "cpu" else GPU_DEFAULT
    if setting != MEASURED and setting not in _ENGINES:
        raise InvalidInputError(f"engine must be auto, measured or one of {', '.join(_ENGINES)}, got {setting!r}")
    return setting


def engine_of(name: str, request: EngineRequest) -> InferenceEngine:
    """Build the very engine that is named; raises ``EngineUnavailableError`` where its package is missing."""
    try:
        return _ENGINES[name](request)
    except ImportError as error:
        raise EngineUnavailableError(f"its package must be installed, got: {error}") from error


def measure_all(
    request: EngineRequest,
    setting: str = MEASURED,
    measure: Callable[[EngineRequest, str, float], Measurement] = measure_apart,
    *,
    compare_all: bool = False,
) -> Choice:
    """Measure the engines that a device may have, and choose the fastest whose verdicts are those of torch in float32.

    Args:
        request: The version, and how to run it; a precision other than ``auto`` leaves only candidates in that.
        setting: For the record.
        measure: Measures one engine, named in the second argument, that has the third to beat.
        compare_all: Whether to compare what is too slow to be chosen too.

    Raises:
        EngineUnavailableError: If torch itself does not run.
    """
    point = verify_version(request.folder).operating_point
    expected = measure(replace(request, precision=REFERENCE[1]), REFERENCE[0], 0.0)
    if expected.scores is None:
        raise EngineUnavailableError("torch must give scores to compare with, got none")
    verdicts = _verdicts(expected.scores, point)
    candidates = [Candidate(*REFERENCE, expected.images_per_s, 1.0, 0.0)]
    for engine, precision in CANDIDATES[request.device.partition(":")[0]][1:]:
        if request.precision not in ("auto", precision):
            continue
        best = fastest(tuple(candidates))
        try:
            to_beat = best.images_per_s if best and not compare_all else 0.0
            found = measure(replace(request, precision=precision), engine, to_beat)
        except EngineUnavailableError as error:
            candidates.append(Candidate(engine, precision, refused=str(error)))
        else:
            candidates.append(
                _compared(Candidate(engine, precision, found.images_per_s), found, expected.scores, point)
            )
    winner = fastest(tuple(candidates)) or candidates[0]
    return Choice(
        key_of(request),
        setting,
        winner.engine,
        winner.precision,
        frames=len(verdicts),
        verdicts=dict(Counter(verdicts)),
        candidates=tuple(candidates),
    )


def _measured(setting: str, request: EngineRequest) -> Choice:
    """The choice of an earlier load where nothing has changed since, or a new one."""
    try:
        if request.cache is None:
            with tempfile.TemporaryDirectory(prefix="sightline-measure-") as cache:
                return measure_all(replace(request, cache=Path(cache)), setting)
        key = key_of(request)
        with only_one(request.cache):
            # What another GPU of the same name has measured holds for this one too.
            kind = request.device.partition(":")[0]
            for kept in read_choices(request.cache, request.folder, setting, kind).values():
                if kept.key == key and key.device and kept.candidates and not kept.fallback:
                    return kept
            choice = measure_all(request, setting)
            write_choice(request.cache, choice, request.device)
            return choice
    except EngineUnavailableError as error:
        return Choice(key_of(request), setting, *REFERENCE, fallback=f"nothing could be measured: {error}")


def _compared(
    candidate: Candidate, found: Measurement, expected: NDArray[np.float32], point: OperatingPoint
) -> Candidate:
    if found.scores is None:
        return replace(candidate, refused=f"slower, {candidate.images_per_s:.1f}/s")
    if found.scores.shape != expected.shape or not np.isfinite(found.scores).all():
        return replace(candidate, refused="must give a finite score for each frame, got something else")
    same = [
        ours == theirs for ours, theirs in zip(_verdicts(found.scores, point), _verdicts(expected, point), strict=True)
    ]
    equal = float(np.mean(same))
    refused = (
        "" if equal >= AGREEMENT else f"{equal:.2%} of the verdicts equal torch's, at {candidate.images_per_s:.1f}/s"
    )
    difference = float(np.abs(found.scores - expected).max())
    return replace(candidate, verdicts_equal=equal, score_difference=difference, refused=refused)


def _verdicts(scores: NDArray[np.float32], point: OperatingPoint) -> list[str]:
    return [decide(float(score), point).verdict.value for score in scores]
