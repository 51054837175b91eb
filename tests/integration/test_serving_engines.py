"""Torch and OpenVINO serve the same version alike; a translation takes seconds and is made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.serving.backend.choice import build_engine
from services.serving.backend.engine import EngineRequest
from tests.support.model_versions import write_model_version

pytestmark = pytest.mark.integration

SIDE_PX = 32


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


def test_both_engines_say_the_same(version: Path, cache: Path) -> None:
    request = EngineRequest(version, precision="float32", cache=cache)
    torch_answer = build_engine("torch", request)(batch(5))
    openvino_answer = build_engine("openvino", request)(batch(5))
    for ours, theirs in zip(torch_answer, openvino_answer, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert ours.dtype == theirs.dtype == np.float32
    assert torch_answer.scores.shape == (5,)


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
