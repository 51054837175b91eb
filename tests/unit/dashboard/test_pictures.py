from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from services.adapters.codec import encode_frame
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordFetcher
from services.core import imaging, topics
from services.core.errors import ImageError, NotFoundError, UnavailableError
from services.core.imaging import ImageLimits
from services.core.types import Frame, ImageRef, Inspection, RecordPosition
from services.dashboard.pictures import ByteCache, Picture, Pictures
from services.dashboard.settings import PictureSettings
from tests.unit.dashboard.inspections import inspection

RGB = np.full((200, 300, 3), 90, np.uint8)
RGB[..., 0] = np.linspace(0, 255, 300)
RGB[..., 1] = np.linspace(255, 0, 300)
JPEG = imaging.encode_jpeg(RGB)


class Fixture:
    def __init__(self, **settings: object) -> None:
        self.store = MemoryObjectStore()
        self.broker = MemoryBroker()
        chosen = PictureSettings(**settings)  # type: ignore[arg-type]
        self.pictures = Pictures(self.store, MemoryRecordFetcher(self.broker), ImageLimits(), chosen)

    def stored(self, data: bytes) -> Inspection:
        return inspection(image_ref=self.store.put("frames/a", data))

    def inline(self, data: bytes) -> Inspection:
        one = inspection()
        frame = Frame(
            one.frame_id, one.part_id, one.line_id, one.camera_id, one.product, 1, one.captured_at_ns, image=data
        )
        return replace(one, position=self.broker.append(topics.FRAMES, key=b"c", value=encode_frame(frame)))


def test_a_jpeg_and_a_png_go_out_untouched() -> None:
    line = Fixture()
    png = imaging.encode_png(RGB)
    assert line.pictures.full(line.stored(JPEG)) == Picture(JPEG, "image/jpeg")
    assert line.pictures.full(line.stored(png)) == Picture(png, "image/png")


def test_a_16_bit_tiff_becomes_what_a_browser_shows() -> None:
    done, tiff = cv2.imencode(".tiff", RGB[..., ::-1].astype(np.uint16) * 257)
    assert done
    line = Fixture()
    shown = line.pictures.full(line.stored(bytes(tiff)))
    assert shown.content_type == "image/jpeg"
    back = imaging.decode(shown.data, ImageLimits())
    assert back.shape == RGB.shape
    assert np.abs(back.astype(int) - RGB).mean() < 3


def test_a_huge_picture_is_shrunk() -> None:
    line = Fixture(max_side_px=256)
    shown = line.pictures.full(line.stored(JPEG))
    assert max(imaging.decode(shown.data, ImageLimits()).shape) == 256


def test_an_inline_picture_is_read_from_the_frames_own_record() -> None:
    line = Fixture()
    assert line.pictures.full(line.inline(JPEG)).data == JPEG


def test_a_thumbnail_fits_its_square_and_is_made_once() -> None:
    line = Fixture()
    one = line.stored(JPEG)
    small = line.pictures.thumbnail(one, 160)
    assert imaging.decode(small.data, ImageLimits()).shape == (107, 160, 3)
    line.store.unavailable = True
    assert line.pictures.thumbnail(one, 160) is small


def test_a_thumbnail_of_any_other_size_is_refused() -> None:
    line = Fixture()
    with pytest.raises(ValueError, match="side_px must be one of"):
        line.pictures.thumbnail(line.stored(JPEG), 161)


def test_an_expired_object_or_record_is_not_found() -> None:
    line = Fixture()
    one = line.stored(JPEG)
    line.store.delete(["frames/a"])
    with pytest.raises(NotFoundError):
        line.pictures.full(one)
    with pytest.raises(NotFoundError):
        line.pictures.full(inspection(position=RecordPosition(topics.FRAMES, 0, 99)))
    with pytest.raises(NotFoundError, match="must say where"):
        line.pictures.full(inspection())


def test_a_place_that_holds_another_frame_is_not_found() -> None:
    line = Fixture()
    other = line.inline(JPEG)
    with pytest.raises(NotFoundError, match="must be frame"):
        line.pictures.full(inspection(7, position=other.position))


def test_a_verdict_cannot_point_into_another_bucket_or_topic() -> None:
    line = Fixture()
    foreign = ImageRef("secrets", "frames/a", 1, "0" * 64)
    with pytest.raises(NotFoundError, match="bucket"):
        line.pictures.full(inspection(image_ref=foreign))
    with pytest.raises(NotFoundError, match="inline pictures must lie in"):
        line.pictures.full(inspection(position=RecordPosition("sightline.models.v1", 0, 0)))


def test_bytes_that_are_no_picture_never_reach_a_browser() -> None:
    line = Fixture()
    for data in (b"<script>alert(1)</script>", JPEG[:1000].replace(b"\xff\xc0", b"\xff\xfe"), b""):
        with pytest.raises(ImageError):
            line.pictures.full(line.stored(data))


def test_an_outage_is_not_remembered() -> None:
    line = Fixture()
    one = line.stored(JPEG)
    line.store.unavailable = True
    with pytest.raises(UnavailableError):
        line.pictures.thumbnail(one, 320)
    line.store.unavailable = False
    assert line.pictures.thumbnail(one, 320).content_type == "image/jpeg"


def test_many_askers_cause_one_fetch() -> None:
    line = Fixture()
    one = line.stored(JPEG)
    gate, fetches = threading.Event(), []
    get = line.store.get

    def slow_get(key: str, *, max_bytes: int | None = None) -> bytes:
        fetches.append(key)
        gate.wait(5)
        return get(key, max_bytes=max_bytes)

    line.store.get = slow_get  # type: ignore[method-assign]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(line.pictures.thumbnail, one, 320) for _ in range(8)]
        gate.set()
        results = {id(future.result(5)) for future in asked}
    assert (len(fetches), len(results)) == (1, 1)


def test_the_cache_keeps_within_its_bytes_and_lets_the_least_used_go() -> None:
    cache = ByteCache(max_bytes=25)
    for name in ("a", "b"):
        cache.put((name, 160), Picture(b"x" * 10, "image/jpeg"))
    assert cache.get(("a", 160)) is not None
    cache.put(("c", 160), Picture(b"x" * 10, "image/jpeg"))
    assert (cache.get(("b", 160)), cache.size_bytes) == (None, 20)
    cache.put(("huge", 160), Picture(b"x" * 26, "image/jpeg"))
    assert cache.size_bytes == 20
    cache.put(("a", 160), Picture(b"x" * 4, "image/jpeg"))
    assert cache.size_bytes == 14
