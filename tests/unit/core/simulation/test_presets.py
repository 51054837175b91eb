from __future__ import annotations

from collections import Counter

import pytest

from services.core.errors import InvalidInputError
from services.core.simulation import disc, thermal, weld, zipper
from services.core.simulation.line import PRESETS, preset


def counts(name: str) -> Counter[str | None]:
    return Counter(spec.defect for spec in preset(name))


def test_the_weld_set_has_the_papers_three_kinds() -> None:
    found = counts("weld-413")
    assert found.total() == 413
    assert found[None] == 139
    assert found["no_seam"] == 110
    assert sum(found[name] for name in weld.IRREGULAR) == 164
    assert max(found[name] for name in weld.IRREGULAR) - min(found[name] for name in weld.IRREGULAR) <= 1


def test_the_casting_set_has_519_good_discs_of_1300() -> None:
    found = counts("casting-1300")
    assert found.total() == 1300
    assert found[None] == 519
    assert set(found) == {None, *disc.DEFECTS}


def test_the_zipper_set_has_216_good_strips_of_400() -> None:
    found = counts("zipper-400")
    assert (found.total(), found[None]) == (400, 216)
    assert set(found) == {None, *zipper.DEFECTS}


def test_the_thermal_set_starts_with_its_good_part_and_hides_few_abnormal_ones_in_the_rest() -> None:
    parts = preset("thermal-862+15453")
    assert len(parts) == 862 + 15_453
    assert all(spec.defect is None for spec in parts[:862])
    abnormal = [spec.defect for spec in parts[862:] if spec.defect]
    assert len(abnormal) == 77
    assert set(abnormal) == set(thermal.DEFECTS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_set_is_the_same_every_time_and_shuffled(name: str) -> None:
    first, second = preset(name), preset(name)
    assert first == second
    tail = [spec.defect is None for spec in first[-len(first) // 3 :]]
    assert any(tail)
    assert not all(tail)


def test_no_two_sets_share_a_part() -> None:
    seeds = [spec.seed for name in PRESETS for spec in preset(name)]
    assert len(seeds) == len(set(seeds))


def test_an_unknown_set_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"preset must be one of weld-413, .*, got 'weld-400'"):
        preset("weld-400")
