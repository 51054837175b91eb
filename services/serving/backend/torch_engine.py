"""The serving module as it is, in torch, on a CPU or a CUDA device."""

from __future__ import annotations

import contextlib
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from services.adapters.modelfolder import read_weights, verify_version
from services.core.models.serving import Precision, load_serving_module
from services.serving.backend.engine import Answer, EngineRequest, resolve_precision


class TorchEngine:
    """An ``InferenceEngine`` on torch; the threads it sets are the whole process's."""

    def __init__(self, request: EngineRequest) -> None:
        torch.set_num_threads(request.threads)
        with contextlib.suppress(RuntimeError):
            # May be set once in a process; another version in the same process has set it to the same.
            torch.set_num_interop_threads(1)
        # float32 means float32, on a GPU too; fewer digits are a precision of their own.
        torch.backends.cudnn.allow_tf32 = False
        manifest = verify_version(request.folder)
        precision = cast("Precision", resolve_precision(request.precision))
        self._module = load_serving_module(manifest, read_weights(request.folder), request.device, precision)

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score a batch."""
        served = self._module(torch.from_numpy(images))
        return Answer(*(tensor.cpu().numpy() for tensor in served))
