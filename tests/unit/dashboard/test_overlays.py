from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.types import Grade
from services.dashboard.explanations import kept
from services.dashboard.overlays import SIDE_PX, Overlays, explanation_png, summary
from tests.support.explained import NO_MAP, explained_case, explanation, hot_spot
from tests.unit.dashboard.inspections import inspection


def decoded(png: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(image, np.uint8)


def test_an_overlay_has_the_pictures_shape_and_is_clear_away_from_the_hot_place() -> None:
    overlay = decoded(explanation_png(explanation(map=hot_spot(0.75, 0.25))))
    assert overlay.shape == (SIDE_PX * 3 // 4, SIDE_PX, 4)
    assert overlay[96, 384, 3] > 100, "coloured at the hot place"
    assert overlay[300:, :200, 3].max() == 0, "clear where the map says nothing"


def test_a_calm_map_on_a_calibrated_scale_shows_nothing_at_all() -> None:
    calm = explanation(
        map=(hot_spot(0.5, 0.5) * 0.05).astype(np.float16), scale_low=0.12, scale_high=0.5, grade=Grade.C
    )
    assert decoded(explanation_png(calm))[..., 3].max() == 0
    found = summary(calm)
    assert found is not None
    assert found.coloured_share == 0.0


def test_a_map_that_its_grade_has_proven_shows_its_spot_on_the_same_scale() -> None:
    proven = explanation(map=(hot_spot(0.5, 0.5) * 0.05).astype(np.float16), scale_low=0.12, scale_high=0.5)
    assert decoded(explanation_png(proven))[..., 3].max() > 100
    found = summary(proven)
    assert found is not None
    assert found.coloured_share is not None
    assert 0 < found.coloured_share < 0.1


def test_a_map_that_is_nowhere_defined_is_clear() -> None:
    nowhere = explanation(map=np.full((4, 4), np.nan, np.float16))
    assert decoded(explanation_png(nowhere))[..., 3].max() == 0
    assert summary(nowhere) is None


def test_a_very_narrow_map_still_has_a_picture() -> None:
    assert decoded(explanation_png(explanation(map=np.ones((1, 96), np.float16)))).shape == (5, SIDE_PX, 4)


def test_the_hottest_place_is_told_in_shares_of_the_picture() -> None:
    found = summary(explanation(map=hot_spot(0.75, 0.25)))
    assert found is not None
    assert (found.hottest_x, found.hottest_y) == (pytest.approx(0.75, abs=0.02), pytest.approx(0.25, abs=0.02))
    assert found.coloured_share == pytest.approx(0.05, abs=0.04)


def test_without_a_calibration_no_share_is_claimed() -> None:
    found = summary(explanation(scale_low=0.0, scale_high=0.0))
    assert found is not None
    assert found.coloured_share is None
    assert summary(explanation(map=NO_MAP)) is None


def test_the_legend_goes_from_clear_to_the_strongest_colour() -> None:
    legend = decoded(Overlays(0).legend.data)
    alpha = legend[8, :, 3].astype(int)
    assert (alpha[0], alpha.max()) == (0, alpha[-1])
    assert (np.diff(alpha) >= 0).all()
    assert (alpha[160] > 100, alpha[8] > 0) == (True, True), "colour begins at the left end and is spread evenly"
    overlay = decoded(explanation_png(explanation()))
    strongest = np.unravel_index(int(overlay[..., 3].argmax()), overlay.shape[:2])
    assert np.abs(overlay[strongest][:3].astype(int) - legend[8, -1, :3].astype(int)).max() <= 12
    assert math.isclose(legend.shape[1] / legend.shape[0], 20)


def test_an_overlay_is_drawn_once_and_anew_after_a_new_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("services.dashboard.overlays.explanation_png", lambda one: drawn.append(one) or b"png")
    overlays = Overlays(1_000_000)
    one = inspection(1)
    first = kept(explained_case(one, [explanation()]))
    for _ in range(3):
        assert overlays.draw(first, first.explanations[0]).data == b"png"
    assert len(drawn) == 1
    again = kept(explained_case(one, [explanation()], explained_at_ns=one.decided_at_ns + 1))
    overlays.draw(again, again.explanations[0])
    assert len(drawn) == 2
