"""Drift beside the way of a frame: windows by product, and what the metrics say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.adapters.modelfolder import ReferenceAnswers
from services.core.errors import SettingsError, UnavailableError
from services.core.types import Verdict
from services.detector.drift import DriftWatch
from services.detector.settings import DetectorSettings, DriftSettings
from services.runtime.settings import load_settings
from tests.support.detector_line import EMBEDDING, Line, make_frame, picture
from tests.support.outcome_line import inspection

SIZE = 32
PARTS = itertools.count()
SETTINGS = DriftSettings(window_frames=300, min_frames=100, expected_defect_share=0.15)


class Store:
    """Holds the reference of every version; away as long as it is told to be."""

    def __init__(self, products: tuple[str, ...] = ("disc",) * 150 + ("plate",) * 150) -> None:
        rng = np.random.default_rng(1)
        self.away = 0
        self.asked = 0
        self.answers = ReferenceAnswers(
            np.concatenate([scores(rng, "disc", 150), scores(rng, "plate", 150)]).astype(np.float32),
            np.concatenate([embeddings(rng, "disc", 150), embeddings(rng, "plate", 150)]).astype(np.float16),
            products,
        )

    def __call__(self, alias: str, version: int) -> ReferenceAnswers:
        self.asked += 1
        if self.away:
            self.away -= 1
            raise UnavailableError("the object store must answer, got nothing")
        return self.answers


def scores(rng: np.random.Generator, product: str, count: int, shift: float = 0.0) -> np.ndarray:
    return np.asarray(rng.normal({"disc": 0.1, "plate": 0.3}[product] + shift, 0.03, count))


def embeddings(rng: np.random.Generator, product: str, count: int, shift: float = 0.0) -> np.ndarray:
    place = {"disc": 0.0, "plate": 5.0}[product]
    return np.asarray(rng.normal(place + shift, 1, (count, SIZE)))


def send(
    watch: DriftWatch, product: str, count: int = 300, *, shift: float = 0.0, defects: float = 0.08, version: int = 1
) -> None:
    rng = np.random.default_rng(2)
    for score, row in zip(
        scores(rng, product, count, shift * 0.03), embeddings(rng, product, count, shift), strict=True
    ):
        defective = rng.random() < defects
        seen = inspection(
            f"part-{next(PARTS)}",
            verdict=Verdict.FAIL if defective else Verdict.PASS,
            at_ns=1,
            product=product,
            model_version=version,
            alias="drift-test",
        )
        watch.observe(replace(seen, score=0.9 if defective else float(score)), row.astype(np.float32))


def told(metric: str, product: str, version: int = 1) -> float | None:
    labels = {"alias": "drift-test", "model": f"drift-test-v{version}", "product": product}
    return REGISTRY.get_sample_value(f"sightline_detector_{metric}", labels)


def test_a_line_with_its_usual_defects_shows_no_drift() -> None:
    watch = DriftWatch(SETTINGS, Store())
    send(watch, "disc")
    send(watch, "plate")
    watch.look()
    for product in ("disc", "plate"):
        assert told("drift_frames", product) == 300
        assert (told("score_psi", product) or 0) < 0.25
        assert (told("embedding_mmd", product) or 0) < 1


def test_a_shifted_stream_raises_both_figures_of_its_product_alone() -> None:
    watch = DriftWatch(SETTINGS, Store())
    send(watch, "disc", shift=1.0)
    send(watch, "plate")
    watch.look()
    assert (told("score_psi", "disc") or 0) > 0.25
    assert (told("embedding_mmd", "disc") or 0) > 1
    assert (told("score_psi", "plate") or 0) < 0.25
    assert (told("embedding_mmd", "plate") or 0) < 1


def test_few_frames_say_nothing_yet() -> None:
    watch = DriftWatch(SETTINGS, Store())
    send(watch, "disc", 99, version=7)
    watch.look()
    assert told("drift_frames", "disc", 7) == 99
    assert told("score_psi", "disc", 7) is None


def test_after_a_swap_the_window_starts_anew_and_the_old_versions_figures_go() -> None:
    watch = DriftWatch(SETTINGS, Store())
    send(watch, "disc", shift=2.0, version=2)
    watch.look()
    assert (told("score_psi", "disc", 2) or 0) > 0.25
    send(watch, "disc", 120, version=3)
    watch.look()
    assert told("score_psi", "disc", 2) is None
    assert told("drift_frames", "disc", 3) == 120
    assert (told("score_psi", "disc", 3) or 0) < 0.25


def test_a_store_that_is_away_is_asked_again_and_not_at_every_look() -> None:
    store = Store()
    store.away = 1
    watch = DriftWatch(SETTINGS.model_copy(update={"every_s": 0.1}), store)
    send(watch, "disc", version=4)
    watch.look()
    assert told("score_psi", "disc", 4) is None
    for _ in range(60):
        watch.look()
    assert store.asked == 2
    assert told("score_psi", "disc", 4) is not None


def test_a_product_without_reference_parts_of_its_own_is_not_measured_against_others() -> None:
    watch = DriftWatch(SETTINGS, Store(("disc",) * 300))
    send(watch, "plate", version=5)
    watch.look()
    assert told("drift_frames", "plate", 5) == 300
    assert told("score_psi", "plate", 5) is None


def test_a_version_that_does_not_tell_products_is_compared_as_a_whole() -> None:
    watch = DriftWatch(SETTINGS, Store(("",) * 300))
    send(watch, "disc", version=6)
    watch.look()
    assert told("score_psi", "disc", 6) is not None


def test_what_was_told_of_a_version_that_a_look_still_had_is_taken_back_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store()
    watch = DriftWatch(SETTINGS, store)
    send(watch, "disc", version=9)

    def swap_meanwhile(alias: str, version: int) -> ReferenceAnswers:
        send(watch, "disc", 1, version=10)
        return store(alias, version)

    monkeypatch.setattr(watch, "_read_reference", swap_meanwhile)
    watch.look()
    assert told("score_psi", "disc", 9) is not None
    watch.look()
    assert told("score_psi", "disc", 9) is None
    assert told("drift_frames", "disc", 9) is None


@pytest.mark.parametrize("odd", [1e6, float("nan"), float("inf")])
def test_an_embedding_that_no_half_float_holds_does_not_end_the_measuring(odd: float) -> None:
    watch = DriftWatch(SETTINGS, Store())
    send(watch, "disc", version=11)
    seen = inspection("part", at_ns=1, product="disc", model_version=11, alias="drift-test")
    watch.observe(replace(seen, score=0.1), np.full(SIZE, odd, np.float32))
    watch.look()
    assert np.isfinite(told("embedding_mmd", "disc", 11) or np.nan)


def test_of_a_part_that_several_cameras_see_one_frame_counts_drawn_evenly() -> None:
    watch = DriftWatch(SETTINGS, Store())
    cameras = {"left": 0.1, "middle": 0.2, "right": 0.3}
    for number in range(300):
        for camera, score in cameras.items():
            seen = inspection(
                f"seen-{number}", camera, at_ns=1, product="disc", model_version=12, alias="drift-test", score=score
            )
            watch.observe(seen, np.full(SIZE, score, np.float32))
    watch.look()
    assert told("drift_frames", "disc", 12) == 300
    window = watch._windows["drift-test", 12, "disc"]
    drawn = [sum(seen.score == score for seen in window.values()) for score in cameras.values()]
    assert sum(drawn) == 300
    assert min(drawn) > 70


def test_a_window_that_could_never_fill_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_DRIFT__WINDOW_FRAMES", "50")
    with pytest.raises(SettingsError, match=r"window_frames must be at least drift\.min_frames, got 50 and 200"):
        load_settings(DetectorSettings)


def test_a_watch_that_is_turned_off_keeps_nothing() -> None:
    store = Store()
    watch = DriftWatch(DriftSettings(window_frames=0), store)
    watch.start()
    send(watch, "disc", version=8)
    watch.look()
    watch.close()
    assert (store.asked, told("drift_frames", "disc", 8)) == (0, None)


@pytest.mark.parametrize(("brightness", "drifts"), [(30.0, False), (45.0, True)])
def test_a_stream_that_is_shifted_on_its_way_through_the_detector_raises_the_figures(
    brightness: float, drifts: bool
) -> None:
    rng = np.random.default_rng(3)
    known = np.clip(rng.normal(30, 6, 200), 0, 255).astype(np.uint8) / 255
    line = Line()
    alias = f"drift-{drifts}".lower()
    line.references[alias, 1] = ReferenceAnswers(
        known.astype(np.float32), np.repeat(known[:, None], EMBEDDING, axis=1).astype(np.float16), ("disc",) * 200
    )
    line.add_version(1, alias=alias)
    line.promote(1, alias=alias)
    detector = line.start(default_alias=alias, drift=DriftSettings(window_frames=200, min_frames=100))
    try:
        pictures = [picture(int(value)) for value in np.clip(rng.normal(brightness, 6, 150), 0, 255)]
        line.send(*(make_frame(number, each) for number, each in enumerate(pictures)))
        line.wait_for_verdicts(150)
        detector.drift.look()
    finally:
        line.stop()
    labels = {"alias": alias, "model": f"{alias}-v1", "product": "disc"}
    assert REGISTRY.get_sample_value("sightline_detector_drift_frames", labels) == 150
    psi = REGISTRY.get_sample_value("sightline_detector_score_psi", labels)
    mmd = REGISTRY.get_sample_value("sightline_detector_embedding_mmd", labels)
    assert psi is not None
    assert mmd is not None
    assert (psi > 0.25, mmd > 1) == (drifts, drifts)
