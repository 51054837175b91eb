"""A classifier made fast for many passes: compiled by OpenVINO where that is installed, else as torch runs it."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal

try:
    # Before torch, where both are: each brings its own threads.
    import openvino
except ImportError:  # pragma: no cover - it is an extra
    openvino = None
import numpy as np
import torch
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.explain.attribution import Predict
from services.core.models.classifier import Classifier
from services.core.models.serving import Precision, ServingModule

Engine = Literal["auto", "openvino", "torch"]

_HINTS = {"bfloat16": "bf16", "float32": "f32", "float16": "f16"}


def compile_predict(
    model: Classifier, side_px: int, engine: Engine = "auto", precision: Precision = "float32", threads: int = 1
) -> Predict:
    """Make a network's answers fast.

    Args:
        model: The network; copied weights are changed, so it must be given away (see ``ServingModule``).
        side_px: Rows and columns of its input.
        engine: ``auto`` takes OpenVINO where it is installed.
        precision: Of the features.
        threads: CPU threads.

    Returns:
        From ``uint8`` ``(B, side_px, side_px, 3)`` to probabilities ``(B, C)``.

    Raises:
        InvalidInputError: If OpenVINO is asked for and not installed.
    """
    if engine == "openvino" and openvino is None:
        raise InvalidInputError("the engine openvino must be installed (extra 'openvino'), got no such package")
    if engine == "torch" or openvino is None:
        module = ServingModule(model, precision=precision)

        def through_torch(images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.asarray(module(torch.from_numpy(images)).probabilities.numpy(), dtype=np.float32)

        return through_torch
    compiled = _compile(ServingModule(model, precision="float32"), side_px, precision, threads)

    def through_openvino(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Copied: the next answer is written into the same memory.
        return np.array(compiled(np.ascontiguousarray(images), share_inputs=True)[0], np.float32)

    return through_openvino


class _Traceable(torch.nn.Module):
    """The serving module's arithmetic without inference mode, whose tensors cannot be traced."""

    def __init__(self, module: ServingModule) -> None:
        super().__init__()
        self.normalise, self.features = module.normalise, module.features
        self.neck, self.linear = module.neck, module.linear

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities."""
        embeddings = self.neck(self.features(self.normalise(images.permute(0, 3, 1, 2))))
        return torch.softmax(self.linear(embeddings), dim=1)


def _compile(module: ServingModule, side_px: int, precision: Precision, threads: int) -> Callable[..., Any]:
    with torch.no_grad(), warnings.catch_warnings():
        # The input's size is a constant of the model, so what depends on it may be one too.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        graph = openvino.convert_model(
            _Traceable(module).eval(),
            example_input=torch.zeros(2, side_px, side_px, 3, dtype=torch.uint8),
            input=[([-1, side_px, side_px, 3], openvino.Type.u8)],
        )
    properties = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled: Callable[..., Any] = openvino.Core().compile_model(graph, "CPU", properties)
    return compiled


class Remembered:
    """Answers that were given before, for methods that ask about the same masked images.

    The four estimators of the RISE family draw the same masks from the same seed. Asking once saves three quarters of
    an experiment; so that each method is still charged what it would cost alone, the time that was saved is kept too.

    Attributes:
        saved_s: Seconds that remembered answers cost when they were given, less what looking for them costs.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._known: dict[bytes, tuple[NDArray[np.float32], float]] = {}
        self.saved_s = 0.0

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer, by looking or by asking."""
        started = time.perf_counter()
        digest = hashlib.blake2b(images.data, digest_size=16).digest()
        looked_s = time.perf_counter() - started
        known = self._known.get(digest)
        if known is None:
            asked = time.perf_counter()
            known = self._predict(images), time.perf_counter() - asked
            self._known[digest] = known
            self.saved_s -= looked_s
        else:
            self.saved_s += known[1] - looked_s
        return known[0]

    def forget(self) -> None:
        """Begin with another image."""
        self._known.clear()
