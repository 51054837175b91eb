"""Which version a line that lost its topics begins with."""

from __future__ import annotations

from services.core.training_run import RunOutcome, RunStage
from services.local.model import latest_proven
from tests.support.training_runs import training_run


def test_a_candidate_that_was_refused_or_taken_back_does_not_come_to_decide_by_a_restart() -> None:
    refused = training_run(1, candidate_version=2, outcome=RunOutcome.REFUSED)
    taken_back = training_run(2, candidate_version=3, outcome=RunOutcome.ROLLED_BACK)
    undecided = training_run(3, candidate_version=4, ended=False, stage=RunStage.DECISION)
    assert latest_proven([1, 2, 3, 4], [undecided, taken_back, refused]) == 1


def test_a_version_that_went_live_decides_again() -> None:
    promoted = training_run(1, candidate_version=2, outcome=RunOutcome.PROMOTED)
    watched = training_run(2, candidate_version=3, ended=False, stage=RunStage.WATCH)
    assert latest_proven([1, 2], [promoted]) == 2
    assert latest_proven([1, 2, 3], [watched, promoted]) == 3


def test_what_people_stored_themselves_is_taken_as_before() -> None:
    assert latest_proven([1, 2], []) == 2
    assert latest_proven([], []) == 0
