"""Which engine is chosen by measurement, which ones are refused, and when a measurement is made again."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.adapters.modelfolder import verify_version
from services.core.errors import ModelFormatError
from services.core.preprocessing import Preprocessing
from services.serving.backend import choice as choosing
from services.serving.backend.choice import CANDIDATES, REFERENCE, build_engine, measure_all
from services.serving.backend.engine import Answer, EngineRequest, EngineUnavailableError
from services.serving.backend.frames import LEAST_FRAMES, comparison_frames
from services.serving.backend.measure import Measurement, measure_engine
from services.serving.backend.record import (
    AGREEMENT,
    Candidate,
    Choice,
    fastest,
    key_of,
    read_choices,
    write_choice,
)
from services.serving.backend.torch_engine import TorchEngine
from tests.support.model_versions import write_model_version

SIDE_PX = 24
#: Frames that are pasted, lit, blurred come from few parts here.
PARTS = 4


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choice") / "version"
    write_model_version(folder, size_px=SIDE_PX, parts=PARTS)
    return folder


@pytest.fixture(scope="module")
def expected(version: Path) -> NDArray[np.float32]:
    """What torch says of the comparison's frames."""
    frames = np.stack(list(comparison_frames(version, verify_version(version))))
    scores = TorchEngine(EngineRequest(version)).__call__(frames).scores
    kinds = {choosing.decide(float(score), verify_version(version).operating_point).verdict for score in scores}
    assert len(kinds) > 1, "verdicts that are all alike prove nothing"
    return scores


def stand_in(
    scores: NDArray[np.float32], rates: dict[tuple[str, str], float], wrong: dict[tuple[str, str], float] | None = None
) -> Callable[[EngineRequest, str, float], Measurement]:
    """Measures nothing: gives the rates it is told, and torch's scores but for the ones that are told to be off."""

    def measure(request: EngineRequest, engine: str, to_beat: float) -> Measurement:
        one = (engine, request.precision)
        if one not in rates:
            raise EngineUnavailableError(f"{engine} is not installed")
        if rates[one] <= to_beat:
            return Measurement(rates[one], None)
        off = (wrong or {}).get(one, 0.0)
        return Measurement(rates[one], np.clip(scores + np.float32(off), 0, 1).astype(np.float32))

    return measure


# ---- what is chosen


def test_the_fastest_that_agrees_is_chosen(version: Path, expected: NDArray[np.float32]) -> None:
    rates = {REFERENCE: 10.0, ("openvino", "float32"): 30.0, ("onnx", "float32"): 40.0}
    choice = measure_all(EngineRequest(version), measure=stand_in(expected, rates))
    assert (choice.engine, choice.precision) == ("onnx", "float32")
    assert choice.frames >= LEAST_FRAMES
    assert sum(choice.verdicts.values()) == choice.frames


def test_a_faster_engine_whose_verdicts_differ_is_refused(version: Path, expected: NDArray[np.float32]) -> None:
    rates = {REFERENCE: 10.0, ("openvino", "float32"): 30.0, ("openvino", "bfloat16"): 90.0}
    measure = stand_in(expected, rates, wrong={("openvino", "bfloat16"): 0.1})
    choice = measure_all(EngineRequest(version), measure=measure)
    assert (choice.engine, choice.precision) == ("openvino", "float32")
    (refused,) = (one for one in choice.candidates if one.precision == "bfloat16" and one.engine == "openvino")
    assert not refused.admitted
    assert refused.verdicts_equal is not None
    assert refused.verdicts_equal < AGREEMENT
    assert "of the verdicts equal torch's, at 90.0/s" in choice.told


def test_one_verdict_in_a_thousand_may_differ_and_two_may_not(version: Path, expected: NDArray[np.float32]) -> None:
    flipped = {}
    for count in (1, 2):
        scores = expected[:1000].copy()
        scores[:count] = np.where(scores[:count] < 0.5, 1.0, 0.0)
        found = Measurement(99.0, scores)
        point = verify_version(version).operating_point
        flipped[count] = choosing._compared(Candidate("onnx", "float32", 99.0), found, expected[:1000], point)
    assert flipped[1].admitted
    assert not flipped[2].admitted


def test_an_engine_that_gives_nan_is_refused(version: Path, expected: NDArray[np.float32]) -> None:
    rates = {REFERENCE: 10.0, ("onnx", "float32"): 40.0}
    measure = stand_in(expected, rates, wrong={("onnx", "float32"): float("nan")})
    choice = measure_all(EngineRequest(version), measure=measure)
    assert choice.engine == "torch"
    assert any("finite" in one.refused for one in choice.candidates)


def test_a_slower_engine_is_not_compared_unless_all_are(version: Path, expected: NDArray[np.float32]) -> None:
    rates = {REFERENCE: 50.0, ("onnx", "float32"): 40.0}
    slow = measure_all(EngineRequest(version), measure=stand_in(expected, rates)).candidates[2]
    assert (slow.verdicts_equal, slow.refused) == (None, "slower, 40.0/s")
    choice = measure_all(EngineRequest(version), measure=stand_in(expected, rates), compare_all=True)
    assert choice.candidates[2].verdicts_equal == 1.0
    assert choice.engine == "torch"


def test_what_does_not_run_here_is_told_with_its_reason(version: Path, expected: NDArray[np.float32]) -> None:
    choice = measure_all(EngineRequest(version, device="cuda:1"), measure=stand_in(expected, {REFERENCE: 5.0}))
    assert (choice.engine, choice.precision) == REFERENCE
    assert {(one.engine, one.precision) for one in choice.candidates} == set(CANDIDATES["cuda"])
    assert "tensorrt float16 tensorrt is not installed" in choice.told


def test_a_precision_that_is_asked_for_is_the_only_one_tried(version: Path, expected: NDArray[np.float32]) -> None:
    rates = {REFERENCE: 5.0, ("openvino", "bfloat16"): 9.0, ("openvino", "float32"): 99.0}
    choice = measure_all(EngineRequest(version, precision="bfloat16"), measure=stand_in(expected, rates))
    assert {one.precision for one in choice.candidates[1:]} == {"bfloat16"}
    assert choice.engine == "openvino"


def test_without_torch_there_is_nothing_to_compare_with(version: Path, expected: NDArray[np.float32]) -> None:
    with pytest.raises(EngineUnavailableError, match="torch is not installed"):
        measure_all(EngineRequest(version), measure=stand_in(expected, {("onnx", "float32"): 40.0}))


# ---- measuring one engine


def test_an_engine_is_timed_and_asked_for_every_frame_once(version: Path, expected: NDArray[np.float32]) -> None:
    frames = comparison_frames(version, verify_version(version))
    measured = measure_engine(TorchEngine(EngineRequest(version)), frames, 16)
    np.testing.assert_allclose(measured.scores, expected, atol=1e-6)
    assert measured.images_per_s > 0


def test_an_engine_that_is_wrong_is_refused_for_what_it_says(version: Path, expected: NDArray[np.float32]) -> None:
    right = TorchEngine(EngineRequest(version))

    def wrong(images: NDArray[np.uint8]) -> Answer:
        # Red and blue exchanged: plausible scores, and not the model's.
        return right(np.ascontiguousarray(images[..., ::-1] // 2))

    def measure(request: EngineRequest, engine: str, to_beat: float) -> Measurement:
        if engine == "torch":
            return Measurement(1.0, expected)
        if (engine, request.precision) != ("onnx", "float32"):
            raise EngineUnavailableError("not here")
        return measure_engine(wrong, comparison_frames(version, verify_version(version)), 16, to_beat)

    choice = measure_all(EngineRequest(version), measure=measure)
    assert (choice.engine, choice.precision) == REFERENCE
    assert "of the verdicts equal torch's" in choice.candidates[2].refused


# ---- the frames


def test_the_frames_are_enough_varied_and_the_same_each_time(version: Path) -> None:
    manifest = verify_version(version)
    first, again = (np.stack(list(comparison_frames(version, manifest))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(first) >= LEAST_FRAMES
    assert first.dtype == np.uint8
    assert len(np.unique(first.reshape(len(first), -1), axis=0)) > 0.98 * len(first)


def test_the_parts_themselves_are_among_the_frames_and_tiles_take_turns(version: Path) -> None:
    manifest = verify_version(version)
    tiled = replace(manifest, preprocessing=Preprocessing(mode="tiles", height_px=16, width_px=16))
    frames = list(comparison_frames(version, tiled, least=8))
    assert len(frames) == 8
    assert {frame.shape for frame in frames} == {(16, 16, 3)}


def test_a_version_without_reference_parts_cannot_be_compared(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from services.serving.backend import frames

    empty = replace(frames.read_reference(version), files=(), images={})
    monkeypatch.setattr(frames, "read_reference", lambda _folder: empty)
    with pytest.raises(ModelFormatError, match="must have reference parts"):
        next(comparison_frames(version, verify_version(version)))


# ---- what is kept


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, expected: NDArray[np.float32]) -> list[str]:
    """Engines that were measured; nothing is for real but the choice and its record."""
    asked: list[str] = []
    measure = stand_in(expected, {REFERENCE: 10.0, ("onnx", "float32"): 40.0})

    def counting(request: EngineRequest, engine: str, to_beat: float) -> Measurement:
        asked.append(engine)
        return measure(request, engine, to_beat)

    real = choosing.measure_all
    monkeypatch.setattr(choosing, "measure_all", lambda request, setting: real(request, setting, counting))
    monkeypatch.setattr(choosing, "engine_of", lambda name, _request: name)
    return asked


def bring_up(request: EngineRequest, counted: list[str]) -> bool:
    """Build, and tell whether anything was measured."""
    before = len(counted)
    assert build_engine("measured", request) == "onnx"
    return len(counted) > before


def record(request: EngineRequest) -> Path:
    assert request.cache is not None
    (path,) = request.cache.glob("choice-*/measured-cpu.json")
    return path


def test_the_second_load_does_not_measure(version: Path, tmp_path: Path, counted: list[str]) -> None:
    request = EngineRequest(version, cache=tmp_path)
    assert bring_up(request, counted)
    assert not bring_up(request, counted)
    assert read_choices(tmp_path, version, "measured", "cpu")["cpu"].engine == "onnx"


def test_a_second_gpu_of_the_same_name_takes_what_the_first_has_measured(
    version: Path, tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"cuda:0": "H100", "cuda:1": "H100", "cuda:2": "L4"}
    monkeypatch.setattr("services.serving.backend.record._device", lambda device: (names[device], {}))
    took = {name: bring_up(EngineRequest(version, device=name, cache=tmp_path), counted) for name in names}
    assert took == {"cuda:0": True, "cuda:1": False, "cuda:2": True}
    assert set(read_choices(tmp_path, version, "measured", "cuda")) == set(names)


@pytest.mark.parametrize("change", [{"threads": 2}, {"max_batch_size": 4}, {"precision": "float32"}])
def test_another_way_to_run_is_measured_anew(
    version: Path, tmp_path: Path, counted: list[str], change: dict[str, object]
) -> None:
    request = EngineRequest(version, cache=tmp_path)
    assert bring_up(request, counted)
    assert bring_up(replace(request, **change), counted)


def test_another_library_or_device_is_measured_anew(
    version: Path, tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = EngineRequest(version, cache=tmp_path)
    assert bring_up(request, counted)
    monkeypatch.setenv("TRT_VERSION", "11.0.0")
    assert bring_up(request, counted)
    monkeypatch.setattr("services.serving.backend.record._device", lambda _device: ("another", {}))
    assert bring_up(request, counted)
    assert not bring_up(request, counted)
    monkeypatch.setattr("services.serving.backend.record._device", lambda _device: ("", {}))
    assert bring_up(request, counted)
    assert bring_up(request, counted), "what is not known cannot be known to be the same"


def test_a_tampered_record_is_ignored(version: Path, tmp_path: Path, counted: list[str]) -> None:
    request = EngineRequest(version, cache=tmp_path)
    assert bring_up(request, counted)
    path = record(request)
    path.write_text(path.read_text().replace('"engine": "onnx",\n  "fallback"', '"engine": "torch",\n  "fallback"'))
    assert read_choices(tmp_path, version, "measured", "cpu") == {}
    assert bring_up(request, counted)
    path.write_text("not JSON")
    assert bring_up(request, counted)
    path.write_text("[]")
    assert bring_up(request, counted)


def test_a_record_whose_choice_does_not_follow_from_its_figures_is_ignored(version: Path, tmp_path: Path) -> None:
    request = EngineRequest(version, cache=tmp_path)
    candidates = (Candidate(*REFERENCE, 10.0, 1.0, 0.0), Candidate("onnx", "float32", 40.0, 0.9, 0.5))
    for engine, whole in (("torch", True), ("onnx", False)):
        write_choice(tmp_path, Choice(key_of(request), "measured", engine, "float32", candidates=candidates), "cpu")
        assert bool(read_choices(tmp_path, version, "measured", "cpu")) is whole


def test_a_record_of_an_unknown_schema_field_is_ignored(version: Path, tmp_path: Path, counted: list[str]) -> None:
    request = EngineRequest(version, cache=tmp_path)
    bring_up(request, counted)
    value = json.loads(record(request).read_text())
    value["choice"]["surprise"] = 1
    from services.serving.backend.record import _digest

    value["sha256"] = _digest(value["choice"])
    record(request).write_text(json.dumps(value))
    assert read_choices(tmp_path, version, "measured", "cpu") == {}


def test_each_device_has_its_own_record(version: Path, tmp_path: Path) -> None:
    for device, engine in (("cuda:0", "tensorrt"), ("cuda:1", "torch"), ("cpu", "openvino")):
        choice = Choice(key_of(EngineRequest(version)), "auto", engine, "float32")
        write_choice(tmp_path, choice, device)
    found = read_choices(tmp_path, version, "auto", "cuda")
    assert {device: choice.engine for device, choice in found.items()} == {"cuda:0": "tensorrt", "cuda:1": "torch"}


def test_none_that_agrees_is_fastest() -> None:
    assert fastest((Candidate("onnx", "float32", 40.0, 0.9), Candidate("torch", "float16", 90.0))) is None


def test_a_gpu_is_known_by_name_and_driver_as_cuda_counts_them(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "NVIDIA H100 80GB HBM3 at $1, 580.95.05"\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    key = key_of(EngineRequest(version, device="cuda:1"))
    assert key.device == "NVIDIA H100 80GB HBM3 at --id=1"
    assert key.libraries["driver"] == "580.95.05"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert key_of(EngineRequest(version, device="cuda:1")).device.endswith("--id=GPU-5")
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert key_of(EngineRequest(version, device="cuda:1")).device == ""


# ---- falling back


def test_an_engine_whose_package_is_missing_is_replaced_by_torch(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "services.serving.backend.onnx_engine", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = build_engine("onnx", EngineRequest(version, cache=tmp_path))
    assert isinstance(engine, TorchEngine)
    assert "its package must be installed" in caplog.text
    told = read_choices(tmp_path, version, "onnx", "cpu")["cpu"]
    assert told.engine == "torch"
    assert "onnx: its package must be installed" in told.fallback


def test_where_torch_cannot_be_measured_it_serves_and_says_so(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Choice:
        raise EngineUnavailableError("killed by signal 9")

    monkeypatch.setattr(choosing, "measure_all", broken)
    assert isinstance(build_engine("measured", EngineRequest(version, cache=tmp_path)), TorchEngine)
    assert "killed by signal 9" in read_choices(tmp_path, version, "measured", "cpu")["cpu"].fallback


def test_what_was_chosen_and_no_longer_runs_is_replaced_by_torch_and_measured_anew(
    version: Path, tmp_path: Path, expected: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    measure = stand_in(expected, {REFERENCE: 10.0, ("onnx", "float32"): 40.0})
    real = choosing.measure_all
    monkeypatch.setattr(
        choosing, "measure_all", lambda request, setting: measured.append(1) or real(request, setting, measure)
    )
    monkeypatch.delitem(sys.modules, "services.serving.backend.onnx_engine", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for _ in range(2):
        assert isinstance(build_engine("measured", EngineRequest(version, cache=tmp_path)), TorchEngine)
    assert len(measured) == 2
