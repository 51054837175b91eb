"""What runs a network inside a Triton process: torch, or OpenVINO on a CPU.

Every engine takes the same batch of pixels and gives the same three arrays, so that a version may be served by
whichever is fastest where it runs. Only the engine that is asked for is imported: torch alone is 200 MB of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError

#: What ``auto`` means; docs/serving.md has the measurements.
CPU_DEFAULT: Final = "openvino"
GPU_DEFAULT: Final = "torch"
#: The precision that keeps the verdicts of float32. On a CPU bfloat16 is faster still, but changes one in forty.
CPU_PRECISION: Final = "float32"
GPU_PRECISION: Final = "float16"


class Answer(NamedTuple):
    """What is said of a batch; ``float32``, one row for each image."""

    scores: NDArray[np.float32]
    """Shape ``(B,)``, higher is worse."""
    probabilities: NDArray[np.float32]
    """Shape ``(B, C)``."""
    embeddings: NDArray[np.float32]
    """Shape ``(B, D)``."""


class InferenceEngine(Protocol):
    """Runs one model version on one device."""

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score ``uint8`` images of shape ``(B, H, W, 3)``."""
        ...


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Which version to bring up, and how.

    Attributes:
        folder: The version's folder.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        threads: CPU threads.
        cache: Folder for what is derived from versions and may be made again; None keeps nothing.
    """

    folder: Path
    device: str = "cpu"
    precision: str = "auto"
    threads: int = 1
    cache: Path | None = None


def _torch(request: EngineRequest) -> InferenceEngine:
    from services.serving.backend.torch_engine import TorchEngine  # noqa: PLC0415 - see the module's summary

    return TorchEngine(request)


def _openvino(request: EngineRequest) -> InferenceEngine:
    from services.serving.backend.openvino_engine import OpenVinoEngine  # noqa: PLC0415

    return OpenVinoEngine(request)


#: One more engine is one more entry here.
_ENGINES: Final[dict[str, Callable[[EngineRequest], InferenceEngine]]] = {"torch": _torch, "openvino": _openvino}


def build_engine(engine: str, request: EngineRequest) -> InferenceEngine:
    """Bring a model version up; its folder is verified, since it may have changed since it was installed.

    Args:
        engine: ``torch``, ``openvino`` or ``auto``.
        request: The version, and how to run it.

    Raises:
        NotFoundError: If the folder does not exist.
        ModelFormatError: If it is damaged or from an unknown schema.
        InvalidInputError: If engine or precision are not known or do not fit the device.
    """
    return _ENGINES[resolve_engine(engine, request.device)](request)


def resolve_engine(engine: str, device: str) -> str:
    """Name the engine that a setting means on a device; raises ``InvalidInputError``."""
    if engine == "auto":
        return CPU_DEFAULT if device == "cpu" else GPU_DEFAULT
    if engine not in _ENGINES:
        raise InvalidInputError(f"engine must be auto or one of {', '.join(_ENGINES)}, got {engine!r}")
    return engine


def resolve_precision(precision: str, device: str) -> str:
    """Name the precision that a setting means on a device; raises ``InvalidInputError``."""
    if precision == "auto":
        return CPU_PRECISION if device == "cpu" else GPU_PRECISION
    if precision not in {"float32", "bfloat16", "float16"}:
        raise InvalidInputError(f"precision must be auto, float32, bfloat16 or float16, got {precision!r}")
    return precision
