"""``ServingService``: what one Triton holds."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
from sightline.v1 import serving_service_pb2, serving_service_pb2_grpc

from services.serving.agent import ServingAgent
from services.serving.versions import VersionState, VersionStatus

_STATE = {
    VersionState.COPYING: serving_service_pb2.VERSION_STATE_COPYING,
    VersionState.LOADING: serving_service_pb2.VERSION_STATE_LOADING,
    VersionState.WARMING: serving_service_pb2.VERSION_STATE_WARMING,
    VersionState.WARM: serving_service_pb2.VERSION_STATE_WARM,
    VersionState.FAILED: serving_service_pb2.VERSION_STATE_FAILED,
    VersionState.UNLOADING: serving_service_pb2.VERSION_STATE_UNLOADING,
}


class ServingServicer(serving_service_pb2_grpc.ServingServiceServicer):
    """Tells others how far each version has come."""

    def __init__(self, agent: ServingAgent, repository: Path) -> None:
        self._agent = agent
        self._repository = repository.resolve()

    def GetStatus(  # noqa: N802 - the protocol names it
        self, request: serving_service_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> serving_service_pb2.GetStatusResponse:
        """Report each version that the agent knows, by alias and version."""
        del context
        memory = model_memory_bytes(self._repository)
        return serving_service_pb2.GetStatusResponse(
            triton_live=self._agent.triton_live,
            versions=[
                _message(status, memory.get(status.key.model_name, 0) + memory.get(status.key.explainer_name, 0))
                for status in self._agent.board.snapshot()
                if not request.alias or status.key.alias == request.alias
            ],
        )


def _message(status: VersionStatus, memory_bytes: int) -> serving_service_pb2.LoadedVersion:
    return serving_service_pb2.LoadedVersion(
        alias=status.key.alias,
        version=status.key.version,
        state=_STATE[status.state],
        memory_bytes=memory_bytes,
        load_ms=status.load_ms,
        detail=status.detail,
    )


def model_memory_bytes(repository: Path, proc: Path = Path("/proc")) -> dict[str, int]:
    """Resident memory of the processes of each Python-backend model.

    Only processes of the same process namespace can be seen; elsewhere the answer is empty.

    Args:
        repository: Triton's model repository, absolute.
        proc: Where the kernel tells of processes.

    Returns:
        Bytes by model name.
    """
    found: dict[str, int] = {}
    start = f"{repository}/".encode()
    for folder in proc.glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            if not arguments[0].endswith(b"triton_python_backend_stub") or not arguments[1].startswith(start):
                continue
            name = arguments[1][len(start) :].split(b"/", 1)[0].decode()
            pages = int((folder / "statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            # Gone since it was listed, or not ours to look at.
            continue
        found[name] = found.get(name, 0) + pages * os.sysconf("SC_PAGE_SIZE")
    return found
