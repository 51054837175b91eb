from __future__ import annotations

import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.selection.strategies import STRATEGIES, Query, information, strategy_named

PROBABILITIES = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.45, 0.1, 0.45], [0.98, 0.01, 0.01]])


def first(query: Query, **given: object) -> int:
    return int(np.argmax(information(query, PROBABILITIES, **given)))  # type: ignore[arg-type]


def test_the_papers_strategies_are_one_loop_with_parts_switched_off() -> None:
    assert list(STRATEGIES) == ["random", "al", "near-al", "caipi", "near-caipi"]
    assert [(one.near, one.refute) for one in STRATEGIES.values()] == [
        (False, False),
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    assert strategy_named("near-caipi").query is Query.LOWEST_CONFIDENCE
    assert strategy_named("random").query is Query.RANDOM


def test_lowest_confidence_asks_where_the_best_class_is_least_probable() -> None:
    assert first(Query.LOWEST_CONFIDENCE) == 2


def test_margin_asks_where_the_two_best_classes_are_closest() -> None:
    values = information(Query.MARGIN, np.array([[0.4, 0.35, 0.25], [0.5, 0.49, 0.01]]))
    assert values[1] > values[0]


def test_disagreement_asks_where_the_members_contradict_each_other() -> None:
    assert first(Query.DISAGREEMENT, disagreement=np.array([0.1, 0.8, 0.2, 0.0])) == 1


def test_random_is_seeded() -> None:
    def draw(seed: int) -> list[float]:
        return information(Query.RANDOM, PROBABILITIES, random=np.random.default_rng(seed)).tolist()

    assert draw(1) == draw(1) != draw(2)


def test_what_a_query_needs_must_be_there() -> None:
    with pytest.raises(InvalidInputError, match="random must be given"):
        information(Query.RANDOM, PROBABILITIES)
    with pytest.raises(InvalidInputError, match="disagreement must be"):
        information(Query.DISAGREEMENT, PROBABILITIES)
    with pytest.raises(InvalidInputError, match="C >= 2"):
        information(Query.MARGIN, PROBABILITIES[:, :1])
    with pytest.raises(InvalidInputError, match="one of random, al"):
        strategy_named("nonsense")
