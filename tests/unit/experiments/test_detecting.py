from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from services.core.detectors.detector import DETECTORS
from services.core.errors import InvalidInputError
from services.experiments import detecting
from services.experiments.detecting import DetectorSettings, Outcome, describe_conditions, run_comparison
from services.experiments.detector_sample import Sample, prepare_sample, split_good
from services.experiments.detector_table import FIGURES
from services.experiments.parts import Part

SIDE = 32


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part(number: int, defective: bool) -> Part:
    rng = np.random.default_rng(number)
    image = rng.normal(100, 6, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:24, 8:24] = True
    if defective:
        image[mask] = 230
    kind = "spot" if defective else "good"
    return Part(f"p{number}", f"g{number}", kind, image, mask if defective else None)


@pytest.fixture(scope="module")
def sample() -> Sample:
    return prepare_sample([part(number, number >= 45) for number in range(55)], SIDE)


def compared(sample: Sample, settings: DetectorSettings, done=frozenset()) -> list[Outcome]:
    outcomes: list[Outcome] = []
    run_comparison(sample, settings, outcomes.append, done)
    return outcomes


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_on_two_sides_and_a_mixed_one_is_only_tested(seed) -> None:
    groups = [f"g{number // 3}" for number in range(200)]
    defective = np.zeros(200, bool)
    defective[[0, 30, 61, 62, 63]] = True

    sides = split_good(groups, defective, seed)

    of = {name: {groups[row] for row in rows} for name, rows in sides.items()}
    assert not of["fit"] & of["calibrate"]
    assert not of["test"] & (of["fit"] | of["calibrate"])
    assert {"g0", "g10", "g20", "g21"} <= of["test"]
    assert sorted(row for rows in sides.values() for row in rows) == list(range(200))
    assert len(of["fit"]) == pytest.approx(0.6 * 63, abs=1)


def test_another_seed_is_another_split() -> None:
    groups, defective = [str(number) for number in range(60)], np.arange(60) >= 50

    assert split_good(groups, defective, 0)["fit"].tolist() != split_good(groups, defective, 1)["fit"].tolist()
    assert split_good(groups, defective, 1)["fit"].tolist() == split_good(groups, defective, 1)["fit"].tolist()


def test_too_few_good_parts_or_no_defect_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 40 good"):
        split_good([str(number) for number in range(45)], np.arange(45) >= 30, 0)
    with pytest.raises(InvalidInputError, match="no defective"):
        split_good([str(number) for number in range(45)], np.zeros(45, bool), 0)


def test_all_are_seventeen_and_those_with_their_own_features_come_once() -> None:
    table = DetectorSettings(DETECTORS, ("raw", "pca8")).table()

    assert len(table) == 2 * 15 + 2
    assert table[-2:] == [("patch-knn", "own"), ("utrad", "own")]


def test_a_detector_that_sees_bright_squares_finds_them(sample) -> None:
    (outcome,) = compared(sample, DetectorSettings(("knn",), ("pca8",), seeds=2))

    assert not outcome.error
    assert len(outcome.measured) == 2
    for measured in outcome.measured:
        figures = measured.figures
        assert set(FIGURES) <= set(figures)
        assert figures["image_auroc"] == figures["f1_best"] == 1
        assert figures["f1_calibrated"] > 0.8
        assert np.isnan(figures["pixel_auroc"])
        assert min(figures["fit_s"], figures["score_ms_single"], figures["score_ms_batch"]) > 0
        assert measured.defective.sum() == 10
        assert ((measured.scores >= 0) & (measured.scores <= 1)).all()


def test_features_are_made_once_a_seed_for_all_that_share_them(sample, monkeypatch) -> None:
    made = []
    plain = detecting.fit_features
    monkeypatch.setattr(detecting, "fit_features", lambda *given: made.append(given[2]) or plain(*given))

    compared(sample, DetectorSettings(("knn", "hbos", "lof"), ("pca8",), seeds=2))

    assert made == [0, 1]


def test_a_shared_score_is_that_of_a_detector_fitted_alone(sample) -> None:
    from services.core.detectors.catalogue import fit_detector
    from services.core.detectors.detector import DetectorSpec
    from services.core.evaluation.metrics import auroc

    (outcome,) = compared(sample, DetectorSettings(("lof",), ("pca8",)))

    sides = split_good(sample.groups, sample.defective, 0)
    alone = fit_detector(sample.images[sides["fit"]], DetectorSpec("lof", "pca8"))
    scores = alone.examine(sample.images[sides["test"]]).scores
    assert outcome.measured[0].figures["image_auroc"] == pytest.approx(auroc(scores, sample.defective[sides["test"]]))


def test_a_detector_that_cannot_fit_says_why_and_the_others_go_on(sample, monkeypatch) -> None:
    plain = detecting.fit_model

    def refusing(name, *rest):
        if name == "cblof":
            raise detecting.SightlineError("take 3 clusters")
        return plain(name, *rest)

    monkeypatch.setattr(detecting, "fit_model", refusing)

    outcomes = compared(sample, DetectorSettings(("knn", "cblof", "hbos"), ("pca8",), seeds=2))

    assert [(one.detector, one.error) for one in outcomes] == [
        ("knn", ""),
        ("cblof", "seed 0: take 3 clusters"),
        ("hbos", ""),
    ]
    assert outcomes[1].measured == ()


def test_what_is_there_already_is_not_measured_again(sample) -> None:
    settings = DetectorSettings(("knn", "hbos"), ("pca8",))

    assert [one.detector for one in compared(sample, settings, frozenset({("knn", "pca8")}))] == ["hbos"]


def test_a_map_is_compared_with_the_mask_inside_the_picture(sample) -> None:
    rows = np.array([0, 50])
    maps = np.zeros((2, SIDE, SIDE), np.float32)
    maps[1, 8:24, 8:24] = 1.0

    figures = detecting._pixel_figures(sample, rows, maps)

    assert figures == {"pixel_auroc": 1.0, "aupro": pytest.approx(1.0)}


def test_a_thin_crack_is_not_lost_where_pictures_are_shrunk() -> None:
    wide = part(1, True)
    mask = np.zeros((64, 256), bool)
    mask[20, 40:200] = True
    wide = Part("w", "w", "crack", np.zeros((64, 256, 3), np.uint8), mask)

    made = prepare_sample([wide], SIDE)

    assert made.masks[0].shape == (8, SIDE)
    assert made.masks[0].any(axis=1).tolist() == [False, False, True, False, False, False, False, False]


def test_conditions_change_with_the_pictures_and_not_with_the_detectors(sample) -> None:
    first = describe_conditions(sample, DetectorSettings(("knn",), ("raw",)), "here")
    other = prepare_sample([part(number, number >= 44) for number in range(55)], SIDE)

    assert first == describe_conditions(sample, DetectorSettings(("lof",), ("pca8",)), "here")
    assert first != describe_conditions(other, DetectorSettings(("knn",), ("raw",)), "here")


def test_an_unknown_pipeline_is_refused_before_anything_is_fitted(sample) -> None:
    with pytest.raises(InvalidInputError, match="features must be"):
        compared(sample, DetectorSettings(("knn",), ("magic",)))
