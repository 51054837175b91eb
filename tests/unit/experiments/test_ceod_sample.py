from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from services.adapters.areas import parse_area
from services.core.errors import InvalidInputError, NotFoundError
from services.core.imaging import encode_png
from services.experiments.ceod_sample import (
    SHARES,
    AreaPart,
    AreaSample,
    parse_relabel,
    parse_shares,
    parse_size,
    prepare_area_sample,
    read_area_parts,
    split_areas,
)
from services.experiments.parts import Part


def write_part(folder: Path, defect_class: str, number: int, spot: tuple[int, int] | None) -> None:
    """A grey part, 40 columns x 20 rows, with a white spot of 6 x 6 and its mask."""
    image = np.full((20, 40, 3), 90, np.uint8)
    side = folder / ("train" if spot is None else "test") / defect_class
    side.mkdir(parents=True, exist_ok=True)
    if spot is not None:
        mask = np.zeros((20, 40), np.uint8)
        x, y = spot
        image[y : y + 6, x : x + 6], mask[y : y + 6, x : x + 6] = 250, 255
        truth = folder / "ground_truth" / defect_class
        truth.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(truth / f"{number}_mask.png"), mask)
    (side / f"{number}.png").write_bytes(encode_png(image))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_part(tmp_path, "good", 0, None)
    write_part(tmp_path, "hole", 1, (2, 7))  # in the left half
    write_part(tmp_path, "hole", 2, (30, 7))  # in the right half
    write_part(tmp_path, "hole", 3, (17, 7))  # in both
    write_part(tmp_path, "fabric", 4, (4, 2))
    return tmp_path


def labels(parts: list[AreaPart]) -> dict[str, tuple[str, bool, bool]]:
    return {one.part.name: (one.part.kind, one.distractor, one.on_edge) for one in parts}


def test_an_area_is_read_from_the_command_line() -> None:
    assert parse_area("masks").kind == "masks"
    assert parse_area("truth").kind == "truth"
    assert parse_area("box:0,0.25,0.5,1").box == (0, 0.25, 0.5, 1)
    assert parse_area("file:dir/area.png").path == Path("dir/area.png")


@pytest.mark.parametrize(
    "text", ["", "mask", "masks:1", "box:", "box:0,0,1", "box:.5,0,.5,1", "box:0,0,1,1.2", "file:"]
)
def test_another_area_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(InvalidInputError, match="an area must be masks"):
        parse_area(text)


def test_classes_to_relabel_are_read_and_only_as_good() -> None:
    assert parse_relabel("fabric=good, border=good") == {"fabric", "border"}
    assert parse_relabel("") == frozenset()
    for wrong in ("fabric", "fabric=bad", "=good", "good=good"):
        with pytest.raises(InvalidInputError, match="CLASS=good"):
            parse_relabel(wrong)


def test_shares_are_three_percents_and_a_split_keeps_to_them() -> None:
    shares = parse_shares("30, 20,50")
    assert shares == {"train": 0.3, "validation": 0.2, "test": 0.5}
    parts = sample([row % 2 == 0 for row in range(100)], [False] * 100, [str(row) for row in range(100)])
    assert [len(rows) for rows in split_areas(parts, 0, shares).values()] == [30, 20, 50]
    for wrong in ("70,30", "70,20,20", "100,0,0", "a,b,c", "70,20,10,", ""):
        with pytest.raises(InvalidInputError, match="--split"):
            parse_shares(wrong)


def test_a_size_is_one_side_or_two() -> None:
    assert parse_size("64") == (64, 64)
    assert parse_size("96x48") == (96, 48)
    for wrong in ("0", "31x48", "a", "1x2x3", ""):
        with pytest.raises(InvalidInputError, match="--size"):
            parse_size(wrong)


def test_a_box_makes_distractors_of_what_lies_outside_and_counts_what_lies_on_its_edge(folder: Path) -> None:
    found = labels(read_area_parts(str(folder), 0, parse_area("box:0,0,0.5,1")))
    assert found == {
        "0": ("good", False, False),
        "1": ("hole", False, False),
        "2": ("good", True, False),
        "3": ("hole", False, True),
        "4": ("fabric", False, False),
    }


def test_one_picture_as_area_judges_like_a_box_whatever_its_size(folder: Path, tmp_path: Path) -> None:
    area = np.zeros((10, 8), np.uint8)
    area[:, :4] = 255
    path = tmp_path / "area.png"
    cv2.imwrite(str(path), area)
    by_file = read_area_parts(str(folder), 0, parse_area(f"file:{path}"))
    by_box = read_area_parts(str(folder), 0, parse_area("box:0,0,0.5,1"))
    assert labels(by_file) == labels(by_box)
    assert all(np.array_equal(one.area, other.area) for one, other in zip(by_file, by_box, strict=True))


def test_an_area_that_is_no_picture_or_black_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        read_area_parts(str(folder), 0, parse_area(f"file:{tmp_path / 'nowhere.png'}"))
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(InvalidInputError, match="white where defects count"):
        read_area_parts(str(folder), 0, parse_area(f"file:{tmp_path / 'black.png'}"))


def test_a_relabelled_class_becomes_distractors_without_a_mask(folder: Path) -> None:
    parts = {one.part.name: one for one in read_area_parts(str(folder), 0, parse_area("masks"), {"fabric"})}
    assert (parts["4"].part.kind, parts["4"].distractor, parts["4"].part.mask) == ("good", True, None)
    assert (parts["1"].part.kind, parts["1"].distractor) == ("hole", False)
    assert np.array_equal(parts["1"].area, parts["1"].part.mask)


def test_a_class_that_the_data_do_not_have_is_refused_with_those_that_they_have(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="fabric, hole"):
        read_area_parts(str(folder), 0, parse_area("masks"), {"seam"})


def test_the_truth_is_known_of_the_simulated_line_only(folder: Path) -> None:
    with pytest.raises(InvalidInputError, match="simulated line only"):
        read_area_parts(str(folder), 0, parse_area("truth"))


def test_simulated_zippers_bring_the_chain_as_area_and_flaws_on_the_fabric_as_distractors() -> None:
    parts = read_area_parts("simulated:zipper", 24, parse_area("truth"), least_px=96)
    assert sum(one.part.defective for one in parts) == 12
    assert any(one.distractor for one in parts)
    assert not any(one.distractor and one.part.defective for one in parts)
    for one in parts:
        assert one.area is not None
        assert 0.2 < one.area.mean() < 0.5  # the chain is a third of the strip
        if one.part.mask is not None:
            assert not (one.part.mask & ~one.area).any()


def test_areas_are_brought_into_the_networks_shape_with_their_pictures() -> None:
    image = np.full((20, 40, 3), 90, np.uint8)
    mask = np.zeros((20, 40), bool)
    mask[7:13, 2:8] = True
    image[mask] = 250
    good = np.full((20, 40, 3), 90, np.uint8)
    parts = [AreaPart(Part("a", "a", "hole", image, mask), mask), AreaPart(Part("b", "b", "good", good, None), None)]
    sample = prepare_area_sample(parts, (32, 32))
    # Above and below, the letterbox is filled with the mirrored surface: the spot's mirror image belongs to the area.
    assert np.array_equal(sample.areas[0], sample.images[0, ..., 0] > 170)
    assert not sample.areas[1].any()


def test_a_crack_thinner_than_a_pixel_stays_in_the_area() -> None:
    mask = np.zeros((320, 320), bool)
    mask[:, 160] = True
    blank = np.full((320, 320, 3), 90, np.uint8)
    parts = [AreaPart(Part("a", "a", "crack", blank, mask), mask), AreaPart(Part("b", "b", "good", blank, None), None)]
    assert prepare_area_sample(parts, (32, 32)).areas[0].sum() == 32


def test_without_good_or_defective_parts_or_any_area_there_is_nothing_to_train() -> None:
    blank = np.full((32, 32, 3), 90, np.uint8)
    good, bad = Part("a", "a", "good", blank, None), Part("b", "b", "hole", blank, None)
    with pytest.raises(InvalidInputError, match="good and defective"):
        prepare_area_sample([AreaPart(good, None)], (32, 32))
    with pytest.raises(InvalidInputError, match="must have an area"):
        prepare_area_sample([AreaPart(good, None), AreaPart(bad, None)], (32, 32))


def sample(defective: list[bool], distractor: list[bool], groups: list[str]) -> AreaSample:
    n = len(groups)
    empty = np.zeros((n, 4, 4), bool)
    kinds = tuple("hole" if bad else "good" for bad in defective)
    return AreaSample(
        np.zeros((n, 4, 4, 3), np.uint8),
        empty,
        np.array(defective),
        np.array(distractor),
        np.zeros(n, bool),
        kinds,
        tuple(groups),
        tuple(str(row) for row in range(n)),
    )


def test_no_group_is_on_two_sides_and_every_side_has_distractors_where_there_are_enough() -> None:
    groups = [f"g{row // 2}" for row in range(240)]
    defective = [row // 2 % 2 == 0 for row in range(240)]
    distractor = [row // 2 % 4 == 1 for row in range(240)]
    parts = sample(defective, distractor, groups)
    sides = split_areas(parts, seed=3)
    held = [{groups[row] for row in rows} for rows in sides.values()]
    assert sum(len(one) for one in held) == len(set().union(*held)) == 120
    assert {name: round(len(rows) / 240, 1) for name, rows in sides.items()} == SHARES
    assert all(parts.distractor[rows].any() for rows in sides.values())


def test_a_single_distractor_does_not_stand_in_a_splits_way() -> None:
    parts = sample(
        [row % 2 == 0 for row in range(40)], [row == 1 for row in range(40)], [str(row) for row in range(40)]
    )
    assert sum(len(rows) for rows in split_areas(parts, seed=0).values()) == 40
