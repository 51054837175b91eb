import math

import numpy as np
import pytest

from services.core.explain.heatmap import HeatScale
from services.experiments.explaining import Explained, Record
from services.experiments.parts import Part
from services.experiments.report import markdown, render, shown
from services.experiments.sheet import TILE_PX, choose, reduce, whole_sheet
from services.experiments.table import Verdict, to_json


def document() -> dict:
    import json

    records = [
        Record("net", method, 0, f"p{n}", f"g{n}", "spot", 0.9, dice=0.1 * n, hit=1.0, trust=0.5, seconds=0.5, passes=9)
        for method in ("rise", "centre")
        for n in range(3)
    ]
    verdicts = [Verdict("net", 0, f"g{n}", 0.9 * (n % 2), bool(n % 2)) for n in range(6)]
    return json.loads(to_json(records, verdicts, {"data": "<b>here</b>", "weights": {"net": "made up"}}, repeats=20))


def sheet_row(kind: str = "spot"):
    image = np.full((60, 90, 3), 100, np.uint8)
    mask = np.zeros((60, 90), bool)
    mask[20:30, 40:60] = True
    values = np.zeros((60, 90), np.float32)
    values[20:30, 40:60] = 1.0
    record = Record("net", "rise", 0, "p", "g", kind, 0.9, hit=1.0, grade="B")
    failed = Record("net", "lime", 0, "p", "g", kind, 0.9, failure="flat_map")
    return reduce(Explained(Part("p", "g", kind, image, mask), 0.9, {"rise": values}, (record, failed)), "net")


def test_the_page_needs_nothing_from_outside_and_escapes_names() -> None:
    page = render(document(), [sheet_row()], {("net", "rise"): HeatScale(0.2, 0.6)})

    assert "data:image/jpeg;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<b>here</b>" not in page
    assert "&lt;b&gt;here" in page
    assert "hit" in page


def test_a_figure_is_shown_with_its_interval() -> None:
    assert shown({"mean": 0.1234, "low": 0.1, "high": 0.2}, 2) == "0.12 [0.10, 0.20]"
    assert shown({"mean": 5.0, "low": 5.0, "high": 5.0}, 0) == "5"
    assert shown({"mean": None, "low": None, "high": None}, 2) == "-"


def test_the_markdown_table_has_a_line_for_each_row() -> None:
    lines = markdown(document()["rows"]).splitlines()

    assert len(lines) == 2 + 2
    assert len({line.count("|") for line in lines}) == 1


def test_the_sheet_colours_the_hot_place_and_nothing_else() -> None:
    sheet = whole_sheet([sheet_row()], ["rise", "lime"], {("net", "rise"): HeatScale(0.2, 0.6)})

    tile = sheet[22:, 2 * (TILE_PX + 4) :][:112, :TILE_PX]
    colourful = np.ptp(tile.astype(int), axis=2) > 30
    assert colourful[int(25 / 60 * 112), int(50 / 90 * TILE_PX)]
    assert not colourful[:20].any()
    assert (sheet[22:, 3 * (TILE_PX + 4) :] == 255).all()  # no map, no picture


def test_parts_of_the_sheet_are_taken_evenly() -> None:
    rows = [sheet_row(str(n)) for n in range(5)]

    assert [row.kind for row in choose(rows, 3)] == ["0", "2", "4"]
    assert choose(rows, 9) == rows


def test_a_record_without_figures_is_not_a_number_rather_than_nought() -> None:
    assert math.isnan(Record("net", "rise", 0, "p", "g", "spot", 0.9).deletion_auc)
    with pytest.raises(AttributeError):
        Record("net", "rise", 0, "p", "g", "spot", 0.9).dice = 1.0
