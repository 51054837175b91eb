from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.core.errors import InvalidInputError
from services.experiments import ceod as experiment
from services.experiments.ceod import CeodPlan, Network, choose_arms, loss_of, parse_network
from services.experiments.ceod_presets import PRESETS, choose_preset

TINY = ("--data", "simulated:zipper", "--aoi", "truth", "--size", "48x32", "--parts", "48", "--epochs", "1")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["experiment", "ceod", *arguments], catch_exceptions=True)


def test_both_losses_give_rows_pairs_and_a_page_and_are_not_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    first = run(*TINY, "--seeds", "1", "--json", str(out), "--report", str(page))
    held = json.loads(out.read_text())

    trained: list[tuple[Any, ...]] = []
    once = experiment._run_trial
    monkeypatch.setattr(experiment, "_run_trial", lambda *given: trained.append(given[2:5]) or once(*given))
    second = run(*TINY, "--seeds", "1", "--json", str(out), "--arms", "ce,ceod,ceod-paper")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert held["schema"] == 1
    assert {(row["network"], row["arm"], row["split"], row["at"]) for row in held["rows"]} == {
        ("customnet", arm, split, at)
        for arm in ("ce", "ceod")
        for split in ("train", "validation", "test")
        for at in ("argmax", "equal-recall", "recall-90")
    }
    assert {row["arm"] for row in held["paired"]} == {"ceod"}
    for row in held["rows"]:
        assert 0 <= row["accuracy"]["mean"] <= 1
        assert row["step_s"]["mean"] > 0
        assert 0 <= row["overlap"]["mean"] <= 1
    assert trained == [(Network("customnet"), "ceod-paper", 0)]
    again = json.loads(out.read_text())
    assert [row for row in again["rows"] if row["arm"] != "ceod-paper"] == held["rows"]  # times too
    text = page.read_text()
    assert "equal-recall" in text
    assert text.count('alt="heat map"') >= 4
    assert "Where each loss looks" in text


def test_all_losses_of_a_seed_start_from_one_network() -> None:
    from services.adapters.areas import parse_area
    from services.experiments.ceod_sample import prepare_area_sample, read_area_parts

    parts = read_area_parts("simulated:zipper", 40, parse_area("masks"), least_px=96)
    sample = prepare_area_sample(parts, (48, 32))
    plan = CeodPlan((Network("customnet"),), ("ce", "ceod"), epochs=1)
    found: list[experiment.CeodTrial] = []
    # A weight of nothing: what is left is the same start, split and order.
    experiment.run_ceod(
        sample, CeodPlan(plan.networks, plan.arms, 1, experiment.CeodSettings(omega=0), 1), found.append
    )
    assert found[0].sides["test"]["parts"] == found[1].sides["test"]["parts"]
    assert found[0].sides["test"]["scores"] == pytest.approx(found[1].sides["test"]["scores"], abs=1e-5)


def test_a_network_that_cannot_be_had_has_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.core.errors import UnavailableError

    built = experiment.create_model

    def refused(name: str, *given: Any, **more: Any) -> Any:
        if name == "resnet18":
            raise UnavailableError("weights could not be had")
        return built(name, *given, **more)

    monkeypatch.setattr(experiment, "create_model", refused)
    out = tmp_path / "out.json"
    result = run(*TINY, "--networks", "resnet18:tl,customnet:ft", "--json", str(out))
    rows = json.loads(out.read_text())["rows"]
    assert result.exit_code == 0, result.output
    assert {(row["network"], row["arm"]) for row in rows if "error" in row} == {
        ("resnet18:tl", "ce"),
        ("resnet18:tl", "ceod"),
    }
    assert any(row["network"] == "customnet:ft" and "error" not in row for row in rows)
    assert "weights could not be had" in result.output


def test_a_network_says_how_much_of_it_is_trained() -> None:
    assert parse_network("customnet").name == "customnet"
    assert parse_network("efficientnet-b0:tl") == Network("efficientnet-b0", "tl")
    for wrong in ("lenet", "customnet:half"):
        with pytest.raises(InvalidInputError, match="customnet"):
            parse_network(wrong)


def test_cross_entropy_is_always_among_the_losses_and_first() -> None:
    assert choose_arms(("ceod-paper", "ceod")) == ("ce", "ceod", "ceod-paper")
    for wrong in ((), ("ce",), ("focal",)):
        with pytest.raises(InvalidInputError, match="--arms"):
            choose_arms(wrong)


def test_the_paper_arm_keeps_the_papers_omega() -> None:
    plan = CeodPlan((), loss=experiment.CeodSettings(omega=0.3))
    assert loss_of("ce", plan) is None
    paper = loss_of("ceod-paper", plan)
    assert paper is not None
    assert (paper.omega, paper.variant) == (0.001, "paper")


def test_a_presets_values_give_way_to_what_is_said() -> None:
    assert choose_preset("quick", {"seeds": None, "omega": 0.0}).seeds == PRESETS["quick"].seeds
    assert choose_preset("quick", {"omega": 0.0}).omega == 0
    with pytest.raises(InvalidInputError, match="quick, paper"):
        choose_preset("slow", {})
    with pytest.raises(InvalidInputError, match="--data"):
        choose_preset("", {})


def test_trainings_beside_each_other_give_what_they_give_one_after_the_other(tmp_path: Path) -> None:
    tables = []
    for processes in ("1", "2"):
        out = tmp_path / f"{processes}.json"
        result = run(*TINY, "--networks", "customnet", "--processes", processes, "--json", str(out))
        assert result.exit_code == 0, result.output
        rows = json.loads(out.read_text())["rows"]
        tables.append([{name: value for name, value in row.items() if not name.startswith("step_")} for row in rows])
    assert tables[0] == tables[1]
