"""The same network run by ONNX Runtime: on a CPU, on a CUDA device, or there by TensorRT.

The three differ in one parameter, the execution provider. The export from torch runs in a process of its own, once for
each version and precision, and is kept on the local disk; so are the engines that TensorRT builds, which takes minutes.
"""

from __future__ import annotations

import importlib
import tempfile
from contextlib import suppress
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from services.adapters.modelfolder import verify_version
from services.core.errors import InvalidInputError
from services.serving.backend.apart import derived, run_apart, version_digest
from services.serving.backend.engine import Answer, EngineRequest, EngineUnavailableError, resolve_precision

Provider = Literal["CPU", "CUDA", "Tensorrt"]

_EXPORT_TIMEOUT_S: Final = 600.0
_GRAPH: Final = "graph.onnx"
_ERRORS_ONLY: Final = 3


class OnnxEngine:
    """An ``InferenceEngine`` on ONNX Runtime.

    Args:
        request: The version, and how to run it; in float32 or float16.
        provider: What computes.
    """

    def __init__(self, request: EngineRequest, provider: Provider) -> None:
        precision = resolve_precision(request.precision)
        if precision == "bfloat16":
            raise InvalidInputError("ONNX Runtime runs a network in float32 or float16, got bfloat16")
        if (provider == "CPU") is not (request.device == "cpu"):
            raise InvalidInputError(f"ONNX Runtime's provider {provider} does not run on {request.device}")
        size = verify_version(request.folder).preprocessing
        _require(provider)
        with tempfile.TemporaryDirectory(prefix="sightline-onnx-") as temporary:
            graph = exported(request.folder, request.cache or Path(temporary), precision)
            self._session = _session(graph, request, provider, precision)
            self._input: str = self._session.get_inputs()[0].name
            if provider != "CPU":
                # TensorRT builds for the range of batches that it has seen, and keeps that beside the graph.
                for batch in (request.max_batch_size, 1):
                    self._try(np.zeros((batch, size.height_px, size.width_px, 3), np.uint8))

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score a batch."""
        answers = self._session.run(None, {self._input: np.ascontiguousarray(images)})
        return Answer(*(np.asarray(answer, np.float32) for answer in answers))

    def _try(self, images: NDArray[np.uint8]) -> None:
        try:
            self(images)
        except Exception as error:  # its errors have no common base
            raise EngineUnavailableError(f"ONNX Runtime cannot run the network here: {_line(error)}") from error


def exported(folder: Path, cache: Path, precision: str) -> Path:
    """Export a version, or find its export from before.

    Args:
        folder: The version's folder, verified.
        cache: Where exports are kept, each in a folder named after the version's checksums.
        precision: ``float32`` or ``float16``.

    Returns:
        Path of the ONNX file.

    Raises:
        EngineUnavailableError: If the version cannot be exported.
    """

    def make(target: Path) -> None:
        arguments = [str(folder), str(target / _GRAPH), precision]
        failure = run_apart("services.serving.backend.translate", arguments, _EXPORT_TIMEOUT_S)
        if failure:
            raise EngineUnavailableError(f"the network must be one that torch can export to ONNX, got: {failure}")

    name = f"onnx-{precision}-{version_digest(folder)}-torch{package_version('torch')}"
    return derived(cache, name, (_GRAPH,), make) / _GRAPH


def provider_options(provider: Provider, device: str, precision: str, kept: Path) -> list[tuple[str, dict[str, str]]]:
    """What ONNX Runtime is told about where to compute, the preferred first.

    Args:
        provider: What computes.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``float32`` or ``float16``.
        kept: Folder for what TensorRT builds.
    """
    number = device.partition(":")[2] or "0"
    cuda = (
        "CUDAExecutionProvider",
        {
            "device_id": number,
            # float32 means float32; torch is told the same.
            "use_tf32": "0",
            # An exhaustive search would stop the line at every batch size that is new.
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        },
    )
    if provider == "CPU":
        return [("CPUExecutionProvider", {})]
    if provider == "CUDA":
        return [cuda]
    tensorrt = {
        "device_id": number,
        "trt_fp16_enable": str(precision == "float16"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(kept),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(kept),
    }
    return [("TensorrtExecutionProvider", tensorrt), cuda]


def _require(provider: Provider) -> None:
    available = onnxruntime.get_available_providers()
    if f"{provider}ExecutionProvider" not in available:
        raise EngineUnavailableError(
            f"ONNX Runtime must come with its provider {provider}, got onnxruntime {onnxruntime.__version__} "
            f"with {', '.join(available)}"
        )


def _session(graph: Path, request: EngineRequest, provider: Provider, precision: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the processor from the line's other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    if provider != "CPU":
        # CUDA's and cuDNN's libraries where pip put them, and TensorRT's; those of the system are found without.
        onnxruntime.preload_dlls()
        with suppress(ImportError):
            importlib.import_module("tensorrt_libs")
    providers = provider_options(provider, request.device, precision, graph.parent)
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # its errors have no common base
        raise EngineUnavailableError(f"ONNX Runtime cannot load the network here: {_line(error)}") from error
    # Where a provider's libraries are missing, ONNX Runtime would go on without it, on the CPU.
    if session.get_providers()[0] != f"{provider}ExecutionProvider":
        raise EngineUnavailableError(f"ONNX Runtime must compute by {provider}, got {session.get_providers()[0]}")
    return session


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
