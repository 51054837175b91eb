"""What the agent tells others of its Triton."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

from sightline.v1 import serving_service_pb2

from services.serving.servicer import ServingServicer, model_memory_bytes
from services.serving.versions import StatusBoard, VersionKey, VersionState, VersionStatus


def write_process(proc: Path, pid: int, arguments: list[str], pages: int) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(b"\0".join(argument.encode() for argument in arguments) + b"\0")
    (folder / "statm").write_text(f"9999 {pages} 1 1 0 1 0")


def test_the_memory_of_a_model_is_that_of_all_its_processes(tmp_path: Path) -> None:
    stub = "/backends/python/triton_python_backend_stub"
    write_process(tmp_path, 1, [stub, "/models/default-v1/1/model.py", "x"], 10)
    write_process(tmp_path, 2, [stub, "/models/default-v1/1/model.py", "x"], 5)
    write_process(tmp_path, 3, [stub, "/models/weld-v2/1/model.py", "x"], 7)
    write_process(tmp_path, 4, [stub, "/elsewhere/weld-v2/1/model.py", "x"], 100)
    write_process(tmp_path, 5, ["/usr/bin/python3", "/models/weld-v2/1/model.py"], 100)
    write_process(tmp_path, 6, [""], 100)
    page = os.sysconf("SC_PAGE_SIZE")
    assert model_memory_bytes(Path("/models"), tmp_path) == {"default-v1": 15 * page, "weld-v2": 7 * page}


def status_of(alias: str, **others: object) -> serving_service_pb2.GetStatusResponse:
    board = StatusBoard()
    board.show(VersionStatus(VersionKey("weld", 2), VersionState.FAILED, detail="weights.safetensors: tampered"))
    board.show(VersionStatus(VersionKey("default", 10), VersionState.LOADING))
    board.show(VersionStatus(VersionKey("default", 9), VersionState.WARM, load_ms=1250.0))
    servicer = ServingServicer(SimpleNamespace(board=board, triton_live=True), Path("/models"))  # type: ignore[arg-type]
    return servicer.GetStatus(serving_service_pb2.GetStatusRequest(alias=alias), None)  # type: ignore[arg-type]


def test_every_version_is_told_by_alias_and_number() -> None:
    response = status_of("")
    assert response.triton_live
    assert [(v.alias, v.version, v.state) for v in response.versions] == [
        ("default", 9, serving_service_pb2.VERSION_STATE_WARM),
        ("default", 10, serving_service_pb2.VERSION_STATE_LOADING),
        ("weld", 2, serving_service_pb2.VERSION_STATE_FAILED),
    ]
    assert response.versions[0].load_ms == 1250.0
    assert response.versions[2].detail == "weights.safetensors: tampered"


def test_one_alias_can_be_asked_for() -> None:
    assert [v.alias for v in status_of("weld").versions] == ["weld"]
