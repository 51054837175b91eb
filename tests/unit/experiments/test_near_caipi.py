from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.core.errors import ConflictError, InvalidInputError
from services.core.selection.near_caipi import Round
from services.core.selection.refutations import RefutationSettings
from services.core.selection.strategies import strategy_named
from services.experiments.commands import experiment_app
from services.experiments.near_caipi import (
    FrozenLearner,
    InteractiveSettings,
    Learner,
    PreparedPart,
    Run,
    TunedLearner,
    _Simulation,
    deal,
    interactive_conditions,
    prepare_parts,
    run_interactive,
    usable_strategies,
)
from services.experiments.near_caipi_report import near_caipi_markdown, render_near_caipi
from services.experiments.near_caipi_table import (
    InteractiveResults,
    interactions_to_reach,
    mcc_area,
    mean_figure,
    tabulate,
)
from services.experiments.parts import Part

SIDE = 64
NOTHING = np.zeros((SIDE, SIDE), np.bool_)


def spotted(count: int, *, masks: bool = True) -> list[PreparedPart]:
    """Grey parts; every second one has a dark spot."""
    random = np.random.default_rng(3)
    parts = []
    for number in range(count):
        image = random.normal(130, 8, (SIDE, SIDE, 3))
        mask = NOTHING.copy()
        if number % 2:
            y, x = random.integers(4, SIDE - 16, 2)
            mask[y : y + 12, x : x + 12] = True
            image[mask] -= 60
        shown = mask if masks else NOTHING
        parts.append(PreparedPart(f"part-{number}", bool(number % 2), image.clip(0, 255).astype(np.uint8), shown))
    return parts


def settings(**changes: object) -> InteractiveSettings:
    few = RefutationSettings(move=1, paste=1, light=0)
    small = {"rounds": 2, "per_round": 4, "start": 8, "seeds": 1, "side_px": SIDE, "explained": 4, "refutations": few}
    return InteractiveSettings(**(small | changes))  # type: ignore[arg-type]


def run(strategy: str, seed: int, mccs: list[float]) -> Run:
    steps = tuple(range(0, 10 * len(mccs), 10))
    figures = {
        "accuracy": tuple(mccs),
        "f1": tuple(mccs),
        "mcc": tuple(mccs),
        "explanation_dice": (math.nan,) * len(mccs),
        "explanation_hit": (0.5,) * len(mccs),
    }
    return Run(strategy, seed, steps, figures, tuple(Round(10, 2, 1, 3) for _ in mccs[1:]))


def test_every_strategy_asks_as_often_and_starts_from_the_same_network() -> None:
    runs: list[Run] = []
    run_interactive(spotted(60), settings(), runs.append)
    assert [one.strategy for one in runs] == ["random", "al", "near-al", "caipi", "near-caipi"]
    assert {one.interactions for one in runs} == {(0, 4, 8)}
    assert len({one.figures["mcc"][0] for one in runs}) == 1
    assert all(0 <= one.figures["explanation_dice"][-1] <= 1 for one in runs)


def test_the_same_seed_gives_the_same_figures() -> None:
    first: list[Run] = []
    second: list[Run] = []
    for runs in (first, second):
        run_interactive(spotted(60), settings(strategies=("near-caipi",), rounds=1), runs.append)
    assert first[0].figures == second[0].figures
    assert first[0].asked == second[0].asked


def test_all_layers_can_be_trained_instead() -> None:
    runs: list[Run] = []
    tuned = settings(model="customnet", options=(), epochs=1, rounds=1, strategies=("near-caipi",))
    run_interactive(spotted(60), tuned, runs.append)
    assert runs[0].interactions == (0, 4)


@pytest.mark.parametrize("strategy", ["random", "near-caipi"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_was_killed_goes_on_after_its_last_round(tmp_path: Path, strategy: str, epochs: int) -> None:
    class KilledError(Exception):
        pass

    network: dict[str, object] = {"model": "customnet", "options": (), "epochs": 1} if epochs else {}
    wanted = settings(strategies=(strategy,), rounds=3, **network)
    conditions = {"data": "spots"}
    seen: list[str] = []

    def once(_stage: str, _share: float, what: str) -> None:
        seen.append(what)
        if what.startswith("round 2"):
            raise KilledError

    whole: list[Run] = []
    run_interactive(spotted(60), wanted, whole.append)
    with pytest.raises(KilledError):
        run_interactive(spotted(60), wanted, whole.append, frozenset(), once, tmp_path / "rounds", conditions)
    assert len(whole) == 1
    with pytest.raises(ConflictError, match="other conditions"):
        run_interactive(spotted(60), wanted, whole.append, journals=tmp_path / "rounds", conditions={"data": "other"})
    run_interactive(
        spotted(60),
        wanted,
        whole.append,
        frozenset(),
        lambda _stage, _share, what: seen.append(what),
        tmp_path / "rounds",
        conditions,
    )
    assert "training after round 2" in seen
    assert sum(what.startswith("round 1") for what in seen) == 1
    assert whole[0].interactions == whole[1].interactions == (0, 4, 8, 12)
    assert whole[0].figures == whole[1].figures
    assert whole[0].asked == whole[1].asked
    assert not (tmp_path / "rounds").exists(), "a run that is over is on record elsewhere"


def test_a_journal_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "al-0.json").write_text("[]")
    with pytest.raises(ConflictError, match="remove it"):
        run_interactive(spotted(60), settings(strategies=("al",)), [].append, journals=tmp_path, conditions={})


def test_runs_beside_each_other_have_the_figures_of_runs_one_after_the_other() -> None:
    alone: list[Run] = []
    beside: list[Run] = []
    for processes, runs in ((1, alone), (2, beside)):
        run_interactive(spotted(60), settings(strategies=("al", "caipi"), rounds=1, processes=processes), runs.append)
    found = {run.strategy: (run.figures, run.asked) for run in beside}
    assert found == {run.strategy: (run.figures, run.asked) for run in alone}


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_part_and_its_refutations_count_as_much_as_a_part_alone(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    learner = TunedLearner if epochs else FrozenLearner
    real = learner.train

    def owners(weigh: str) -> np.ndarray:
        given: list[np.ndarray] = []

        def train(self: Learner, rows: np.ndarray, labels: np.ndarray, owners: np.ndarray, *more: object) -> None:
            given.append(owners)
            real(self, rows, labels, owners, *more)  # type: ignore[arg-type]

        monkeypatch.setattr(learner, "train", train)
        network = {"model": "customnet", "options": (), "epochs": 1} if epochs else {}
        run_interactive(spotted(60), settings(strategies=("caipi",), rounds=1, weigh=weigh, **network), [].append)
        return given[-1]

    answers, pictures = owners("answers"), owners("pictures")
    assert len(set(answers)) == 8 + 4
    assert len(answers) == len(pictures) > 8 + 4
    assert len(set(pictures)) == len(pictures)


def test_a_neighbour_is_of_another_group_unless_told_otherwise() -> None:
    one = spotted(1)[0]
    parts = [
        PreparedPart(group, defective, one.image, one.mask)
        for group, defective in (("a", False), ("a", False), ("b", False), ("a", True), ("c", True))
    ]

    def taken(own_group: bool) -> list[int]:
        chosen = settings(own_group=own_group, truth_neighbours=True)
        sets = {"start": [0], "pool": [1, 2, 3, 4], "validation": [0], "test": [0]}
        rows = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.9], [1.0, 0.2], [1.0, 0.8]], np.float32)
        simulation = _Simulation(parts, sets, strategy_named("near-al"), chosen, 0, FrozenLearner(chosen), rows)
        simulation._predicted = {}
        simulation._embeddings = {at: row / np.linalg.norm(row) for at, row in enumerate(rows.astype(np.float64))}
        return list(simulation.take_hits_and_misses(0, 0, 2))

    assert taken(own_group=True) == [1, 3]
    assert taken(own_group=False) == [2, 4]


def test_an_operator_who_accepts_any_map_that_touches_the_defect_corrects_fewer_reasons() -> None:
    def corrected(accept: float | None) -> int:
        runs: list[Run] = []
        run_interactive(spotted(60), settings(strategies=("al",), per_round=8, accept_overlap=accept), runs.append)
        return sum(one.wrong_reasons for one in runs[0].asked)

    assert corrected(0.01) < corrected(None)


def test_the_four_sets_share_no_group_and_the_start_is_as_large_as_asked() -> None:
    parts = [PreparedPart(f"g{number // 2}", number % 4 < 2, *spotted_part()) for number in range(120)]
    sets = deal(parts, 20, seed=1)
    groups = [{parts[row].group for row in rows} for rows in sets.values()]
    assert sum(len(one) for one in groups) == len(set.union(*groups))
    assert len(sets["start"]) == pytest.approx(20, abs=2)
    assert sum(len(rows) for rows in sets.values()) == 120


def spotted_part() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.bool_)


def test_a_start_that_leaves_nothing_to_ask_about_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="leave parts to ask about"):
        deal(spotted(20), 18, seed=0)


def test_without_masks_the_strategies_that_refute_are_left_out() -> None:
    names = ("random", "al", "near-al", "caipi", "near-caipi")
    assert usable_strategies(spotted(4), names) == (names, ())
    assert usable_strategies(spotted(4, masks=False), names) == (("random", "al", "near-al"), ("caipi", "near-caipi"))


def test_a_mask_is_brought_to_the_networks_input_as_its_picture_is() -> None:
    image = np.full((40, 80, 3), 200, np.uint8)
    mask = np.zeros((40, 80), np.bool_)
    mask[10:20, 20:40] = True
    image[mask] = 0
    (part,) = prepare_parts([Part("a", "a", "scratch", image, mask)], SIDE)
    dark = part.image.mean(axis=2) < 100
    assert (dark == part.mask).mean() > 0.99
    assert part.mask.any()


def test_the_area_is_the_mean_height_of_the_curve() -> None:
    assert mcc_area(run("al", 0, [0.2, 0.4, 0.6])) == pytest.approx(0.4)
    assert mcc_area(run("al", 0, [0.3])) == pytest.approx(0.3)


def test_a_target_is_reached_at_the_first_training_that_has_it_or_never() -> None:
    assert interactions_to_reach(run("al", 0, [0.2, 0.5, 0.4]), 0.45) == 10
    assert interactions_to_reach(run("al", 0, [0.2, 0.3]), 0.45) == math.inf


def test_an_interval_is_students_over_the_seeds() -> None:
    found = mean_figure([0.1, 0.2, 0.3])
    assert found["mean"] == pytest.approx(0.2)
    # 4.303 is Student's quantile with two degrees of freedom.
    assert found["high"] == pytest.approx(0.2 + 4.303 * 0.1 / math.sqrt(3), abs=1e-3)
    assert mean_figure([0.1]) == {"mean": 0.1, "low": 0.1, "high": 0.1}
    assert mean_figure([math.nan]) == {"mean": None, "low": None, "high": None}


def test_pairs_are_taken_seed_by_seed() -> None:
    runs = [
        run("al", 0, [0.0, 0.2]),
        run("near-al", 0, [0.0, 0.4]),
        run("al", 1, [0.0, 0.6]),
        run("near-al", 1, [0.0, 0.8]),
    ]
    (pair,) = tabulate(runs)["paired"]
    assert (pair["a"], pair["b"], pair["seeds"]) == ("near-al", "al", 2)
    assert pair["mcc_area_difference"]["mean"] == pytest.approx(0.1)
    assert pair["mcc_area_difference"]["low"] == pytest.approx(0.1), "every seed gains the same"


def test_a_row_says_how_soon_the_last_of_random_and_of_active_learning_is_reached() -> None:
    found = tabulate([run("random", 0, [0.0, 0.2, 0.4]), run("near-caipi", 0, [0.0, 0.5, 0.6])])
    row = next(row for row in found["rows"] if row["strategy"] == "near-caipi")
    assert row["reaches"]["random"]["interactions"] == 10
    assert row["reaches"]["random"]["share"] == pytest.approx(0.5)
    assert "al" not in row["reaches"]


def test_a_run_that_is_on_the_disk_is_gone_on_with_and_other_conditions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "near.json"
    results = InteractiveResults({"start": 8}, path)
    results.add(run("al", 0, [0.1, 0.2]))
    again = InteractiveResults({"start": 8}, path)
    assert again.done == {("al", 0)}
    again.add(run("al", 1, [0.1, 0.3]))
    document = json.loads(path.read_text())
    assert document["schema"] == 1
    assert document["rows"][0]["seeds"] == 2
    assert set(document["rows"][0]["rounds"]) >= {
        "interactions",
        "accuracy",
        "f1",
        "mcc",
        "explanation_dice",
        "explanation_hit",
    }
    with pytest.raises(ConflictError, match="other conditions \\(start\\)"):
        InteractiveResults({"start": 9}, path)
    path.write_text("{}")
    with pytest.raises(ConflictError, match="must be new or hold runs"):
        InteractiveResults({"start": 8}, path)


def test_the_page_draws_what_was_measured_and_nothing_else() -> None:
    results = InteractiveResults(interactive_conditions(spotted(4), settings(), "<data>", ()))
    for seed in (0, 1):
        results.add(run("al", seed, [0.1, 0.2 + seed / 10]))
        results.add(run("near-al", seed, [0.1, 0.3 + seed / 10]))
    page = render_near_caipi(results.document)
    assert page.count("<svg") == 4, "no map was measured, so there is no curve of their Dice"
    assert "&lt;data&gt;" in page
    assert "<data>" not in page
    text = near_caipi_markdown(results.document)
    assert "| near-al - al | 2 | 0.050 |" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategies", "best"], "strategy must be one of"),
        (["--preset", "slow"], "--preset must be quick or paper"),
        (["--model", "unknown"], "--model must be one of"),
        (["--refutations", "1,2"], "--refutations must be five counts"),
        (["--neighbour-labels", "guess"], "--neighbour-labels must be one of"),
        (["--start", "500", "--parts", "30", "--size", "32"], "leave parts to ask about"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(experiment_app, ["near-caipi", "--data", "simulated:disc", *arguments])
    assert done.exit_code != 0
    assert said in str(done.exception)


def test_the_command_writes_figures_and_page_and_goes_on_with_them(tmp_path: Path) -> None:
    json_file, page = tmp_path / "near.json", tmp_path / "near.html"
    arguments = ["near-caipi", "--data", "simulated:disc", "--parts", "60", "--size", "64", "--start", "10"]
    arguments += [
        "--rounds",
        "1",
        "--per-round",
        "3",
        "--seeds",
        "1",
        "--explained",
        "2",
        "--strategies",
        "al,near-caipi",
    ]
    arguments += ["--json", str(json_file), "--report", str(page)]
    for _ in range(2):
        done = CliRunner().invoke(experiment_app, arguments)
        assert done.exit_code == 0, done.exception
    document = json.loads(json_file.read_text())
    assert [row["strategy"] for row in document["rows"]] == ["al", "near-caipi"]
    assert len(document["runs"]) == 2
    assert [(one["a"], one["b"]) for one in document["paired"]] == [("near-caipi", "al")]
    assert page.read_text().count("<svg") == 5
