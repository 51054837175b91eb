"""Areas as people write them down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.adapters.areas import AreaSpec, FixedArea, fixed_areas, parse_area
from services.core.errors import InvalidInputError, NotFoundError
from services.core.imaging import encode_png


def test_a_box_is_a_share_of_every_picture() -> None:
    area = fixed_areas({"disc": "box:0.25,0,1,0.5"})["disc"]
    assert area.over(8, 4).tolist() == [[False, True, True, True]] * 4 + [[False] * 4] * 4
    assert area.over(200, 100).sum() == 100 * 75


def test_a_file_is_brought_to_every_picture(tmp_path: Path) -> None:
    drawn = np.zeros((10, 20, 3), np.uint8)
    drawn[:, :10] = 255
    (tmp_path / "area.png").write_bytes(encode_png(drawn))
    area = FixedArea(parse_area(f"file:{tmp_path / 'area.png'}"))
    assert area.over(30, 40)[:, :20].all()
    assert not area.over(30, 40)[:, 20:].any()


@pytest.mark.parametrize("text", ["", "box", "box:0,0,1", "box:0.5,0,0.5,1", "box:0,0,2,1", "file:", "somewhere"])
def test_what_is_no_area_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"an area must be .* got"):
        parse_area(text)


def test_a_file_that_is_missing_or_white_nowhere_and_an_area_that_is_not_fixed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no"):
        fixed_areas({"disc": f"file:{tmp_path / 'gone.png'}"})
    (tmp_path / "black.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(InvalidInputError, match="white where defects count"):
        fixed_areas({"disc": f"file:{tmp_path / 'black.png'}"})
    with pytest.raises(InvalidInputError, match="a box or a file, got masks"):
        FixedArea(AreaSpec("masks"))
