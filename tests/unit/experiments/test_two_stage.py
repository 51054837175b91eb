from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from services.core.detectors.pseudo_labels import PseudoLabels
from services.core.errors import ConflictError, InvalidInputError, UnavailableError
from services.experiments import two_stage
from services.experiments.detector_sample import Sample, prepare_sample
from services.experiments.parts import Part
from services.experiments.two_stage import (
    ALL,
    FIGURES,
    NONE,
    Stage,
    StageOutcome,
    TwoStageSettings,
    run_two_stage,
    two_stage_conditions,
)
from services.experiments.two_stage_report import render_two_stage, two_stage_markdown
from services.experiments.two_stage_sample import split_pool
from services.experiments.two_stage_table import NAMES, TwoStageResults, stage_rows

SIDE = 32
SETTINGS = TwoStageSettings(
    ("knn",),
    "pca8",
    "customnet",
    ("gradcam", "lime"),
    epochs=3,
    limit=4,
    passes=64,
    contamination=0.4,
    engine="torch",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part(number: int, kind: str) -> Part:
    image = np.random.default_rng(number).normal(100, 6, (SIDE, SIDE, 3))
    mask = np.zeros((SIDE, SIDE), bool)
    if kind == "spot":
        mask[6:16, 6:16] = True
    if kind == "stripe":
        mask[20:26] = True
    image[mask] += 110
    pixels = image.clip(0, 255).astype(np.uint8)
    return Part(f"p{number}", f"g{number}", kind, pixels, mask if mask.any() else None)


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    kinds = ["good"] * 90 + ["spot", "stripe"] * 18
    return [part(number, kind) for number, kind in enumerate(kinds)]


@pytest.fixture(scope="module")
def sample(parts) -> Sample:
    return prepare_sample(parts, SIDE)


def measured(parts, sample, settings=SETTINGS, done=frozenset()) -> list[StageOutcome]:
    outcomes: list[StageOutcome] = []
    run_two_stage(parts, sample, settings, outcomes.append, done)
    return outcomes


ONLY_PIPELINE = frozenset(SETTINGS.stages()[:2])


@pytest.fixture(scope="module")
def pipeline(parts, sample) -> StageOutcome:
    (outcome,) = measured(parts, sample, done=ONLY_PIPELINE)
    return outcome


@pytest.mark.parametrize("seed", range(4))
def test_no_group_is_on_two_sides_and_the_detector_sees_good_groups_alone(seed: int) -> None:
    groups = [f"g{number // 2}" for number in range(260)]
    kinds = ["good"] * 200 + ["good", "crack", "dent", "dent"] * 15

    sides = split_pool(groups, kinds, 0.5, seed)

    of = {name: {groups[row] for row in rows} for name, rows in sides.items()}
    assert sorted(row for rows in sides.values() for row in rows) == list(range(260))
    for name, members in of.items():
        assert not any(members & others for other, others in of.items() if other != name)
    assert all(kinds[row] == "good" for name in ("fit", "calibrate") for row in sides[name])
    for name in ("pool", "test"):
        assert {"good", "crack", "dent"} == {kinds[row] for row in sides[name]}


def test_a_pool_holds_no_more_defects_than_asked_and_the_rest_is_tested() -> None:
    groups = [str(number) for number in range(160)]
    kinds = ["good"] * 80 + ["dent"] * 80

    sides = split_pool(groups, kinds, 0.2, 0)

    bad = {name: sum(kinds[row] != "good" for row in rows) for name, rows in sides.items()}
    assert bad["pool"] == 5  # with 20 good ones
    assert bad["test"] == 75


@pytest.mark.parametrize(
    ("good", "bad", "contamination", "message"),
    [(20, 20, 0.3, "at least 54 good"), (90, 1, 0.3, "at least 2 groups with a defect"), (90, 9, 0.0, r"\(0, 1\]")],
)
def test_parts_that_cannot_be_split_are_refused(good: int, bad: int, contamination: float, message: str) -> None:
    groups = [str(number) for number in range(good + bad)]

    with pytest.raises(InvalidInputError, match=message):
        split_pool(groups, ["good"] * good + ["dent"] * bad, contamination, 0)


def test_a_pipeline_finds_bright_places_and_says_how_right_its_labels_were(pipeline) -> None:
    assert not pipeline.error
    (trial,) = pipeline.trials
    assert {key[2:] for key in trial} == {
        (method, kind) for method in ("gradcam", "lime", NONE) for kind in (ALL, "spot", "stripe")
    }
    whole = trial["knn", "customnet", "gradcam", ALL]
    assert whole["pseudo_precision"] == whole["pseudo_recall"] == 1.0
    assert whole["image_auroc"] > 0.9
    assert trial["knn", NONE, NONE, ALL]["image_auroc"] == 1.0
    for method in ("gradcam", "lime"):
        row = trial["knn", "customnet", method, ALL]
        assert 0 <= row["hit_accuracy"] <= 1
        assert row["pixel_auroc"] > 0.5
        assert 0 < row["seconds"] < row["fit_seconds"]
    assert math.isnan(trial["knn", "customnet", "lime", "spot"]["pseudo_precision"])


def test_detectors_with_a_map_are_measured_on_the_same_parts(parts, sample) -> None:
    stages = SETTINGS.stages()

    (outcome,) = measured(parts, sample, done=frozenset(stages) - {stages[0]})

    assert outcome.stage == Stage("patch-knn", NONE, ("anomaly-map",))
    (trial,) = outcome.trials
    row = trial["patch-knn", NONE, "anomaly-map", ALL]
    assert row["image_auroc"] > 0.9
    assert row["pixel_auroc"] > 0.7
    assert math.isnan(row["pseudo_precision"])
    both = [trial["patch-knn", NONE, "anomaly-map", kind]["hit_accuracy"] for kind in ("spot", "stripe")]
    assert row["hit_accuracy"] == pytest.approx(np.mean(both))


def test_true_labels_of_the_pool_change_nothing_but_the_figures_about_labels(parts, sample, monkeypatch) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def keep(model, images, labels, settings, on_epoch):
        seen.append((images.tobytes(), labels.labels.tobytes()))
        raise InvalidInputError("enough")

    monkeypatch.setattr(two_stage, "fit_to_pseudo_labels", keep)
    sides = split_pool(sample.groups, [one.kind for one in parts], SETTINGS.contamination, 0)
    monkeypatch.setattr(two_stage, "split_pool", lambda *_: sides)
    pool = set(sides["pool"].tolist())
    lied = [Part(p.name, p.group, "spot" if n in pool else p.kind, p.image, p.mask) for n, p in enumerate(parts)]

    measured(parts, sample, done=ONLY_PIPELINE)
    measured(lied, prepare_sample(lied, SIDE), done=ONLY_PIPELINE)

    assert seen[0] == seen[1]


def test_what_is_left_out_counts_as_not_found(parts, sample) -> None:
    bad = [row for row, one in enumerate(parts) if one.defective][:4]
    rows = np.array([0, 1, *bad])
    data = two_stage._Data(parts, sample, {"pool": rows, "test": rows}, rows, None, 0)
    labels = PseudoLabels(np.array([1, 0, 1, -1, 0, 1]), tuple("abcdef"), 0.1)

    figures = two_stage._pseudo_figures(labels, data)

    assert figures[ALL] == {"pseudo_precision": pytest.approx(2 / 3), "pseudo_recall": 0.5}
    assert {kind: figures[kind]["pseudo_recall"] for kind in ("spot", "stripe")} == {"spot": 0.5, "stripe": 0.5}


def test_a_pipeline_with_too_few_anomalies_says_why_and_the_others_go_on(parts, sample, monkeypatch) -> None:
    plain = two_stage.label_by_score
    monkeypatch.setattr(two_stage, "label_by_score", lambda *given: plain(*given, min_parts=1000))
    settings = TwoStageSettings(("knn", "average-knn"), "pca8", "customnet", ("gradcam",), seeds=2)

    first, second = measured(parts, sample, settings, frozenset(settings.stages()[:2]))

    assert first.error.startswith("seed 0: at least 1000 parts must be labelled anomaly")
    assert first.trials == ()
    assert (first.stage.detector, second.stage.detector) == ("knn", "average-knn")


def test_weights_that_cannot_be_had_end_the_run_before_anything_is_fitted(parts, sample, monkeypatch) -> None:
    def unreachable(name):
        raise UnavailableError(f"no network for {name}")

    monkeypatch.setattr("services.core.models.factory.torchvision_state", unreachable)
    monkeypatch.setattr(two_stage, "fit_detector", None)

    with pytest.raises(UnavailableError, match="resnet50"):
        measured(parts, sample, TwoStageSettings(("knn",), "pca8", "resnet50"))


def test_rows_have_exactly_the_promised_names(pipeline) -> None:
    rows = stage_rows(pipeline)

    assert all(list(row) == [*NAMES, "seeds", *FIGURES] for row in rows)
    assert rows[0]["image_auroc"].keys() == {"mean", "low", "high"}
    failed = stage_rows(StageOutcome(pipeline.stage, (), 3, "too few"))
    assert failed == [
        {"detector": "knn", "classifier": "customnet", "method": method, "kind": "all", "seeds": 3, "error": "too few"}
        for method in ("gradcam", "lime")
    ]


def test_a_run_goes_on_with_what_the_file_holds_and_tries_failures_again(tmp_path, pipeline) -> None:
    path, stages = tmp_path / "out.json", SETTINGS.stages()
    first = TwoStageResults({"seeds": 1}, path)
    first.add(pipeline)
    first.add(StageOutcome(stages[0], (), 1, "no memory"))

    again = TwoStageResults({"seeds": 1}, path)

    assert again.done(stages) == {pipeline.stage}
    assert again.done([Stage("knn", "customnet", ("gradcam", "rise"))]) == frozenset()
    again.add(StageOutcome(stages[0], pipeline.trials, 1))
    assert "error" not in json.dumps(json.loads(path.read_text())["rows"])
    with pytest.raises(ConflictError, match=r"other conditions \(seeds\)"):
        TwoStageResults({"seeds": 2}, path)


def test_conditions_change_with_the_margin_and_not_with_the_detectors(sample) -> None:
    def conditions(**changes):
        return two_stage_conditions(sample, TwoStageSettings(**({"detectors": ("knn",)} | changes)), "here")

    assert conditions() == conditions(detectors=("lof", "hbos"))
    assert conditions() != conditions(margin=0.2)


def test_the_page_has_a_table_for_each_kind_and_the_reasons_of_failures(pipeline) -> None:
    rows = [*stage_rows(pipeline), *stage_rows(StageOutcome(Stage("lof", "customnet", ("lime",)), (), 1, "<few>"))]

    page = render_two_stage({"schema": 1, "conditions": {"data": "<b>here</b>"}, "rows": rows})

    assert "<h2>All anomalies</h2>" in page
    assert "<h2>stripe</h2>" in page
    assert "&lt;few&gt;" in page
    assert "<b>here" not in page
    table = two_stage_markdown(rows)
    assert "| knn > customnet | gradcam |" in table
    assert "| lof > customnet | lime | <few> |" in table
