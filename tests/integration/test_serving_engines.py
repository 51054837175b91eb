"""Every engine serves the same version alike, by setting or by measurement; what is derived is made once."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core.decision import decide
from services.core.models.factory import ARCHITECTURES, create_model
from services.core.models.serving import ServingModule
from services.local.triton import LocalTriton
from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from services.serving.backend.record import read_choices
from services.serving.backend.translate import export
from services.serving.repository import Placement, write_entry
from tests.support.model_versions import write_model_version

pytestmark = pytest.mark.integration

SIDE_PX = 32
#: Engines are measured in processes that step back for others: on a busy machine that takes long.
LOAD_TIMEOUT_S = 600.0


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engine") / "version"
    write_model_version(folder, size_px=SIDE_PX)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def batch(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_every_engine_says_what_torch_says(engine: str, version: Path, cache: Path) -> None:
    request = EngineRequest(version, precision="float32", cache=cache)
    torch_answer = build_engine("torch", request)(batch(5))
    other_answer = build_engine(engine, request)(batch(5))
    # The fourth is for panels.
    assert torch_answer.disagreements is other_answer.disagreements is None
    for ours, theirs in zip(torch_answer[:3], other_answer[:3], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert ours.dtype == theirs.dtype == np.float32
    assert torch_answer.scores.shape == (5,)
    assert read_choices(cache, version, engine, "cpu")["cpu"].engine == engine


def test_a_graph_in_float16_says_nearly_the_same(version: Path, cache: Path) -> None:
    exact = build_engine("torch", EngineRequest(version, precision="float32", cache=cache))(batch(5))
    halved = build_engine("onnx", EngineRequest(version, precision="float16", cache=cache))(batch(5))
    difference = np.abs(exact.embeddings - halved.embeddings).max() / np.abs(exact.embeddings).max()
    assert 0 < difference < 0.01


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_is_exported_whole_and_for_any_batch(architecture: str, tmp_path: Path) -> None:
    onnxruntime = importlib.import_module("onnxruntime")
    height_px, width_px = 64, 96
    module = ServingModule(create_model(architecture, 3, "none"), precision="float32")
    # A last layer that hears the features: untrained ones say the same to everything.
    torch.nn.init.normal_(module.linear.weight, generator=torch.Generator().manual_seed(0))
    export(module, height_px, width_px, tmp_path / "graph.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 3):
        pixels = np.random.default_rng(count).integers(0, 256, (count, height_px, width_px, 3), dtype=np.uint8)
        expected = module(torch.from_numpy(pixels))
        found = session.run(None, {"IMAGE": pixels})
        for theirs, ours in zip(found, expected, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=1e-3, atol=1e-4)
            assert theirs.dtype == np.float32


def measured_in_triton(triton: LocalTriton, version: Path, cache: Path, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Load with the engine measured, ask, unload; the scores, and how long the load took."""
    control, client = TritonControl(triton.grpc_url), TritonInferenceClient([triton.grpc_url])
    try:
        started_s = time.monotonic()
        control.load("default-v1", LOAD_TIMEOUT_S)
        took_s = time.monotonic() - started_s
        scores = client.infer("default-v1", rows, 30).result(30).score
        control.unload("default-v1", 30)
        return scores, took_s
    finally:
        client.close()
        control.close()


@pytest.mark.timeout(900)
def test_triton_serves_by_the_engine_that_was_measured_fastest(tmp_path: Path) -> None:
    version, cache = tmp_path / "version", tmp_path / "derived"
    manifest = write_model_version(version, size_px=SIDE_PX, parts=4)
    rows = (batch(64) * np.linspace(0.1, 1, 64).reshape(-1, 1, 1, 1)).astype(np.uint8)
    expected = build_engine("torch", EngineRequest(version))(rows).scores
    triton = LocalTriton(tmp_path / "models")
    placement = Placement(engine="measured", precision="float32", max_batch_size=64)
    write_entry(triton.repository, manifest, version, placement, cache)
    try:
        triton.start()
        scores, measured_s = measured_in_triton(triton, version, cache, rows)
        record = read_choices(cache, version, "measured", "cpu")["cpu"]
        assert [one.engine for one in record.candidates] == ["torch", "openvino", "onnx"]
        assert all(one.images_per_s > 0 for one in record.candidates)
        admitted = [one for one in record.candidates if one.admitted]
        assert record.engine == max(admitted, key=lambda one: one.images_per_s).engine
        assert record.frames >= 1000
        assert len(record.verdicts) > 1
        np.testing.assert_allclose(scores, expected, atol=1e-4)
        point = manifest.operating_point
        assert [decide(float(a), point).verdict for a in scores] == [decide(float(b), point).verdict for b in expected]

        again, remembered_s = measured_in_triton(triton, version, cache, rows)
        np.testing.assert_array_equal(again, scores)
        assert remembered_s < measured_s / 2

        (file,) = cache.glob("choice-*/measured-cpu.json")
        written_ns = file.stat().st_mtime_ns
        file.write_text(file.read_text().replace('"images_per_s": ', '"images_per_s": 9'))
        assert read_choices(cache, version, "measured", "cpu") == {}
        again, _ = measured_in_triton(triton, version, cache, rows)
        np.testing.assert_allclose(again, expected, atol=1e-4)
        assert read_choices(cache, version, "measured", "cpu")["cpu"].frames == record.frames
        assert file.stat().st_mtime_ns > written_ns
    finally:
        triton.kill()


def test_an_answer_does_not_change_when_the_next_one_comes(version: Path, cache: Path) -> None:
    engine = build_engine("openvino", EngineRequest(version, precision="float32", cache=cache))
    first = engine(batch(3))
    kept = first.scores.copy()
    engine(255 - batch(3))
    np.testing.assert_array_equal(first.scores, kept)


def test_a_damaged_translation_is_made_again(version: Path, cache: Path) -> None:
    request = EngineRequest(version, precision="float32", cache=cache)
    expected = build_engine("openvino", request)(batch(2)).scores
    (kept,) = cache.glob("openvino-*")
    (kept / "graph.bin").write_bytes(b"bit rot")
    np.testing.assert_array_equal(build_engine("openvino", request)(batch(2)).scores, expected)
