"""Explaining a network that is too sure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.attribution import SCORE_TARGET, target_values
from services.core.explain.temper import temper_for, tempered_values

SURE = np.array([[1e-12, 0.75, 0.25], [1e-9, 0.5, 0.5], [0.5, 0.5, 0.0], [0.9, 0.05, 0.05]], np.float32)


def test_a_confidence_up_to_88_percent_is_explained_as_it_is() -> None:
    for probability in (0.0, 0.3, 0.88):
        answers = np.array([[1 - probability, probability]], np.float32)
        assert temper_for(answers[0], SCORE_TARGET) == 1
        np.testing.assert_array_equal(tempered_values(answers, SCORE_TARGET, 1.0), answers[:, 1])


def test_above_it_the_whole_image_comes_out_at_88_percent() -> None:
    temper = temper_for(SURE[0], SCORE_TARGET)
    assert temper == pytest.approx(np.log(1e12) / 2, rel=1e-4)
    assert tempered_values(SURE[:1], SCORE_TARGET, temper)[0] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-4)


def test_what_was_equal_to_the_last_digit_differs_in_its_order_and_one_half_stays() -> None:
    values = tempered_values(SURE, SCORE_TARGET, 8.0)
    assert target_values(SURE, SCORE_TARGET)[0] == target_values(SURE, SCORE_TARGET)[1]
    assert values[0] - values[1] > 1e-3
    assert values[2] == pytest.approx(0.5)
    assert list(np.argsort(-values)) == [0, 1, 2, 3]


def test_a_class_has_its_own_odds_against_all_others() -> None:
    answers = np.array([[0.25, 0.5, 0.25]], np.float32)
    assert tempered_values(answers, 1, 3.0)[0] == pytest.approx(0.5)
    assert tempered_values(answers, 0, 2.0)[0] == pytest.approx(1 / (1 + np.sqrt(3)))


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20), st.floats(1, 50))
def test_tempering_keeps_the_order_of_answers(defects: list[float], temper: float) -> None:
    answers = np.array([[1 - p, p] for p in defects], np.float32)
    values = tempered_values(answers, SCORE_TARGET, temper)
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values[np.argsort(defects, kind="stable")]) >= 0).all()


def test_what_is_no_number_is_refused_as_everywhere() -> None:
    broken = np.full((1, 2), np.nan, np.float32)
    with pytest.raises(ExplanationError, match="finite"):
        temper_for(broken[0], SCORE_TARGET)
    with pytest.raises(ExplanationError, match="finite"):
        tempered_values(broken, SCORE_TARGET, 4.0)
    with pytest.raises(InvalidInputError, match="got 7"):
        temper_for(SURE[0], 7)
