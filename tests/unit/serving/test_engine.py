"""Which engine and which precision a setting means, and what an engine refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.core.errors import InvalidInputError, ModelFormatError
from services.serving.backend.choice import CPU_DEFAULT, GPU_DEFAULT, MEASURED, build_engine, resolve_engine
from services.serving.backend.engine import EngineRequest, resolve_precision
from tests.support.model_versions import write_model_version

SIDE_PX = 32


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "version"
    write_model_version(folder, size_px=SIDE_PX)
    return folder


def test_auto_takes_the_measured_default_of_the_device() -> None:
    assert resolve_engine("auto", "cpu") == CPU_DEFAULT
    assert resolve_engine("auto", "cuda:1") == GPU_DEFAULT
    assert resolve_engine("openvino", "cpu") == "openvino"
    assert resolve_engine("measured", "cpu") == MEASURED


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInputError, match="measured or one of torch, openvino, onnx, tensorrt, got 'tflite'"):
        resolve_engine("tflite", "cpu")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="got 'int4'"):
        resolve_precision("int4")


def test_auto_precision_is_the_one_that_keeps_verdicts() -> None:
    assert resolve_precision("auto") == "float32"
    assert resolve_precision("bfloat16") == "bfloat16"


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx", "measured"])
def test_a_tampered_version_is_refused_by_the_engine_itself(engine: str, tmp_path: Path) -> None:
    write_model_version(tmp_path / "version", size_px=SIDE_PX)
    weights = tmp_path / "version" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(ModelFormatError, match=r"weights\.safetensors"):
        build_engine(engine, EngineRequest(tmp_path / "version", cache=tmp_path / "cache"))


def test_openvino_is_for_cpus(version: Path) -> None:
    with pytest.raises(InvalidInputError, match="runs on a cpu, got cuda:0"):
        build_engine("openvino", EngineRequest(version, device="cuda:0"))


def test_a_process_that_serves_by_openvino_imports_no_torch() -> None:
    code = "import sys, services.serving.backend.openvino_engine; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("module", ["openvino_engine", "translate"])
def test_openvino_reports_nothing_to_its_maker(module: str) -> None:
    code = (
        f"import services.serving.backend.{module}, openvino.tools.ovc as ovc, sys;"
        "sys.exit(ovc.telemetry.__class__.__module__ != 'openvino.tools.ovc.telemetry_stub')"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
