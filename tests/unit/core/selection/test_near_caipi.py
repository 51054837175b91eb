from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from services.core.errors import InvalidInputError
from services.core.selection.lessons import Judgement, lessons_of
from services.core.selection.near_caipi import Round, near_caipi, run_round
from services.core.selection.refutations import RefutationSettings
from services.core.selection.strategies import STRATEGIES, Query

NOTHING = np.zeros((8, 8), np.bool_)


@dataclass
class Shelf:
    """Parts 0, 1, 2, ...; the neighbours of part n are n + 100 and n + 200."""

    left: list[int]
    queries: list[Query] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)

    def take_best(self, query: Query) -> int | None:
        self.queries.append(query)
        return self.left.pop(0) if self.left else None

    def take_hits_and_misses(self, part: int, label: int, most: int) -> Sequence[int]:
        self.labels.append(label)
        self.taken += [part + 100, part + 200][:most]
        return [part + 100, part + 200][:most]


@dataclass
class Says:
    """Every third verdict is wrong, and every reason of an even part."""

    asked: list[int] = field(default_factory=list)

    def judge(self, part: int) -> Judgement:
        self.asked.append(part)
        wrong = part % 3 == 0
        return Judgement(str(part), part % 2, NOTHING, not wrong, not wrong and part % 2 == 1)


def ask(strategy: str, interactions: int, parts: int = 20) -> tuple[Says, Shelf, Round, list[int]]:
    shelf, says, learnt = Shelf(list(range(1, parts + 1))), Says(), list[int]()
    told = run_round(shelf, says, lambda part, _: learnt.append(part), STRATEGIES[strategy], interactions)
    return says, shelf, told, learnt


def test_a_wrong_verdict_brings_near_hit_and_near_miss_next() -> None:
    says, _, told, learnt = ask("near-caipi", 6)
    assert says.asked == [1, 2, 3, 103, 203, 4]
    assert learnt == says.asked, "each answer is learnt from"
    assert (told.interactions, told.neighbours) == (6, 2)


def test_the_neighbours_are_asked_for_with_the_operators_class() -> None:
    _, shelf, _, _ = ask("near-al", 6)
    assert shelf.labels == [1]


@pytest.mark.parametrize("strategy", ["random", "al", "caipi"])
def test_without_the_near_part_nothing_follows_a_wrong_verdict(strategy: str) -> None:
    says, shelf, told, _ = ask(strategy, 6)
    assert says.asked == [1, 2, 3, 4, 5, 6]
    assert told.neighbours == 0
    assert set(shelf.queries) == {STRATEGIES[strategy].query}


@pytest.mark.parametrize("interactions", [3, 4, 5])
def test_each_judged_part_costs_one_interaction_also_a_neighbour(interactions: int) -> None:
    says, shelf, told, _ = ask("near-caipi", interactions)
    assert len(says.asked) == told.interactions == interactions
    assert set(shelf.taken) <= set(says.asked), "what is not asked about stays in the pool"
    assert bool(shelf.taken) is (interactions > 3)


def test_corrected_verdicts_and_corrected_reasons_are_counted_apart() -> None:
    _, _, told, _ = ask("al", 6)
    assert (told.wrong_verdicts, told.wrong_reasons) == (2, 2)


def test_an_empty_pool_ends_the_loop_without_another_training() -> None:
    shelf, trained, rounds = Shelf([1, 2, 4]), [], list[tuple[int, int]]()
    near_caipi(
        shelf,
        Says(),
        lambda _part, _answer: None,
        lambda: trained.append(1),
        STRATEGIES["al"],
        rounds=5,
        per_round=2,
        on_round=lambda number, told: rounds.append((number, told.interactions)),
    )
    assert rounds == [(1, 2), (2, 1)]
    assert len(trained) == 2


def test_no_round_and_no_interaction_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="interactions must be"):
        ask("al", 0)
    with pytest.raises(InvalidInputError, match="rounds must be"):
        near_caipi(Shelf([]), Says(), lambda *_: None, lambda: None, STRATEGIES["al"], rounds=0, per_round=1)


def test_an_answer_becomes_the_part_and_its_refutations_with_its_label() -> None:
    image, region = np.full((8, 8, 3), 100, np.uint8), NOTHING.copy()
    region[2:4, 2:4] = True
    answer = Judgement("r", 1, region, False, False)
    lessons = lessons_of(image, answer, RefutationSettings(), [image])
    assert len(lessons) == 1 + len(RefutationSettings().plan)
    assert lessons[0].lineage is None
    assert all(one.label == 1 and one.area.any() and one.answer_id == "r" for one in lessons)
    assert len(lessons_of(image, answer, None)) == 1


def test_of_a_good_part_the_misleading_region_is_shown_again_as_good_and_is_no_place_to_look() -> None:
    image, region = np.full((8, 8, 3), 100, np.uint8), NOTHING.copy()
    region[2:4, 2:4] = True
    lessons = lessons_of(image, Judgement("r", 0, region, False, False), RefutationSettings(), [image])
    assert len(lessons) == 1 + len(RefutationSettings().plan)
    assert all(one.label == 0 and not one.area.any() for one in lessons)


def test_a_right_reason_of_a_wrong_verdict_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="right only where the verdict is"):
        Judgement("r", 1, NOTHING, False, True)


def test_a_region_of_another_size_is_refused_with_and_without_refutations() -> None:
    image = np.full((8, 8, 3), 100, np.uint8)
    for settings in (None, RefutationSettings()):
        with pytest.raises(InvalidInputError, match="of its image's size"):
            lessons_of(image, Judgement("r", 1, NOTHING[:-1], True, True), settings)
