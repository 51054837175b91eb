"""An explaining model in memory, that keeps the promises of the real client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from services.adapters.memory import MemoryTriton
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import InvalidInputError, NotFoundError, UnavailableError

Explain = Callable[[str, NDArray[np.uint8], ExplanationRequest], Iterable[ExplanationStep]]


class MemoryExplanationClient:
    """An ``ExplanationClient`` that asks a function.

    Attributes:
        calls: Model name and request of each explanation, in order.
        closed_early: How many explanations were closed before their final map.
        unavailable: While true nothing answers.
    """

    def __init__(self, function: Explain, tritons: Sequence[MemoryTriton] | None = None) -> None:
        """Wire it.

        Args:
            function: Takes the model's name, the image and the request and gives the maps, the last one final; a
                generator of it goes no further once the explanation is closed.
            tritons: Whose loaded models explain; without any, every model is there.
        """
        self.calls: list[tuple[str, ExplanationRequest]] = []
        self.closed_early = 0
        self.unavailable = False
        self._function = function
        self._tritons = tritons
        self._closed = False
        self._lock = threading.Lock()

    def explain(
        self, model_name: str, image: NDArray[np.uint8], request: ExplanationRequest, timeout_s: float
    ) -> _Steps:
        """Explain one prepared image; see ``ExplanationClient.explain``."""
        del timeout_s
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            rule = "image must be uint8 of shape (H, W, 3)"
            raise InvalidInputError(f"{rule}, got {image.dtype} of shape {image.shape}")
        if self._closed:
            raise UnavailableError("the client must be open, it was closed")
        with self._lock:
            self.calls.append((model_name, request))
        return _Steps(self, lambda: self._begin(model_name, image, request))

    def is_loaded(self, model_name: str) -> bool:
        """Tell whether a Triton that answers has the model."""
        if self._closed or self.unavailable:
            return False
        return self._tritons is None or any(model_name in triton.loaded for triton in self._tritons if triton.live)

    def close(self) -> None:
        """Let go; idempotent."""
        self._closed = True

    def check(self) -> None:
        """Raise ``UnavailableError`` where nothing answers."""
        if self._closed:
            raise UnavailableError("the answer must come before the client is closed, it did not")
        if self.unavailable or (self._tritons is not None and not any(triton.live for triton in self._tritons)):
            raise UnavailableError("a Triton must answer in time, got no answer")

    def given_up(self) -> None:
        """An explanation was closed before its final map."""
        with self._lock:
            self.closed_early += 1

    def _begin(
        self, model_name: str, image: NDArray[np.uint8], request: ExplanationRequest
    ) -> Iterator[ExplanationStep]:
        self.check()
        if not self.is_loaded(model_name):
            raise NotFoundError(f"the model must be loaded, got {model_name!r}")
        # Maps on the way are sent only where they are asked for.
        return (step for step in self._function(model_name, image, request) if step.final or request.steps)


class _Steps:
    """The maps of one explanation; an ``ExplanationSteps``."""

    def __init__(self, client: MemoryExplanationClient, begin: Callable[[], Iterator[ExplanationStep]]) -> None:
        self._client = client
        self._begin = begin
        self._steps: Iterator[ExplanationStep] | None = None
        self._over = False

    def __iter__(self) -> Iterator[ExplanationStep]:
        return self

    def __next__(self) -> ExplanationStep:
        if self._over:
            raise StopIteration
        try:
            self._client.check()
            if self._steps is None:
                self._steps = self._begin()
            step = next(self._steps)
        except Exception:
            self._over = True
            raise
        if self._over:
            # Closed by another thread while the map was made.
            raise StopIteration
        self._over = step.final
        return step

    def close(self) -> None:
        """Go no further; idempotent."""
        if not self._over:
            self._over = True
            self._client.given_up()
