from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from services.core.errors import InvalidInputError
from services.core.promotion import Gate, GateName, GateState, PromotionPolicy, PromotionReport
from services.core.training_run import AnsweredPart, CandidateReport, Confusion, FlippedPart, Loss, Recipe
from services.core.types import Verdict
from services.trainer import work
from services.trainer.order import LearningOrder, LearningProgress, LearningSettings
from services.trainer.plainfile import from_json, to_json, to_line
from services.trainer.worker import WorkerSettings
from tests.support.tiny_line import SETTINGS, TinyLine, answer, snapshot, write_live

REPORT = CandidateReport(
    1,
    PromotionReport((Gate(GateName.LATENCY, GateState.KEPT, math.nan, 3.5, math.inf, n=7),)),
    None,
    Confusion(1, 2, 3, 4, 5, 6),
    (FlippedPart("p", "disc", "dent", Verdict.PASS, Verdict.FAIL, 0.1, 0.9),),
    (AnsweredPart("a" * 64, "q", ("r1", "r2"), "good", Verdict.REVIEW, 0.5, True, False, False, False),),
    10,
    4,
    9,
)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> TinyLine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.trainer.networks.openvino", None)
        return write_live(tmp_path_factory.mktemp("line") / "1")


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that nobody serves."""
    monkeypatch.setattr("services.trainer.networks.openvino", None)
    monkeypatch.setenv("SIGHTLINE_OBJECT_STORE__ENDPOINT", "127.0.0.1:1")


def test_a_report_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    work.write_report(tmp_path, REPORT)
    read = work.read_report(tmp_path)
    # NaN is equal to nothing.
    assert math.isnan(read.promotion.gates[0].live)
    assert repr(read) == repr(REPORT)


def test_an_order_comes_back_from_its_folder(line: TinyLine, tmp_path: Path) -> None:
    settings = LearningSettings(
        recipe=Recipe.FINETUNE, loss=Loss.CEOD, gates=PromotionPolicy(max_latency_ms=math.inf), answer_weight=3.0
    )
    order = LearningOrder("default", 2, line.folder, snapshot([answer(line, "spot", 1)]), settings)
    assert not work.write_order(tmp_path / "run", order)
    assert work.read_order(tmp_path / "run") == order
    assert work.read_order(tmp_path / "run", 4).settings == settings.with_batch_size(4)
    assert work.write_order(tmp_path / "run", order)


def test_another_order_leaves_nothing_of_the_one_before(line: TinyLine, tmp_path: Path) -> None:
    order = LearningOrder("default", 2, line.folder, snapshot([answer(line, "spot", 1)]), SETTINGS)
    work.write_order(tmp_path, order)
    work.write_report(tmp_path, REPORT)
    (tmp_path / work.CHECKPOINT).write_bytes(b"x")
    work.write_order(tmp_path, replace(order, version=3))
    assert not (tmp_path / work.REPORT).exists()
    assert not (tmp_path / work.CHECKPOINT).exists()


def test_what_is_refused_says_why(line: TinyLine, tmp_path: Path) -> None:
    work.write_order(tmp_path, LearningOrder("default", 2, line.folder, snapshot([]), SETTINGS))
    assert work.work(tmp_path) == work.REFUSED
    error = work.read_error(tmp_path)
    assert error.reason == "nothing_to_learn"
    assert "must have a picture" in error.text


def test_a_store_that_does_not_answer_is_no_refusal(line: TinyLine, tmp_path: Path) -> None:
    work.write_order(tmp_path, LearningOrder("default", 2, line.folder, snapshot([answer(line, "spot", 1)]), SETTINGS))
    assert work.work(tmp_path) == work.UNAVAILABLE
    assert work.read_error(tmp_path).reason == "unavailable"


def test_files_of_another_layout_are_refused() -> None:
    line = to_line(LearningProgress(0.5, "x"))
    assert line.count("\n") == 1
    assert from_json(LearningProgress, line.encode(), "progress").share == 0.5
    for data in (b"", b"[]", b'{"share": 1.0}', to_json(REPORT)):
        with pytest.raises(InvalidInputError, match="progress must hold a LearningProgress as JSON"):
            from_json(LearningProgress, data, "progress")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"niceness must lie in 0\.\.19"):
        WorkerSettings(niceness=-1)
    with pytest.raises(InvalidInputError, match="answer_weight must be finite and above 0, got 0"):
        LearningSettings(answer_weight=0)
    with pytest.raises(InvalidInputError, match="region_weight must be finite and >= 0"):
        LearningSettings(region_weight=math.nan)
