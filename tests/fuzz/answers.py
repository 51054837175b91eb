"""What services answer each other over gRPC, and the filters that they are asked with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message
from sightline.v1 import changes_service_pb2, feedback_service_pb2, outcome_service_pb2, trainer_service_pb2

from tests.fuzz.harness import cut, instrumented, refused, run
from tests.fuzz.message_mutation import mutator

with instrumented(__name__):
    from services.adapters import codec_changes, codec_line, codec_neighbours, codec_review, codec_training
    from services.feedback.servicer import read_case_filter

NAME = "answers"

#: Message and reader; with a writer where there is one. New ones go to the end.
ANSWERS: Final[tuple[tuple[type[Message], Callable[[Any], Any], Callable[[Any], Message] | None], ...]] = (
    (changes_service_pb2.ModelChange, codec_changes.change_from_message, codec_changes.change_to_message),
    (changes_service_pb2.ComparedPart, codec_changes.part_from_message, codec_changes.part_to_message),
    (changes_service_pb2.ChangeSummary, codec_changes.summary_from_message, codec_changes.summary_to_message),
    (outcome_service_pb2.LineState, codec_line.line_state_from_message, codec_line.line_state_to_message),
    (feedback_service_pb2.NeighboursResponse, codec_neighbours.neighbours_from_message, None),
    (feedback_service_pb2.QueuedCase, codec_review.queued_case_from_message, codec_review.queued_case_to_message),
    (trainer_service_pb2.TrainingRun, codec_training.run_from_message, codec_training.run_to_message),
    (trainer_service_pb2.CandidateReport, codec_training.report_from_message, codec_training.report_to_message),
    (feedback_service_pb2.CaseFilter, read_case_filter, None),
)


def check(data: bytes) -> None:
    which, body = cut(data, len(ANSWERS))
    kind, read, write = ANSWERS[which]
    try:
        message = kind.FromString(body)
    except DecodeError:
        # gRPC itself ends such a call.
        return
    value = refused(lambda: read(message))
    if value is not None and write is not None:
        written = write(value)
        again = write(read(kind.FromString(written.SerializeToString())))
        assert again.SerializeToString(deterministic=True) == written.SerializeToString(deterministic=True)


def seeds() -> dict[str, bytes]:
    from services.core.types import Verdict
    from tests.support import cases, training_runs
    from tests.unit.adapters import test_codec_line, test_codec_neighbours

    made: list[tuple[int, Message]] = [
        (3, codec_line.line_state_to_message(test_codec_line.LINE)),
        (4, codec_neighbours.neighbours_to_message(test_codec_neighbours.FOUND)),
        (5, codec_review.queued_case_to_message(cases.queued_case(1, Verdict.REVIEW))),
        (6, codec_training.run_to_message(training_runs.training_run())),
        (7, codec_training.report_to_message(training_runs.report())),
        (8, feedback_service_pb2.CaseFilter(line_id="line-1", verdict=2, defect_class="dent", since_ns=1)),
    ]
    return {str(index): bytes([which]) + message.SerializeToString() for index, (which, message) in enumerate(made)}


if __name__ == "__main__":
    sys.exit(run(NAME, check, mutator([kind for kind, _, _ in ANSWERS])))
