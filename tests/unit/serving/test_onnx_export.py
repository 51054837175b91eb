from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from services.core.errors import ConflictError, InvalidInputError
from services.serving import onnx_export
from services.serving.backend.engine import Answer, EngineRequest, EngineUnavailableError
from services.serving.backend.torch_engine import TorchEngine
from services.serving.onnx_export import MANIFEST_PROPERTY, export_onnx
from tests.support.model_versions import write_model_version


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version") / "1"
    write_model_version(folder, size_px=32, parts=4)
    return folder


def test_the_file_gives_the_same_verdicts_and_carries_its_manifest(version: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "model.onnx"
    told: list[float] = []
    check = export_onnx(version, out, frames=40, threads=1, progress=lambda share, _: told.append(share))
    assert (check.frames, check.equal) == (40, 1.0)
    assert check.score_difference < 1e-4
    assert check.size_bytes == out.stat().st_size
    assert told[-1] == 1.0
    properties = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(properties[MANIFEST_PROPERTY])["classes"][0] == "good"
    image = np.full((1, 32, 32, 3), 90, np.uint8)
    (score,) = onnxruntime.InferenceSession(out).run(["SCORE"], {"IMAGE": image})
    assert score == pytest.approx(TorchEngine(EngineRequest(version))(image).scores, abs=1e-4)
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]


def test_a_network_that_says_something_else_is_not_written(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Turned(TorchEngine):
        def __call__(self, images: np.ndarray) -> Answer:
            answer = super().__call__(images)
            return answer._replace(scores=1 - answer.scores)

    monkeypatch.setattr(onnx_export, "TorchEngine", Turned)
    out = tmp_path / "model.onnx"
    with pytest.raises(EngineUnavailableError, match="same verdicts"):
        export_onnx(version, out, frames=20, threads=1)
    assert not out.exists()


def test_what_lies_there_is_not_replaced_and_what_cannot_be_meant_is_refused(version: Path, tmp_path: Path) -> None:
    there = tmp_path / "model.onnx"
    there.write_bytes(b"mine")
    with pytest.raises(ConflictError, match="must not be there yet"):
        export_onnx(version, there)
    assert there.read_bytes() == b"mine"
    with pytest.raises(InvalidInputError, match="an ONNX file must end in"):
        export_onnx(version, tmp_path / "model.pt")
    with pytest.raises(InvalidInputError, match="float32 or float16"):
        export_onnx(version, tmp_path / "other.onnx", "bfloat16")
