"""Versions swap while frames flow, with two detectors and two Tritons, one of which dies in the middle of it."""

from __future__ import annotations

import functools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sightline.v1 import serving_service_pb2

from services.adapters import codec
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordWriter
from services.adapters.triton import TritonControl
from services.core import alias as aliases
from services.core import topics
from services.core.imaging import encode_png
from services.core.types import Frame
from tests.support.detector_line import make_frame
from tests.support.detector_process import DetectorProcess, Output
from tests.support.plant import SIDE_PX, WHO, Plant, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

CAMERAS = tuple(f"cam-{number}" for number in range(8))
PICTURES = 6
RATE_FPS = 30.0
#: A deadline is there to end a test that hangs; a busy machine needs a good part of it.
LONG_S = 90.0


def pictures() -> np.ndarray:
    """Noise, from dark to bright, ``(PICTURES, SIDE_PX, SIDE_PX, 3)``."""
    noise = np.random.default_rng(5).integers(0, 256, (PICTURES, SIDE_PX, SIDE_PX, 3))
    return (noise * np.linspace(0.1, 1.0, PICTURES).reshape(-1, 1, 1, 1)).astype(np.uint8)


def picture_of(frame_number: int) -> int:
    """Which picture a frame shows."""
    return frame_number % PICTURES


class Feed:
    """Publishes frames of all cameras at a steady rate until it is stopped."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self.frames: list[Frame] = []
        self._kafka = kafka
        self._images = [encode_png(image) for image in pictures()]
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert self._failure is None, f"the feed failed: {self._failure}"

    def published(self) -> int:
        """How many frames the broker has acknowledged."""
        return len(self.frames)

    def _run(self) -> None:
        writer = KafkaRecordWriter(self._kafka)
        try:
            while not self._stop.wait(1 / RATE_FPS):
                number = len(self.frames)
                frame = make_frame(number, self._images[picture_of(number)], camera=CAMERAS[number % len(CAMERAS)])
                key = frame.camera_id.encode()
                writer.send(topics.FRAMES, key=key, value=codec.encode_frame(frame)).result(30)
                self.frames.append(frame)
        except Exception as error:  # noqa: BLE001 - told on the test's thread
            self._failure = error
        finally:
            writer.close(5)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(tmp_path)
    try:
        plant.start()
        first = plant.upload()
        plant.promote(first)
        plant.wait_until_warm(first)
        yield plant
    finally:
        plant.stop()


@pytest.fixture
def detectors(plant: Plant) -> Iterator[list[DetectorProcess]]:
    started = [DetectorProcess(plant, f"detector-{number}") for number in range(2)]
    try:
        for detector in started:
            detector.process.start()
        for detector in started:
            wait_until(detector.ready, LONG_S, f"readiness of {detector.log[-2000:]}")
        yield started
    finally:
        for detector in started:
            detector.kill()


@pytest.fixture
def output(plant: Plant) -> Iterator[Output]:
    output = Output(plant.kafka)
    yield output
    output.close()


def shares(detector: DetectorProcess) -> bool:
    """Whether it has worked, that is, has partitions."""
    return detector.metric("sightline_detector_verdicts_total") > 0


def answers_with(detectors: list[DetectorProcess], version: int) -> Callable[[], bool]:
    """Whether all of them have flipped to a version."""
    return lambda: all(detector.metric("sightline_detector_live_version") == version for detector in detectors)


def further(count: Callable[[], int], more: int = 40) -> Callable[[], bool]:
    """Whether a count has grown by ``more`` since this call."""
    least = count() + more
    return lambda: count() >= least


def test_versions_swap_under_load_while_a_triton_dies_and_every_frame_gets_one_verdict(
    plant: Plant, detectors: list[DetectorProcess], output: Output
) -> None:
    def said() -> int:
        return len(output.read().verdicts())

    with Feed(plant.kafka) as feed:
        wait_until(lambda: all(shares(detector) for detector in detectors), LONG_S, "work for both detectors")
        wait_until(further(said), LONG_S, "verdicts of the first version")
        moves_before = sum(len(detector.log_lines("partitions leave")) for detector in detectors)
        first, second = 1, plant.upload()

        plant.promote(second)
        unspecified = serving_service_pb2.VERSION_STATE_UNSPECIFIED
        wait_until(lambda: plant.state("default", second) != unspecified, LONG_S, "the second version's coming up")
        flipped = sum(detector.metric("sightline_detector_swaps_total") for detector in detectors)
        plant.tritons[0].kill()
        assert flipped == 0, "the Triton must die before it has the second version, or the test tests nothing"
        wait_until(lambda: not plant.agents[0].ready(), LONG_S, "the agent's noticing")
        wait_until(further(said), LONG_S, "verdicts with one Triton")
        plant.tritons[0].start()
        wait_until(plant.agents[0].ready, LONG_S, "the Triton's restoration")
        wait_until(answers_with(detectors, second), LONG_S, "the swap")
        # The frame that is on its way now may have been taken before.
        swapped_at = feed.published() + 1
        wait_until(further(feed.published), LONG_S, "frames for the second version")

        # What has no verdict yet may be answered by either version until both have flipped back.
        back_from = feed.published()
        output.wait_for_frames(feed.frames[:back_from], LONG_S)
        plant.registry.change("default", functools.partial(aliases.roll_back, **WHO))
        wait_until(answers_with(detectors, first), LONG_S, "the way back")
        back_at = feed.published() + 1
        wait_until(further(feed.published), LONG_S, "frames for the first version again")
    frames = feed.frames
    output.wait_for_frames(frames, LONG_S)

    for triton in plant.tritons:
        control = TritonControl(triton.grpc_url)
        versions = {name for name in control.ready_models() if not name.startswith("explain-")}
        assert versions == {"default-v1", "default-v2"}, "the one that died is as the other"
        control.close()
    assert answers_with(detectors, first)()
    moves = sum(len(detector.log_lines("partitions leave")) for detector in detectors) - moves_before
    for detector in detectors:
        assert detector.stop() == 0, detector.log[-3000:]
    for agent in plant.agents:
        assert agent.stop(), "SIGTERM is enough"
        assert agent.process.returncode == 0
    output.read()

    _check_counts(output, frames, moves)
    _check_versions(plant, output, frames, {first, second})
    _check_order(output)
    by_number = {item.sequence - 1: item.model_version for item in output.verdicts()}
    assert [by_number[number] for number in range(swapped_at, back_from)] == [second] * (back_from - swapped_at)
    assert [by_number[number] for number in range(back_at, len(frames))] == [first] * (len(frames) - back_at)


def _check_counts(output: Output, frames: list[Frame], moves: int) -> None:
    """Each frame once. Only a partition that moved to the other detector may bring a frame to both of them.

    Then it is a replay: the same version has the same id and is one after de-duplication, and another version, where
    the swap came between, is another verdict on the same frame.
    """
    assert not output.dead_letters()
    times = Counter(item.frame_id for item in output.verdicts())
    assert times.keys() == {frame.frame_id for frame in frames}, "every frame has a verdict, and nothing else has"
    if not moves:
        assert set(times.values()) == {1}, "without a replay no frame is answered twice, by one version or by two"
    ids = Counter(case.case_id for case in output.cases())
    assert moves or set(ids.values()) <= {1}


def _check_versions(plant: Plant, output: Output, frames: list[Frame], live: set[int]) -> None:
    """Both versions answered, no other did, and each verdict has the score of the version that it names."""
    verdicts = output.verdicts()
    assert {item.model_version for item in verdicts} == live
    expected = {version: plant.expected(version, pictures()) for version in live}
    assert np.abs(expected[1] - expected[2]).min() > 1e-3, "versions that say the same prove nothing"
    number_of = {frame.frame_id: number for number, frame in enumerate(frames)}
    wanted = [expected[item.model_version][picture_of(number_of[item.frame_id])] for item in verdicts]
    np.testing.assert_allclose([item.score for item in verdicts], wanted, atol=1e-4)


def _check_order(output: Output) -> None:
    """A camera's verdicts, keyed by part, keep its order in each partition, and its cases in their only one.

    Replays are left out.
    """
    cases = [codec.decode_case(record.value).inspection for record in output.of(topics.CASES)]
    assert {item.camera_id for item in cases} == set(CAMERAS), "no order can be seen in nothing"
    for topic, items in ((topics.VERDICTS, output.verdicts()), (topics.CASES, cases)):
        order: dict[tuple[str, int], dict[int, None]] = defaultdict(dict)
        for record, item in zip(output.of(topic), items, strict=True):
            order[item.camera_id, record.partition].setdefault(item.sequence)
        assert all(list(sequences) == sorted(sequences) for sequences in order.values()), topic
        if topic == topics.CASES:
            assert len(order) == len(CAMERAS)
