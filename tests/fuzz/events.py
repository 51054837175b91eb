"""What lies in the topics: an event or a refusal, and what was an event is the same one when it is written again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from sightline.v1 import events_pb2

from tests.fuzz.harness import cut, instrumented, refused, run
from tests.fuzz.message_mutation import mutator

with instrumented(__name__):
    from services.adapters import codec, codec_explained, codec_outcome, codec_review

NAME = "events"

#: Reader and writer of each topic's events. New ones go to the end: the first byte of an input chooses by place.
EVENTS: Final[tuple[tuple[Callable[[bytes], Any], Callable[[Any], bytes]], ...]] = (
    (codec.decode_frame, codec.encode_frame),
    (codec.decode_inspection, codec.encode_inspection),
    (codec.decode_case, codec.encode_case),
    (codec.decode_frame_embedding, codec.encode_frame_embedding),
    (codec.decode_shadow_inspection, codec.encode_shadow_inspection),
    (codec.decode_alias_state, codec.encode_alias_state),
    (codec_explained.decode_explained_case, codec_explained.encode_explained_case),
    (codec_outcome.decode_arrival, codec_outcome.encode_arrival),
    (codec_outcome.decode_outcome, codec_outcome.encode_outcome),
    (codec_outcome.decode_line_event, codec_outcome.encode_line_event),
    (codec_review.decode_review, codec_review.encode_review),
)

#: Of the same events, in the same order.
MESSAGES: Final = (
    events_pb2.Frame,
    events_pb2.Inspection,
    events_pb2.Case,
    events_pb2.FrameEmbedding,
    events_pb2.ShadowInspection,
    events_pb2.AliasState,
    events_pb2.ExplainedCase,
    events_pb2.Arrival,
    events_pb2.Outcome,
    events_pb2.LineEvent,
    events_pb2.Review,
)


def check(data: bytes) -> None:
    which, body = cut(data, len(EVENTS))
    decode, encode = EVENTS[which]
    event = refused(lambda: decode(body))
    if event is not None:
        # Whatever was let in can be passed on; bytes are compared, as a NaN equals nothing.
        written = encode(event)
        assert encode(decode(written)) == written


def seeds() -> dict[str, bytes]:
    from services.core.outcome import Arrival
    from services.core.types import Verdict
    from tests.support import cases, explained, told
    from tests.unit.adapters import test_codec

    frame = test_codec.a_frame()
    queued = cases.queued_case(1, Verdict.FAIL)
    made: list[tuple[int, Any]] = [
        (0, frame),
        (0, test_codec.a_frame(image=None, image_ref=cases.image_ref("frame"))),
        (1, test_codec.an_inspection()),
        (2, test_codec.a_case()),
        (4, test_codec.a_shadow_inspection()),
        (6, explained.explained_case(test_codec.an_inspection(), [explained.explanation()])),
        (7, Arrival("part-1", "line-1", "disc", 1_700_000_000_000_000_000, 200, camera_id="cam-1")),
        (8, told.an_outcome()),
        (9, told.an_event()),
        (10, cases.wrong(queued)),
        (10, cases.undo(queued, cases.review(queued))),
    ]
    return {str(index): bytes([which]) + EVENTS[which][1](event) for index, (which, event) in enumerate(made)}


if __name__ == "__main__":
    sys.exit(run(NAME, check, mutator(MESSAGES)))
