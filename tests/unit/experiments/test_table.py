import json
import math

import pytest

from services.experiments.explaining import Record
from services.experiments.table import Verdict, rows, to_json, trust_auroc


def record(part: str, method: str = "rise", **figures) -> Record:
    return Record("net", method, 0, part, f"g-{part}", "crack", 0.9, **figures)


VERDICTS = [Verdict("net", 0, f"g{n}", 0.9 if n < 4 else 0.2, n < 5) for n in range(10)]


def test_a_row_holds_means_with_intervals_that_contain_them() -> None:
    records = [record(str(n), dice=n / 10, hit=float(n % 2), seconds=1.0, passes=50.0) for n in range(8)]

    (row,) = rows(records, VERDICTS, repeats=200)

    assert (row["model"], row["method"], row["n"]) == ("net", "rise", 8)
    assert row["dice"]["mean"] == pytest.approx(0.35)
    assert row["dice"]["low"] < 0.35 < row["dice"]["high"]
    assert row["hit_accuracy"]["mean"] == pytest.approx(0.5)
    assert row["passes_per_image"] == {"mean": 50.0, "low": 50.0, "high": 50.0}
    assert row["model_accuracy"] == pytest.approx(0.9)
    assert 0 < row["model_mcc"] < 1


def test_a_method_without_a_map_counts_as_one_that_says_nothing() -> None:
    records = [record("a", dice=0.4, hit=1.0, pixel_auroc=0.9), record("b", failure="flat_map")]

    (row,) = rows(records, VERDICTS, repeats=50)

    assert row["dice"]["mean"] == pytest.approx(0.2)
    assert row["hit_accuracy"]["mean"] == pytest.approx(0.5)
    assert row["pixel_auroc"]["mean"] == pytest.approx(0.7)
    assert row["failures"] == {"flat_map": 1}


def test_a_figure_that_no_part_has_is_null_and_the_json_is_strict() -> None:
    text = to_json([record("a"), record("b")], VERDICTS, {"data": "here"}, repeats=20)

    document = json.loads(text, parse_constant=pytest.fail)

    assert document["schema"] == 1
    assert document["rows"][0]["deletion_auc"] == {"mean": None, "low": None, "high": None}
    assert document["parts"][0]["trust"] is None


def test_parts_of_one_group_are_resampled_together() -> None:
    alone = [Record("net", "rise", 0, str(n), str(n), "crack", 1.0, dice=float(n % 2)) for n in range(40)]
    together = [Record("net", "rise", 0, str(n), str(n % 4), "crack", 1.0, dice=float(n % 2)) for n in range(40)]

    narrow, wide = (rows(records, VERDICTS, repeats=400)[0]["dice"] for records in (alone, together))

    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


@pytest.mark.parametrize("found", ["near", "hit"])
def test_trust_is_judged_by_whether_it_ranks_maps_that_point_at_the_defect_above_others(found: str) -> None:
    good = [record(str(n), trust=n / 10, **{found: float(n >= 5)}) for n in range(10)]
    bad = [record(str(n), trust=n / 10, **{found: float(n < 5)}) for n in range(10)]

    assert trust_auroc(good, repeats=50, found=found)["mean"] == 1.0
    assert trust_auroc(bad, repeats=50, found=found)["mean"] == 0.0
    assert trust_auroc([record("a", hit=1.0, near=1.0, trust=0.5)], repeats=5, found=found)["mean"] is None
    assert trust_auroc([record("a", failure="flat_map", trust=math.nan)], repeats=5)["mean"] is None
