from __future__ import annotations

import random
from dataclasses import replace

from services.core.types import Verdict
from services.dashboard.live import LiveBounds, LiveModel
from tests.unit.dashboard.inspections import NOW_NS, inspection


def model_with(*numbers: int, bounds: LiveBounds | None = None, **changes: object) -> LiveModel:
    model = LiveModel(bounds)
    model.add([inspection(number, age_s=100 - number, **changes) for number in numbers], NOW_NS)
    return model


def latest(model: LiveModel, camera: int = 0) -> list[int]:
    return [one.sequence for one in model.wall(NOW_NS).lines[0].cameras[camera].latest]


def test_the_same_verdict_twice_changes_nothing() -> None:
    model = model_with(1, 2)
    assert model.add([inspection(1, age_s=99)], NOW_NS) == 0
    assert (model.revision, model.wall(NOW_NS).figures.seen) == (2, 2)


def test_the_cameras_order_is_restored_from_any_order_of_arrival() -> None:
    numbers = list(range(10))
    random.Random(3).shuffle(numbers)
    assert latest(model_with(*numbers)) == list(range(10, 0, -1))


def test_another_model_versions_verdict_supersedes_and_keeps_the_first_as_history() -> None:
    model = LiveModel()
    first = inspection(1, verdict=Verdict.FAIL)
    second = replace(first, model_version=2, verdict=Verdict.PASS, decided_at_ns=first.decided_at_ns + 5)
    model.add([first, second], NOW_NS)
    part = model.part(first.frame_id)
    assert part is not None
    assert (part.inspection, part.earlier) == (second, (first,))
    assert model.wall(NOW_NS).lines[0].cameras[0].flagged == ()


def test_an_earlier_decision_that_arrives_late_does_not_supersede() -> None:
    model = LiveModel()
    stands = inspection(1, model_version=2)
    model.add([stands, replace(stands, model_version=1, decided_at_ns=stands.decided_at_ns - 5)], NOW_NS)
    assert model.find(stands.frame_id) == stands


def test_a_record_that_moves_a_frame_to_another_camera_is_ignored() -> None:
    model = LiveModel()
    first = inspection(1)
    assert model.add([first, replace(first, camera_id="cam-9", model_version=2)], NOW_NS) == 1
    assert model.find(first.frame_id) == first


def test_frames_are_bounded_and_the_oldest_go_from_everywhere() -> None:
    model = model_with(*range(30), bounds=LiveBounds(max_frames=10))
    assert len(model) == 10
    assert model.part(inspection(3, age_s=97).frame_id) is None
    assert latest(model) == list(range(30, 20, -1))
    assert model.wall(NOW_NS).figures.seen == 30


def test_cameras_are_bounded_and_the_longest_silent_goes() -> None:
    model = LiveModel(LiveBounds(max_cameras=2))
    for number, camera in enumerate(("cam-a", "cam-b", "cam-c")):
        model.add([inspection(number, camera=camera, age_s=50 - number)], NOW_NS)
    assert [camera.camera_id for camera in model.wall(NOW_NS).lines[0].cameras] == ["cam-b", "cam-c"]
    assert len(model) == 2


def test_flagged_parts_stay_in_view_while_passes_go_by() -> None:
    bounds = LiveBounds(parts_per_camera=3, flagged_per_camera=2)
    model = model_with(0, 1, 2, bounds=bounds, verdict=Verdict.FAIL)
    model.add([inspection(number, age_s=50 - number) for number in range(10, 20)], NOW_NS)
    camera = model.wall(NOW_NS).lines[0].cameras[0]
    assert [one.sequence for one in camera.latest] == [20, 19, 18]
    assert [one.sequence for one in camera.flagged] == [3, 2]


def test_a_part_knows_its_other_views_and_its_neighbours() -> None:
    model = model_with(0, 1, 2, 3)
    side = inspection(2, camera="cam-2")
    model.add([side], NOW_NS)
    part = model.part(inspection(2, age_s=98).frame_id, around=1)
    assert part is not None
    assert part.views == (side,)
    assert [one.sequence for one in part.neighbours] == [2, 3, 4]
    assert part.previous_frame_id == inspection(1, age_s=99).frame_id
    assert part.next_frame_id == inspection(3, age_s=97).frame_id


def test_the_first_and_the_last_part_have_one_neighbour() -> None:
    model = model_with(0, 1)
    first = model.part(inspection(0, age_s=100).frame_id)
    last = model.part(inspection(1, age_s=99).frame_id)
    assert first is not None
    assert last is not None
    assert (first.previous_frame_id, last.next_frame_id) == (None, None)


def test_a_page_catches_up_from_its_revision() -> None:
    model = model_with(0, 1, 2)
    caught_up = model.since(1)
    assert caught_up is not None
    revision, fresh = caught_up
    assert (revision, [one.sequence for one in fresh]) == (3, [2, 3])


def test_a_page_that_fell_out_of_the_log_or_comes_from_another_life_needs_a_snapshot() -> None:
    model = model_with(*range(20), bounds=LiveBounds(max_log=5))
    assert model.since(14) is None
    assert model.since(21) is None
    assert model.since(15) is not None


def test_catching_up_leaves_out_other_lines_and_all_but_each_cameras_latest() -> None:
    model = model_with(*range(10), bounds=LiveBounds(parts_per_camera=3))
    model.add([inspection(50, line_id="line-2", camera="cam-2")], NOW_NS)
    caught_up = model.since(0, "line-1")
    assert caught_up is not None
    assert [one.sequence for one in caught_up[1]] == [8, 9, 10]


def test_one_line_alone_has_its_own_figures() -> None:
    model = model_with(0, 1)
    model.add([inspection(5, line_id="line-2", camera="cam-2", verdict=Verdict.FAIL)], NOW_NS)
    wall = model.wall(NOW_NS, "line-2")
    assert ([line.line_id for line in wall.lines], wall.figures.total, wall.figures.failed) == (["line-2"], 1, 1)


def test_memory_is_bounded_over_many_frames() -> None:
    model = LiveModel(LiveBounds(max_frames=200, max_log=50))
    for number in range(5_000):
        model.add([inspection(number, camera=f"cam-{number % 7}", age_s=0.0)], NOW_NS + number * 10_000_000)
    assert len(model) == 200
    assert len(model._parts) == 200
    assert sum(len(camera.order) for camera in model._cameras.values()) == 200
    assert len(model._log) == 50
