from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from services.adapters.memory import MemoryObjectStore
from services.core.errors import InvalidInputError, NotFoundError
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.core.review_mask import encode_mask
from services.core.selection.snapshot import SnapshotItem
from services.trainer.lessons import prepared_region, read_answered, taught
from services.trainer.pictures import RecordedPictures
from tests.support.tiny_line import PREPROCESSING, SETTINGS, SIDE_PX, TinyPictures

IMAGE = encode_png(np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8))
DIGEST = hashlib.sha256(IMAGE).hexdigest()
ITEM = SnapshotItem(DIGEST, "picture", "part-1", "spot", (), (), (), True, False, ("review-1",))


def area(top: int, left: int, side: int = 4) -> np.ndarray:
    mask = np.zeros((SIDE_PX, SIDE_PX), np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def hot(top: int, left: int) -> np.ndarray:
    """A map of 8 x 8 cells with one hot cell."""
    values = np.zeros((8, 8), np.float32)
    values[top, left] = 1
    return values


def read(item: SnapshotItem, pictures: TinyPictures, share: float = 1 / 64, **areas: str):
    pictures.images["picture"] = IMAGE
    settings = replace(SETTINGS, region_share=share, areas=tuple(areas.items()))
    return read_answered([item], pictures, PREPROCESSING, settings, lambda _: None)


def test_the_region_is_the_union_of_what_people_drew() -> None:
    pictures = TinyPictures(masks={"a": encode_mask(area(2, 2)), "b": encode_mask(area(20, 20))})
    (one,) = read(replace(ITEM, mask_keys=("a", "b")), pictures).answered
    assert (one.region == (area(2, 2) | area(20, 20))).all()
    assert one.drawn


def test_the_region_of_an_accepted_map_is_where_it_is_hottest() -> None:
    pictures = TinyPictures(maps={("case", "gradcam"): hot(1, 6)})
    (one,) = read(replace(ITEM, verdict_wrong=False, accepted_maps=(("case", "gradcam"),)), pictures).answered
    assert int(one.region.sum()) == SIDE_PX * SIDE_PX // 64
    assert one.region[4:8, 24:28].all()
    assert not one.drawn


def test_what_misled_the_model_on_a_good_part_is_shown_again_as_good() -> None:
    pictures = TinyPictures(maps={("case", "gradcam"): hot(1, 6), ("case", "rise"): hot(7, 0)})
    item = replace(ITEM, label="good", misleading_maps=(("case", "gradcam"), ("gone", "rise")))
    (one,) = read(item, pictures).answered
    assert one.region[4:8, 24:28].all()
    assert not one.region[28:, :4].any()
    lessons = taught(one, 0, SETTINGS, [np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)])
    # The picture, nearer, moved and pasted; heat has no place on a good part.
    assert [lesson.label for lesson in lessons] == [0] * 4
    assert not any(lesson.area.any() for lesson in lessons)


def test_the_same_picture_is_refuted_alike_whoever_answered_it() -> None:
    pictures = TinyPictures(masks={"a": encode_mask(area(2, 2))})
    item = replace(ITEM, mask_keys=("a",))
    (one,) = read(item, pictures).answered
    (other,) = read(replace(item, review_ids=("x", "y")), pictures).answered
    for first, second in zip(taught(one, 1, SETTINGS, []), taught(other, 1, SETTINGS, []), strict=True):
        assert (first.image == second.image).all()


FIXED = {"left": "box:0,0,0.5,0.5", "disc": "box:0.5,0.5,1,1"}
OF_DISC = replace(ITEM, product="disc", camera_id="right")


def test_where_nobody_said_where_defects_count_the_cameras_area_does_and_then_the_products() -> None:
    (one,) = read(OF_DISC, TinyPictures(), **FIXED).answered
    assert (one.area == area(16, 16, 16)).all()
    assert not one.region.any()
    (one,) = read(replace(OF_DISC, camera_id="left"), TinyPictures(), **FIXED).answered
    assert (one.area == area(0, 0, 16)).all()
    (one,) = read(replace(OF_DISC, product="weld"), TinyPictures(), **FIXED).answered
    assert not one.area.any()


def test_what_a_person_marked_comes_before_a_fixed_area_and_a_drawing_before_both() -> None:
    marked = replace(OF_DISC, area=((2.0, 2.0), (9.0, 2.0), (9.0, 5.0), (2.0, 5.0)))
    (one,) = read(marked, TinyPictures(), **FIXED).answered
    assert int(one.area.sum()) == 8 * 4
    assert one.area[2:6, 2:10].all()
    drawn = replace(marked, mask_keys=("a",))
    (one,) = read(drawn, TinyPictures(masks={"a": encode_mask(area(20, 20))}), **FIXED).answered
    assert (one.area == one.region).all()
    assert (one.area == area(20, 20)).all()


def test_a_good_part_has_no_area_where_defects_count() -> None:
    (one,) = read(replace(OF_DISC, label="good"), TinyPictures(), **FIXED).answered
    assert not one.area.any()


def test_a_thin_line_does_not_vanish_when_its_picture_shrinks() -> None:
    line = np.zeros((640, 640), np.bool_)
    line[300, 100:500] = True
    small = prepared_region(line, Preprocessing(height_px=32, width_px=32))
    assert small.any()
    assert set(np.flatnonzero(small.any(axis=1)).tolist()) == {15}


def test_the_record_gives_a_picture_only_if_it_is_the_one_that_was_answered() -> None:
    store = MemoryObjectStore()
    pictures = RecordedPictures(store)
    key = f"record/images/{DIGEST[:2]}/{DIGEST}.png"
    with pytest.raises(NotFoundError, match="must lie in the record, got none of the SHA-256"):
        pictures.base_image(DIGEST)
    store.put(key, IMAGE)
    assert pictures.image(key, DIGEST) == IMAGE
    assert pictures.base_image(DIGEST) == IMAGE
    store.put(key, IMAGE + b"x")
    with pytest.raises(InvalidInputError, match="must hold the picture of the SHA-256"):
        pictures.image(key, DIGEST)


def test_the_record_gives_no_map_of_a_case_that_is_gone() -> None:
    assert RecordedPictures(MemoryObjectStore()).heat("01890000-0000-7000-8000-000000000000", "gradcam") is None
