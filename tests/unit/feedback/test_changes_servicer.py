"""``ChangesService`` at a real port, asked by the client that the dashboard uses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sightline.v1 import changes_service_pb2_grpc

from services.adapters.changesclient import ChangesClient
from services.core.errors import InvalidInputError, NotFoundError, UnavailableError
from services.core.model_change import ChangeState, PartOutcome
from services.core.types import Verdict
from services.feedback.changes_servicer import ChangesServicer
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.feedback_line import FeedbackLine
from tests.support.model_changes import Comparing, ToldDetector
from tests.unit.feedback.test_changes import correct


@dataclass
class Served:
    """The service, what compares behind it, and a client."""

    line: FeedbackLine
    comparing: Comparing
    detector: ToldDetector
    client: ChangesClient


@pytest.fixture
def served() -> Iterator[Served]:
    line, detector = FeedbackLine(), ToldDetector()
    comparing = Comparing(line, detector)
    comparing.models.promote(1)
    server = GrpcServer(GrpcSettings(port=0), Health())
    servicer = ChangesServicer(comparing.book, line.index)
    server.add(changes_service_pb2_grpc.add_ChangesServiceServicer_to_server, servicer, "Changes")
    server.start()
    client = ChangesClient(f"127.0.0.1:{server.port}")
    yield Served(line, comparing, detector, client)
    client.close()
    server.stop(1.0)
    line.stop()


def test_nothing_is_listed_before_a_model_changes(served: Served) -> None:
    page = served.client.list_changes()
    assert (page.changes, page.next_token, page.compares) == ((), "", True)


def test_a_change_comes_with_its_counts_and_its_parts(served: Served) -> None:
    correct(served.line, 0)
    correct(served.line, 1, "bob")
    served.detector.says = {"part-1": Verdict.FAIL}
    served.comparing.models.promote(2, note="from May")
    served.comparing.run()
    [summary] = served.client.list_changes().changes
    assert (summary.change.live_version, summary.change.note, summary.change.state) == (2, "from May", ChangeState.DONE)
    assert (summary.counts.parts, summary.counts.now_right, summary.counts.still_wrong) == (2, 1, 1)
    assert (summary.planned, summary.settled, summary.waits_for) == (4, 4, "")
    assert summary.flips.flipped is not None
    assert (summary.flips.kinds[0].before, summary.flips.kinds[0].flipped) == (Verdict.FAIL, 1)
    again, parts = served.client.get_change("default", summary.change.revision)
    assert again == summary
    assert parts == served.comparing.changes.get("default", summary.change.revision).parts


def test_a_person_sees_what_they_corrected_themselves(served: Served) -> None:
    correct(served.line, 0)
    correct(served.line, 1, "bob")
    served.comparing.models.promote(2)
    served.comparing.run()
    [summary] = served.client.list_changes(reviewer="bob").changes
    assert summary.counts.parts == 1
    _, [part] = served.client.get_change("default", 4, "bob")
    assert [one.reviewer for one in part.corrections] == ["bob"]


def test_what_was_taken_back_since_says_so_and_stays_compared(served: Served) -> None:
    case, said = correct(served.line, 0)
    served.comparing.models.promote(2)
    served.comparing.run()
    served.line.reviewing.undo("01234567-89ab-4def-8123-456789abcdef", said.review_id, "ada")
    _, [part] = served.client.get_change("default", 4)
    assert part.case_id == case.case_id
    assert part.corrections[0].withdrawn
    assert part.outcome is PartOutcome.NOW_RIGHT


def test_what_is_being_compared_is_answered_as_far_as_it_is(served: Served) -> None:
    correct(served.line, 0)
    correct(served.line, 1)
    served.comparing.models.promote(2)
    served.comparing.run(steps=1)
    served.detector.away = UnavailableError("no Triton answers")
    served.comparing.run(steps=2)
    [summary] = served.client.list_changes().changes
    assert summary.change.state is ChangeState.COMPARING
    assert (summary.settled, summary.planned, summary.waits_for) == (2, 4, "detector")
    assert (summary.counts.now_right, summary.counts.waiting) == (1, 1)


def test_pages_are_the_newest_first_over_all_aliases(served: Served) -> None:
    served.comparing.models.promote(1, alias="weld")
    for alias, version in (("default", 2), ("weld", 2), ("default", 3)):
        served.comparing.models.promote(version, alias=alias)
        served.comparing.run()
    seen, token = [], ""
    while True:
        page = served.client.list_changes(limit=1, token=token)
        seen += [(one.change.alias, one.change.live_version) for one in page.changes]
        token = page.next_token
        if not token:
            break
    assert seen == [("default", 3), ("weld", 2), ("default", 2)]
    [only] = served.client.list_changes(alias="weld").changes
    assert only.change.alias == "weld"


def test_a_damaged_change_is_left_out_of_the_list(served: Served) -> None:
    served.comparing.models.promote(2)
    served.comparing.run()
    served.line.store.put("record/changes/default/9.json", b"not JSON")
    assert [one.change.revision for one in served.client.list_changes().changes] == [4]


def test_what_breaks_a_rule_is_refused(served: Served) -> None:
    with pytest.raises(InvalidInputError, match="page_size must be 1 to 50"):
        served.client.list_changes(limit=51)
    with pytest.raises(InvalidInputError, match="page_token must be one of an earlier answer"):
        served.client.list_changes(token="default")
    with pytest.raises(InvalidInputError, match="alias must be"):
        served.client.get_change("Not An Alias", 1)
    with pytest.raises(InvalidInputError, match="reviewer must be a name"):
        served.client.list_changes(reviewer=" ada")
    with pytest.raises(InvalidInputError, match="revision must be >= 1"):
        served.client.get_change("default", 0)
    with pytest.raises(NotFoundError, match="a change must be on record, got default revision 7"):
        served.client.get_change("default", 7)


def test_the_record_away_is_unavailable(served: Served) -> None:
    served.line.store.unavailable = True
    with pytest.raises(UnavailableError):
        served.client.list_changes()
