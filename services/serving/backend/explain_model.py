"""The Python-backend model that explains one version, in a process of its own that steps back for verdicts.

Decoupled: one request, an answer for each map. A worker makes one explanation after the other, so that Triton is never
kept waiting and a caller who gives up in the queue costs nothing.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import threadpoolctl
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from services.adapters.explaining import BUSY, pack_figures, parse_request
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import SightlineError
from services.serving.backend.engine import EngineRequest
from services.serving.backend.explained_version import ExplainedVersion
from services.serving.backend.explaining import GivenUpError, Terms, explain
from services.serving.backend.tensors import make_tensor, read_tensor

LOG = logging.getLogger(__name__)

#: Triton ends the model when no request is left, so the worker has nothing to do by then.
_STOP_TIMEOUT_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _Job:
    """One request; its sender is let go with the last answer."""

    image: NDArray[np.uint8]
    request: ExplanationRequest
    sender: Any

    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.sender is None or bool(self.sender.is_cancelled())


class TritonPythonModel:
    """What Triton calls: ``initialize`` once, ``execute`` with every request, ``finalize`` at the end."""

    def initialize(self, args: dict[str, str]) -> None:
        """Verify the version's folder; its network comes up with the first explanation.

        Raises:
            TritonModelException: Starting with the reason's token, for example ``model_format``.
        """
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        threads = int(parameters["threads"])
        # Masks are painted by numpy, whose maths would take a thread for each core.
        threadpoolctl.threadpool_limits(threads)
        request = EngineRequest(
            Path(parameters["version_folder"]),
            device="cpu" if args["model_instance_kind"] == "CPU" else f"cuda:{args['model_instance_device_id']}",
            precision=parameters["precision"],
            threads=threads,
            max_batch_size=int(parameters["batch_size"]),
            cache=Path(parameters["cache_folder"]) if parameters["cache_folder"] else None,
        )
        try:
            self._version = ExplainedVersion(parameters["engine"], request)
        except SightlineError as error:
            raise pb_utils.TritonModelException(f"{error.reason}: {error}") from error
        self._batch_size = request.max_batch_size
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._most_waiting = int(parameters["max_waiting"])
        self._worker = threading.Thread(target=self._work, name="explain", daemon=True)
        self._worker.start()

    def execute(self, requests: Sequence[Any]) -> None:
        """Put every request into the worker's queue, or refuse it."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                if self._jobs.qsize() >= self._most_waiting:
                    _refuse(sender, BUSY, f"at most {self._most_waiting} explanations may wait, they do")
                    continue
                # A copy: the memory is Triton's, and gone with the request.
                image = np.array(read_tensor(request, "IMAGE"))
                job = _Job(image, parse_request(json.loads(request.parameters())), sender)
            except SightlineError as error:
                _refuse(sender, error.reason, str(error))
            else:
                self._jobs.put(job)

    def finalize(self) -> None:
        """End the worker; Triton calls this when no request is left."""
        self._jobs.put(None)
        self._worker.join(_STOP_TIMEOUT_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._answer(job)
            except Exception:
                # The answer could not be sent; there is nobody to tell but the log.
                LOG.exception("an explanation was lost")
            finally:
                job.sender = None
                del job

    def _answer(self, job: _Job) -> None:
        terms = Terms(self._batch_size, given_up=job.given_up)
        try:
            for step in explain(self._version, job.image, job.request, terms):
                flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if step.final else 0
                job.sender.send(_response(step), flags=flags)
        except GivenUpError as error:
            _refuse(job.sender, error.reason, str(error), pb_utils.TritonError.CANCELLED)
        except SightlineError as error:
            _refuse(job.sender, error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the request is answered with it
            _refuse(job.sender, "explanation_failed", f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)


def _response(step: ExplanationStep) -> Any:
    tensors = {"MAP": step.map.astype(np.float32), "FIGURES": pack_figures(step)}
    return pb_utils.InferenceResponse([make_tensor(name, array) for name, array in tensors.items()])


def _refuse(sender: Any, reason: str, why: str, code: Any = None) -> None:
    error = pb_utils.TritonError(f"{reason}: {why}", pb_utils.TritonError.INVALID_ARG if code is None else code)
    sender.send(pb_utils.InferenceResponse(error=error), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
