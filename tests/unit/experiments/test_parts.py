import cv2
import numpy as np
import pytest

from services.adapters.datasets import write_labelled_folder
from services.core.errors import InvalidInputError, NotFoundError
from services.core.simulation.line import draw_part
from services.experiments.parts import Part, read_parts, split


def part(number: int, kind: str, group: str = "") -> Part:
    return Part(f"p{number}", group or f"g{number}", kind, np.zeros((4, 4, 3), np.uint8), None)


def test_simulated_parts_are_the_same_each_time_and_half_of_them_defective() -> None:
    first, second = read_parts("simulated:disc", 6), read_parts("simulated:disc", 6)

    assert [one.kind for one in first] == [one.kind for one in second]
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first, second, strict=True))
    assert sum(one.defective for one in first) == 3
    assert all((one.mask is not None and one.mask.any()) == one.defective for one in first)


def test_a_folder_gives_its_masks_and_groups(tmp_path) -> None:
    drawn = [draw_part("disc", seed, defect="crack" if seed % 2 else None, size_px=96) for seed in range(4)]
    write_labelled_folder(drawn, tmp_path)

    found = read_parts(str(tmp_path), 0)

    assert [one.kind for one in found] == ["good", "crack", "good", "crack"]
    assert np.array_equal(found[1].mask, drawn[1].mask)
    assert found[0].mask is None
    assert len({one.group for one in found}) == 4


def test_a_folder_can_be_sampled_evenly(tmp_path) -> None:
    write_labelled_folder((draw_part("disc", seed, defect=None, size_px=96) for seed in range(5)), tmp_path)

    assert [one.name for one in read_parts(str(tmp_path), 3)] == ["disc-00000000", "disc-00000002", "disc-00000004"]


def test_a_mask_of_another_size_is_refused(tmp_path) -> None:
    write_labelled_folder([draw_part("disc", 1, defect="crack", size_px=96)], tmp_path)
    mask = next((tmp_path / "masks").iterdir())
    mask.write_bytes(cv2.imencode(".png", np.zeros((5, 7), np.uint8))[1].tobytes())

    with pytest.raises(InvalidInputError, match="7x5"):
        read_parts(str(tmp_path), 0)


def test_an_unknown_product_or_folder_is_refused(tmp_path) -> None:
    with pytest.raises(InvalidInputError, match="product"):
        read_parts("simulated:spoon", 4)
    with pytest.raises(NotFoundError):
        read_parts(str(tmp_path / "nowhere"), 0)


def test_no_group_is_on_two_sides_of_a_split() -> None:
    parts = [part(number, "crack" if number % 3 == 0 else "good", f"g{number // 2}") for number in range(60)]

    sets = split(parts, seed=3)

    groups = {name: {parts[row].group for row in rows} for name, rows in sets.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["validation"] & (groups["train"] | groups["test"])
    assert sorted(row for rows in sets.values() for row in rows) == list(range(60))


def test_a_kind_with_too_few_groups_is_split_as_just_defective() -> None:
    parts = [part(number, "good") for number in range(20)]
    parts += [part(20 + number, "crack") for number in range(9)] + [part(29, "rare")]

    sets = split(parts, seed=0)

    assert all(any(parts[row].defective for row in rows) for rows in sets.values())


def test_a_split_of_good_parts_alone_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="good and defective"):
        split([part(number, "good") for number in range(20)], seed=0)
