"""What a new model changed, end to end: a feedback process on a real broker and store, and a detector that is asked."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.changesclient import ChangesClient
from services.adapters.kafka import KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.core import alias as transitions
from services.core import topics
from services.core.model_change import ChangeState, PartOutcome
from services.core.review import Answer
from services.core.types import Verdict
from tests.integration.test_feedback import Plant, answer, picture, wait_for
from tests.support.cases import HOUR_NS
from tests.support.explainer_line import NOW_NS
from tests.support.model_changes import DetectorStub, ToldDetector

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def told() -> ToldDetector:
    return ToldDetector(version=1)


@pytest.fixture
def plant(tmp_path: Path, told: ToldDetector) -> Iterator[Plant]:
    detector = DetectorStub(told)
    plant = Plant(tmp_path, DETECTOR__ADDRESS=f"127.0.0.1:{detector.port}", COMPARE__PER_S="50")
    plant.start()
    yield plant
    plant.stop()
    detector.stop()


def test_a_new_model_is_held_against_what_people_corrected_through_a_restart(plant: Plant, told: ToldDetector) -> None:
    cases = [plant.queued(plant.explain(number)) for number in range(2)]
    wrong = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED, "corrected_verdict": Verdict.PASS}
    for case in cases:
        plant.client.submit(answer(case, **wrong), b"")
    told.says = {"part-1": Verdict.FAIL}
    registry = ModelRegistry(KafkaTopicReader(plant.servers.kafka, [topics.MODELS]), plant.writer)
    for version in (1, 2):
        for change in (transitions.add, transitions.promote):
            step = functools.partial(change, version=version, actor="mira", at_ns=NOW_NS + HOUR_NS)
            registry.change("default", step)
    registry.close()
    client = ChangesClient(f"127.0.0.1:{plant.grpc_port}")
    # The detector answers with the old version still.
    wait_for("the wait", lambda: [one for one in client.list_changes().changes if one.waits_for == "version"])
    plant.service.process.kill()
    told.version = 2
    plant.service.start()
    wait_for("its return", plant.service.ready)
    wait_for(
        "the comparison",
        lambda: [one for one in client.list_changes().changes if one.change.state is ChangeState.DONE],
    )
    summary, parts = client.get_change("default", 4)
    outcomes = {part.case_id: part.outcome for part in parts}
    assert outcomes == {cases[0].case_id: PartOutcome.NOW_RIGHT, cases[1].case_id: PartOutcome.STILL_WRONG}
    assert (summary.change.actor, summary.change.previous_version, summary.counts.parts) == ("mira", 1, 2)
    assert summary.flips.flipped is not None
    assert summary.flips.flipped.value == 1
    assert told.images[-1] in (picture(0), picture(1))
    assert plant.store.exists("record/changes/default/4.json")
    client.close()
