"""Which engine runs a version: torch, or OpenVINO on a CPU.

Only the engine that is asked for is imported: torch alone is 200 MB of memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.core.errors import InvalidInputError
from services.serving.backend.engine import EngineRequest, InferenceEngine

#: What ``auto`` means; docs/serving.md has the measurements.
CPU_DEFAULT: Final = "openvino"
GPU_DEFAULT: Final = "torch"


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
