"""One question to the model for any number of rows."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from services.adapters.ports import InferenceClient, InferenceResult
from services.core.errors import SightlineError


def ask(
    inference: InferenceClient, model_name: str, rows: NDArray[np.uint8], max_rows: int, timeout_s: float
) -> Future[InferenceResult]:
    """Score rows, in several requests where they exceed one.

    Args:
        inference: Asks Triton.
        model_name: Whom to ask.
        rows: ``uint8``, shape ``(N, H, W, 3)``.
        max_rows: Most rows of one request.
        timeout_s: Deadline of each request.

    Returns:
        Resolves to the result of all rows, or to the first request's error that has one.
    """
    parts: list[Future[InferenceResult]] = []
    for start in range(0, len(rows), max_rows):
        try:
            parts.append(inference.infer(model_name, rows[start : start + max_rows], timeout_s))
        except SightlineError as error:
            failed: Future[InferenceResult] = Future()
            failed.set_exception(error)
            parts.append(failed)
    if len(parts) == 1:
        return parts[0]
    whole: Future[InferenceResult] = Future()
    left = itertools.count(len(parts) - 1, -1)
    turn = threading.Lock()

    def done(_part: Future[InferenceResult]) -> None:
        with turn:
            if next(left) > 0:
                return
        error = next((part.exception() for part in parts if part.exception() is not None), None)
        if error is not None:
            whole.set_exception(error)
            return
        results = [part.result() for part in parts]
        whole.set_result(
            InferenceResult(
                np.concatenate([item.score for item in results]),
                np.concatenate([item.probabilities for item in results]),
                np.concatenate([item.embedding for item in results]),
                np.concatenate([item.disagreement for item in results]),
            )
        )

    for part in parts:
        part.add_done_callback(done)
    return whole
