"""ONNX Runtime as an engine: what it is told about devices, what it refuses, and that it reports to nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from services.core.errors import InvalidInputError
from services.serving.backend import onnx_engine
from services.serving.backend.apart import run_apart
from services.serving.backend.engine import EngineRequest, EngineUnavailableError
from services.serving.backend.onnx_engine import OnnxEngine, provider_options
from tests.support.model_versions import write_model_version

LOAD = "import onnxruntime, sys; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "version"
    write_model_version(folder, size_px=16)
    return folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The least that ONNX Runtime takes."""
    import onnx
    from onnx import helper

    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = helper.make_model(
        helper.make_graph(nodes, "least", value[:1], value[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path = tmp_path_factory.mktemp("graph") / "least.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_cpu_needs_no_options(tmp_path: Path) -> None:
    assert provider_options("CPU", "cpu", "float32", tmp_path) == [("CPUExecutionProvider", {})]


def test_cuda_computes_on_the_device_that_triton_names_and_float32_means_float32(tmp_path: Path) -> None:
    ((name, options),) = provider_options("CUDA", "cuda:3", "float32", tmp_path)
    assert name == "CUDAExecutionProvider"
    assert options["device_id"] == "3"
    assert options["use_tf32"] == "0"
    assert provider_options("CUDA", "cuda", "float16", tmp_path)[0][1]["device_id"] == "0"


def test_tensorrt_keeps_what_it_builds_and_leaves_the_rest_to_cuda(tmp_path: Path) -> None:
    (first, options), (second, _) = provider_options("Tensorrt", "cuda:1", "float16", tmp_path)
    assert (first, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options["device_id"] == "1"
    assert options["trt_fp16_enable"] == "True"
    assert options["trt_engine_cache_enable"] == "True"
    assert options["trt_engine_cache_path"] == str(tmp_path)
    assert provider_options("Tensorrt", "cuda:1", "float32", tmp_path)[0][1]["trt_fp16_enable"] == "False"


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime is one for GPUs"
)
@pytest.mark.parametrize("provider", ["CUDA", "Tensorrt"])
def test_a_provider_that_this_package_does_not_have_is_named(version: Path, provider: Any) -> None:
    with pytest.raises(EngineUnavailableError, match=f"its provider {provider}, got onnxruntime .* CPUExecution"):
        OnnxEngine(EngineRequest(version, device="cuda:0"), provider)


class Silent:
    """A session of an ONNX Runtime that has lost CUDA's libraries: it goes on by the processor and says nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_going_on_without_the_gpu_is_noticed(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Silent)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnx_engine, "exported", lambda *_: Path("graph.onnx"))
    with pytest.raises(EngineUnavailableError, match="must compute by CUDA, got CPUExecutionProvider"):
        OnnxEngine(EngineRequest(version, device="cuda:0"), "CUDA")


def test_a_graph_that_cannot_be_loaded_makes_the_engine_unavailable(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    monkeypatch.setattr(onnx_engine, "exported", lambda *_: tmp_path / "graph.onnx")
    with pytest.raises(EngineUnavailableError, match="cannot load the network here"):
        OnnxEngine(EngineRequest(version), "CPU")


def test_bfloat16_is_not_for_onnx_runtime(version: Path) -> None:
    with pytest.raises(InvalidInputError, match="float32 or float16, got bfloat16"):
        OnnxEngine(EngineRequest(version, precision="bfloat16"), "CPU")


def test_a_provider_for_gpus_is_refused_on_a_cpu(version: Path) -> None:
    with pytest.raises(InvalidInputError, match="provider Tensorrt does not run on cpu"):
        OnnxEngine(EngineRequest(version), "Tensorrt")


def test_onnx_runtime_reports_nothing_to_its_maker(graph: Path, tmp_path: Path) -> None:
    # What it would report, a device's id and a queue of events, it keeps under the home folder; on the machines of a CI
    # it never does, so this one must not look like one.
    hidden = {"CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "TF_BUILD", "GITHUB_ACTIONS", "XDG_CACHE_HOME"}
    env = {name: value for name, value in os.environ.items() if name not in hidden} | {"HOME": str(tmp_path)}
    code = f"import services.serving.backend.onnx_engine; {LOAD}"
    done = subprocess.run([sys.executable, "-c", code, str(graph)], env=env, check=False, timeout=120)
    assert done.returncode == 0
    assert list(tmp_path.rglob("*onnxruntime*")) == []


def test_a_process_that_is_killed_or_too_slow_is_told_and_harms_nobody() -> None:
    assert run_apart("timeit", ["-n1", "-r1", "import os; os.kill(os.getpid(), 11)"], 60) == "killed by signal 11"
    assert run_apart("timeit", ["-n1", "-r1", "import time; time.sleep(60)"], 0.5) == "not done after 0 s"
    assert run_apart("timeit", ["-n1", "-r1", "raise OSError('no such thing')"], 60) == "OSError: no such thing"
    named = "from services.core.errors import BusyError; raise BusyError('all\\n\\ntaken')"
    assert run_apart("timeit", ["-n1", "-r1", named], 60) == "BusyError: all"
    assert run_apart("timeit", ["-n1", "-r1", "pass"], 60) == ""
