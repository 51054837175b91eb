"""The detector's bad days, on the real protocols: nothing lost, nothing doubled after de-duplication by id.

Each test has a camera of its own, so that they share one broker, object store, Triton and, where nothing is done to
it, one detector.
"""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.adapters.kafka import KafkaRecordWriter
from services.adapters.objectstore import S3ObjectStore
from services.core import topics
from services.core.imaging import encode_jpeg, encode_png
from services.core.types import CaseKind, ImageRef, Reason, Verdict
from tests.support.detector_line import make_frame, picture
from tests.support.detector_process import DetectorProcess, Output, Servers, eventually, publish

pytestmark = [pytest.mark.integration]

GOOD, BAD = picture(10), picture(250)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("detector"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def detector(servers: Servers) -> Iterator[DetectorProcess]:
    detector = DetectorProcess(servers).start()
    yield detector
    assert detector.stop() == 0, f"a drained detector ends with 0; log:\n{detector.log[-3000:]}"


@pytest.fixture(scope="module")
def output(servers: Servers) -> Iterator[Output]:
    output = Output(servers.kafka)
    yield output
    output.close()


def noise(height_px: int, width_px: int, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, top, (height_px, width_px, 3), dtype=dtype)


def hundred_megapixels() -> bytes:
    """A PNG of 10 000 x 10 000 that is 100 KB small: a decompression bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(10_000 // 8 + 1) * 10_000, 9)
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def cmyk_jpeg() -> bytes:
    """A JPEG whose header says four components; they are refused before any pixel is read."""
    plain = encode_jpeg(noise(64, 64))
    start = plain.index(b"\xff\xc0")
    height, width = struct.unpack(">HH", plain[start + 5 : start + 9])
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3, 4))
    length = struct.unpack(">H", plain[start + 2 : start + 4])[0]
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 8 + 12, 8, height, width, 4) + components
    return plain[:start] + frame + plain[start + 2 + length :]


BAD_IMAGES = {
    "undecodable": (b"these bytes are no image at all", "image_unsupported"),
    "truncated": (encode_jpeg(noise(320, 320))[:9_000], "image_truncated"),
    "damaged": (GOOD[:40] + b"\x00" * 8 + GOOD[48:], "image_"),
    "zero-bytes": (b"", "image_empty"),
    "one-byte": (b"\xff", "image_"),
    "hundred-megapixel": (hundred_megapixels(), "image_too_large"),
    "cmyk": (cmyk_jpeg(), "image_"),
    "absurd-aspect": (encode_png(noise(16, 4_000)), "image_aspect"),
}


def test_every_kind_of_bad_image_is_a_dead_letter_and_a_review_and_the_line_goes_on(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    camera = "cam-bad-images"
    before = detector.metric("sightline_detector_dead_letters_total")
    frames = [make_frame(number, image, camera=camera) for number, (image, _) in enumerate(BAD_IMAGES.values())]
    after_them = make_frame(len(frames), GOOD, camera=camera)

    publish(servers.kafka, [*frames, after_them])
    said = output.wait_for_frames([*frames, after_them])

    assert max(said.values()) == 1
    verdicts = {item.frame_id: item for item in output.verdicts(camera)}
    assert verdicts[after_them.frame_id].verdict is Verdict.PASS
    letters = {letter.value: dict(letter.headers) for letter in output.dead_letters(camera)}
    assert len(letters) == len(frames)
    cases = {case.inspection.frame_id: case for case in output.cases(camera)}
    originals = {record.offset: record for record in _frames_of(servers, camera)}
    for frame, (name, (image, reason)) in zip(frames, BAD_IMAGES.items(), strict=True):
        verdict = verdicts[frame.frame_id]
        assert (verdict.verdict, verdict.reason, verdict.model_version) == (
            Verdict.REVIEW,
            Reason.UNREADABLE_IMAGE,
            0,
        ), name
        assert math.isnan(verdict.score), name
        assert cases[frame.frame_id].kind is CaseKind.REVIEW, name
        assert cases[frame.frame_id].image == image, name
        assert cases[frame.frame_id].embedding.size == 0, name
        assert verdict.position is not None
        original = originals[verdict.position.offset]
        headers = letters[original.value]
        assert headers["reason"].decode().startswith(reason), (name, headers)
        assert headers["detail"], name
        assert headers["origin_topic"].decode() == topics.FRAMES
        assert int(headers["origin_partition"]) == original.partition
        assert int(headers["origin_offset"]) == original.offset
        assert detector.log_lines("image cannot be used"), name
    assert detector.metric("sightline_detector_dead_letters_total") == before + len(frames)


def test_unusual_images_that_can_be_used_get_a_verdict(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    camera = "cam-unusual"
    store = S3ObjectStore(servers.connection)
    deep = cv2.imencode(".png", noise(200, 200, np.uint16))[1].tobytes()
    twenty_megabytes = cv2.imencode(".bmp", noise(2_600, 2_600))[1].tobytes()
    assert len(twenty_megabytes) > 20_000_000
    frames = [
        make_frame(0, deep, camera=camera),
        make_frame(1, store.put("frames/wrongly-named.jpg", encode_png(noise(100, 100))), camera=camera),
        make_frame(2, store.put("frames/large.bmp", twenty_megabytes), camera=camera),
    ]

    publish(servers.kafka, frames)
    output.wait_for_frames(frames)

    assert {item.model_version for item in output.verdicts(camera)} == {1}
    assert not output.dead_letters(camera)


def test_an_image_of_twenty_megabytes_that_passes_the_limit_is_refused_before_it_is_read(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    camera = "cam-too-many-bytes"
    store = S3ObjectStore(servers.connection)
    frame = make_frame(0, store.put("frames/too-large.bmp", bytes(26_000_000)), camera=camera)

    publish(servers.kafka, [frame])
    output.wait_for_frames([frame])

    assert output.verdicts(camera)[0].reason is Reason.UNREADABLE_IMAGE


def test_a_reference_to_nothing_says_that_the_image_is_missing(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    camera = "cam-missing"
    frame = make_frame(0, ImageRef("sightline", "frames/gone.png", 10, "0" * 64), camera=camera)

    publish(servers.kafka, [frame])
    output.wait_for_frames([frame])

    assert dict(output.dead_letters(camera)[0].headers)["reason"] == b"image_missing"


def test_an_unknown_protobuf_is_a_dead_letter_only(servers: Servers, detector: DetectorProcess, output: Output) -> None:
    camera = "cam-unknown"
    writer = KafkaRecordWriter(servers.kafka)
    for value in (b"\x08\x96\x01", b"\xff\xff\xff", b""):
        writer.send(topics.FRAMES, key=camera.encode(), value=value).result(10)
    writer.close(5)
    after_them = make_frame(0, GOOD, camera=camera)
    publish(servers.kafka, [after_them])

    output.wait_for_frames([after_them])

    letters = output.dead_letters(camera)
    assert [letter.value for letter in letters] == [b"\x08\x96\x01", b"\xff\xff\xff", b""]
    assert {dict(letter.headers)["reason"] for letter in letters} == {b"event_undecodable"}
    assert len(output.verdicts(camera)) == 1
    assert detector.log_lines("is no frame")


def test_a_frame_sent_twice_is_said_once(servers: Servers, detector: DetectorProcess, output: Output) -> None:
    camera = "cam-twice"
    before = detector.metric("sightline_detector_replayed_total")
    frames = [make_frame(number, BAD, camera=camera) for number in range(5)]
    publish(servers.kafka, [frame for frame in frames for _ in range(2)])
    last = make_frame(99, GOOD, camera=camera)
    publish(servers.kafka, [last])

    said = output.wait_for_frames([*frames, last])

    assert max(said.values()) == 1
    assert len(output.cases(camera)) == 5
    assert detector.metric("sightline_detector_replayed_total") == before + 5
    assert detector.log_lines("came again")


def test_triton_killed_and_restarted_mid_stream(servers: Servers, detector: DetectorProcess, output: Output) -> None:
    camera = "cam-triton"
    before, between, after = (
        [make_frame(number, GOOD, camera=camera) for number in numbers]
        for numbers in (range(50), range(50, 150), range(150, 200))
    )
    publish(servers.kafka, before)
    output.wait_for_frames(before[:10])
    servers.triton.kill()
    publish(servers.kafka, between)
    eventually("the detector says that Triton is away", lambda: not detector.ready())
    eventually("partitions are paused", lambda: detector.metric("sightline_detector_paused") == 1)
    assert detector.metric("sightline_detector_dependency_up") < 2

    servers.triton.start()
    time.sleep(0.5)  # the model is not loaded yet: neither is that lost on anybody
    servers.load_model()
    publish(servers.kafka, after)
    said = output.wait_for_frames([*before, *between, *after])

    assert len(said) == 200
    assert max(said.values()) == 1
    assert not output.dead_letters(camera)
    assert detector.log_lines("triton is away")
    assert detector.log_lines("triton answers again")
    assert detector.metric("sightline_detector_retries_total") > 0
    eventually("ready again", detector.ready)
    by_partition = Counter[int]()
    for record, verdict in zip(output.of(topics.VERDICTS), output.verdicts(), strict=True):
        if verdict.camera_id == camera:
            assert verdict.sequence > by_partition[record.partition], "a camera's order holds"
            by_partition[record.partition] = verdict.sequence


def test_object_store_away(servers: Servers, detector: DetectorProcess, output: Output) -> None:
    camera = "cam-store"
    store = S3ObjectStore(servers.connection)
    refs = [store.put(f"frames/store-{number}.png", GOOD if number else BAD) for number in range(30)]
    servers.store.kill()
    frames = [make_frame(number, ref, camera=camera) for number, ref in enumerate(refs)]
    publish(servers.kafka, frames)
    eventually("the detector says that the store is away", lambda: not detector.ready())
    eventually("partitions are paused", lambda: detector.metric("sightline_detector_paused") == 1)
    assert not output.read().verdicts(camera)

    servers.store.start()
    said = output.wait_for_frames(frames)

    assert len(said) == 30
    assert max(said.values()) == 1
    assert not output.dead_letters(camera), "an image that cannot be fetched now is not a bad image"
    assert detector.log_lines("object store is away")
    assert detector.log_lines("object store answers again")


def test_two_detectors_share_the_group_and_one_leaves(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    cameras = [f"cam-shared-{number}" for number in range(12)]
    other = DetectorProcess(servers, "other").start()
    frames = [make_frame(number, GOOD, camera=camera) for number in range(20) for camera in cameras]
    try:
        eventually(
            "both have partitions",
            lambda: bool(other.log_lines("partitions assigned")) and bool(detector.log_lines("partitions leave")),
        )
        publish(servers.kafka, frames[: len(frames) // 2])
        output.wait_for_frames(frames[:24])
        leaving_with = other.metric("sightline_detector_verdicts_total")
    finally:
        assert other.stop() == 0, other.log[-2000:]
    publish(servers.kafka, frames[len(frames) // 2 :])

    said = output.wait_for_frames(frames)

    assert leaving_with > 0, "both worked"
    assert len(said) == len(frames)
    assert max(said.values()) == 1, "who leaves in order leaves nothing to be done again"


def test_killed_between_output_and_commit_repeats_the_same_ids(
    servers: Servers, detector: DetectorProcess, output: Output
) -> None:
    detector_that_stays = detector
    camera = "cam-killed"
    group = {"KAFKA__GROUP": "mortals"}
    frames = [make_frame(number, BAD, camera=camera) for number in range(20)]
    publish(servers.kafka, frames)
    output.wait_for_frames(frames)
    first_ids = {case.case_id for case in output.cases(camera)}
    # A group of its own reads the topic from its beginning: the same frames, the same ids.
    mortal = DetectorProcess(servers, "mortal", module="tests.support.detector_that_dies", **group).start(ready=False)
    eventually("it died before its first commit", lambda: mortal.process.returncode == -9, 30)
    # Its membership dies with its session; the next one takes over then.
    heir = DetectorProcess(servers, "heir", **group).start()

    def times_said() -> Counter[tuple[str, str, int]]:
        output.read()
        return Counter((item.frame_id, item.alias, item.model_version) for item in output.verdicts(camera))

    eventually("the heir has said everything again", lambda: min(times_said().values()) >= 2, 40)

    assert heir.stop() == 0
    assert len(times_said()) == 20, "a replay makes no new ids"
    assert {case.case_id for case in output.cases(camera)} == first_ids
    assert detector_that_stays.ready()


def _frames_of(servers: Servers, camera: str) -> list:  # type: ignore[type-arg]
    from services.adapters.kafka import KafkaTopicReader

    reader = KafkaTopicReader(servers.kafka, [topics.FRAMES])
    try:
        found = []
        while records := reader.poll(max_records=1_000, timeout_s=1.0):
            found.extend(record for record in records if record.key == camera.encode())
        return found
    finally:
        reader.close()


def test_broker_killed_and_restarted(tmp_path: Path) -> None:
    servers = Servers(tmp_path, durable_broker=True)
    camera = "cam-broker"
    try:
        servers.start()
        detector = DetectorProcess(servers).start()
        output = Output(servers.kafka)
        first = [make_frame(number, BAD, camera=camera) for number in range(300)]
        publish(servers.kafka, first)
        output.wait_for_frames(first[:5])
        servers.broker.kill()
        eventually("the detector says that the broker is away", lambda: not detector.ready(), 30)
        assert detector.process.alive
        servers.broker.start()
        second = [make_frame(number, GOOD, camera=camera) for number in range(300, 330)]
        publish(servers.kafka, second)

        said = output.wait_for_frames([*first, *second], timeout_s=60)

        assert len(said) == 330, "after de-duplication by id nothing is lost and nothing doubled"
        assert len({case.case_id for case in output.cases(camera)}) == 300
        assert not output.dead_letters(camera)
        eventually("ready again", detector.ready, 30)
        assert detector.log_lines("not ready: kafka")
        assert detector.log_lines("condition holds again: kafka")
        output.close()
        assert detector.stop() == 0, detector.log[-3000:]
    finally:
        servers.stop()
