"""The outcome service as a process: a PLC at Modbus, cameras behind Kafka, receivers, and its bad days."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.connection import KafkaConnection
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.outcomeclient import OutcomeClient
from services.core.errors import UnavailableError
from services.core.line_event import Light, LineEventKind
from services.core.outcome import OutcomeReason
from services.core.types import Verdict
from services.local.broker import LocalBroker
from services.local.process import LOOPBACK, free_port
from services.local.store import LocalStore
from tests.support.detector_line import wait_until
from tests.support.outcome_line import CAMERAS, LINE, arrival, inspection
from tests.support.outcome_process import OutcomeProcess, Pictures, Said, SimulatedPlc, line_with
from tests.support.outcome_that_dies import PLACES
from tests.support.webhook_receiver import SECRET, WebhookReceiver

pytestmark = [pytest.mark.integration]

Kind = LineEventKind
BAD = "bad"


def connection_to(broker: LocalBroker) -> KafkaConnection:
    return KafkaConnection(broker.bootstrap_servers, request_timeout_ms=5_000, fetch_wait_ms=LocalBroker.FETCH_WAIT_MS)


def make_topics(broker: LocalBroker) -> None:
    def made() -> bool:
        try:
            ensure_topics(connection_to(broker), standard_topics())
        except UnavailableError:
            # A broker that has only just begun may break off.
            return False
        return True

    wait_until(made, "topics", 30)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    with LocalBroker(log_path=tmp_path_factory.mktemp("broker") / "broker.log") as broker:
        make_topics(broker)
        yield broker


@pytest.fixture(scope="module")
def kafka(broker: LocalBroker) -> KafkaConnection:
    return connection_to(broker)


@pytest.fixture
def pictures(kafka: KafkaConnection) -> Iterator[Pictures]:
    pictures = Pictures(kafka)
    pictures.verdict_of = lambda part, camera: Verdict.FAIL if BAD in part and camera == "left" else Verdict.PASS
    yield pictures
    pictures.close()


@pytest.fixture
def said(kafka: KafkaConnection) -> Iterator[Said]:
    said = Said(kafka)
    yield said
    said.close()


def test_parts_are_answered_on_the_line_on_record_and_to_receivers_and_without_verdicts_in_time_for_a_person(
    broker: LocalBroker, pictures: Pictures, said: Said, tmp_path: Path
) -> None:
    receiver = WebhookReceiver()
    port = free_port()
    line = line_with(
        port,
        {"name": "mes", "kind": "webhook", "url": receiver.url, "secret": SECRET},
        {"name": "day", "kind": "file", "folder": str(tmp_path / "day")},
    )
    settings = {"lines": [line], "ingest": {"address": pictures.address}}
    process = OutcomeProcess(broker, tmp_path, settings).start()
    plc = SimulatedPlc(port)
    client = OutcomeClient(f"{LOOPBACK}:{process.grpc_port}")
    # Receivers are served from the moment on at which their group begins.
    wait_until(lambda: process.log.count("partitions assigned") >= 3, "receivers are served", 30)
    good, bad, unseen = "normal-good", f"normal-{BAD}", "normal-unseen"
    try:
        plc.run([good, bad])
        pictures.blind = True
        plc.run([unseen])
        assert plc.told[good][0].verdict is Verdict.PASS
        assert plc.told[bad][0].verdict is Verdict.FAIL
        assert plc.told[unseen][0].verdict is Verdict.REVIEW
        assert plc.told[unseen][0].after_s <= 2.0, "within the deadline"

        parts = [good, bad, unseen]
        said.wait_for(parts)
        by_part = {one.part_id: one for one in said.outcomes if one.part_id in parts}
        assert by_part[bad].defect_class == "dent"
        assert [view.camera_id for view in by_part[good].views] == ["left", "right"]
        missed = by_part[unseen]
        assert (missed.verdict, missed.reason) == (Verdict.REVIEW, OutcomeReason.DEADLINE_MISSED)
        assert (missed.in_time, missed.missing_cameras) == (True, CAMERAS)

        def answered() -> dict[str, Verdict | None]:
            events = said.read().of(Kind.ANSWERED, parts)
            return {part: verdict for part, one in events.items() for _, verdict in one}

        wait_until(lambda: len(answered()) == 3, "answers are on record", 30)
        assert answered() == {good: Verdict.PASS, bad: Verdict.FAIL, unseen: Verdict.REVIEW}

        wanted = {one.outcome_id for one in by_part.values()}
        wait_until(lambda: wanted <= {one.message_id for one in receiver.posted}, "the web hook is told", 30)

        def in_file() -> set[str]:
            lines = [line for path in (tmp_path / "day").glob("*.jsonl") for line in path.read_text().splitlines()]
            return {part for part in parts if any(part in json.loads(line).get("part_id", "") for line in lines)}

        wait_until(lambda: in_file() == set(parts), "the file is written", 30)
        (state,) = client.lines()
        assert state.line_id == LINE
        assert state.light is Light.GREEN
        assert [(one.name, one.up) for one in state.connections] == [("plc", True), ("mes", True), ("day", True)]
        assert process.stop() == 0, process.log[-3_000:]
    finally:
        plc.close()
        client.close()
        process.kill()
        receiver.close()


def test_killed_again_and_again_between_decision_and_output_each_part_is_answered_once(
    broker: LocalBroker, pictures: Pictures, said: Said, tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "lines": [line_with(port, cycle_time_ms=1_500)],
        "ingest": {"address": pictures.address},
    }
    process = OutcomeProcess(broker, tmp_path, settings, module="tests.support.outcome_that_dies")
    plc = SimulatedPlc(port)
    parts: list[str] = []
    enough = threading.Event()
    failures: list[BaseException] = []

    def part_after_part() -> Iterator[str]:
        while len(parts) < 100 or not enough.is_set():
            parts.append(f"killed-{len(parts):03d}-{BAD if len(parts) % 3 == 0 else 'good'}")
            yield parts[-1]

    def run_plc() -> None:
        try:
            plc.run(part_after_part())
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    running = threading.Thread(target=run_plc, daemon=True)
    try:
        process.start()
        running.start()
        process.kill()
        for number, place in enumerate((*PLACES, PLACES[3], PLACES[5])):
            process.start(ready=False, OUTCOME_DIES_AT=place, OUTCOME_DIES_AFTER=str(2 + number % 3))
            wait_until(lambda: not process.process.alive or bool(failures), f"it dies {place}", 60)
            assert not failures, failures
            assert process.process.returncode == -9, process.log[-3_000:]
        process.start()
        enough.set()
        running.join(120)
        assert not failures, failures
        said.wait_for(parts)
        wait_until(lambda: len(said.read().of(Kind.ACKNOWLEDGED, parts)) == len(parts), "all is on record", 30)

        first = said.first(parts)
        ids = {part: {outcome_id for outcome_id, _ in first[part]} for part in parts}
        assert [part for part in parts if len(ids[part]) != 1] == []
        twice = [one for one in said.outcomes if len(first[one.part_id]) > 1]
        assert twice == [], "one verdict each"
        told = {part: [one.verdict for one in plc.told[part]] for part in parts}
        answered = said.of(Kind.ANSWERED, parts)
        assert {part: [verdict for _, verdict in answered[part]] for part in parts} == told, "once, and as on record"
        assert all(len(one) == 1 for one in said.of(Kind.TRIGGERED, parts).values())
        others = {event.part_id for event in said.events if event.kind is Kind.TRIGGERED and "killed-" in event.part_id}
        assert others == set(parts), "no part that the PLC did not trigger"
        wrong = [part for part in parts if BAD in part and told[part] == [Verdict.PASS]]
        assert wrong == [], "never a silent pass"
        assert process.stop() == 0, process.log[-3_000:]
    finally:
        plc.close()
        process.kill()


def test_two_replicas_share_the_partitions_and_answer_each_part_once(
    broker: LocalBroker, pictures: Pictures, said: Said, tmp_path: Path
) -> None:
    def publish(*part_ids: str) -> None:
        at_ns = time.time_ns()
        for part in part_ids:
            for camera in CAMERAS:
                pictures.write(arrival(part, camera, at_ns=at_ns, cycle_time_ms=60_000))
        for part in part_ids:
            for camera in CAMERAS:
                pictures.write(inspection(part, camera, at_ns=at_ns, cycle_time_ms=60_000))

    parts = [f"shared-{number}" for number in range(120)]
    one, other = (OutcomeProcess(broker, tmp_path, {}, name=name) for name in ("one", "other"))
    try:
        one.start()
        publish(*parts[:30])
        said.wait_for(parts[:30])
        other.start(ready=False)
        publish(*parts[30:60])
        wait_until(lambda: "partitions assigned" in other.log, "both have partitions", 60)
        publish(*parts[60:90])
        said.wait_for(parts[:90], 60)
        assert one.stop() == 0, one.log[-3_000:]
        publish(*parts[90:])
        said.wait_for(parts, 60)
        assert other.stop() == 0, other.log[-3_000:]
    finally:
        one.kill()
        other.kill()
    assert {part: [verdict for _, verdict in answers] for part, answers in said.read().first(parts).items()} == {
        part: [Verdict.PASS] for part in parts
    }
    assert {one.revision for one in said.outcomes if one.part_id in parts} == {1}


def test_without_a_broker_the_line_is_told_review_in_time_and_what_it_was_told_is_written_afterwards(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path / "store")
    broker = LocalBroker(store, log_path=tmp_path / "broker.log")
    port = free_port()
    plc = SimulatedPlc(port)
    before, without = ([f"{name}-{number}" for number in range(3)] for name in ("before", "without"))
    after: list[str] = []

    def answered_by_outcomes_again() -> bool:
        after.append(f"after-{len(after)}")
        plc.run(after[-1:])
        return plc.told[after[-1]][0].verdict is Verdict.PASS

    process = None
    with store, broker:
        kafka = connection_to(broker)
        make_topics(broker)
        pictures = Pictures(kafka)
        settings = {"lines": [line_with(port, cycle_time_ms=1_500)], "ingest": {"address": pictures.address}}
        process = OutcomeProcess(broker, tmp_path, settings).start()
        try:
            plc.run(before)
            broker.kill()
            pictures.blind = True
            plc.run(without)
            assert process.process.alive
            assert [plc.told[part][0].verdict for part in without] == [Verdict.REVIEW] * 3
            assert max(plc.told[part][0].after_s for part in without) <= 1.5, "within the deadline"
            broker.start()
            pictures.blind = False
            wait_until(answered_by_outcomes_again, "a part that its pictures decide", 60)
            wait_until(process.ready, "ready again", 60)
            said = Said(kafka)
            parts = before + without + after
            said.wait_for(parts, 60)
            wait_until(lambda: len(said.read().of(Kind.ACKNOWLEDGED, parts)) == len(parts), "all events are there", 60)
            told = {part: [plc.told[part][0].verdict] for part in parts}
            answered = said.of(Kind.ANSWERED, parts)
            assert {part: [verdict for _, verdict in answered[part]] for part in parts} == told
            assert {part: len(one) for part, one in said.first(parts).items()} == dict.fromkeys(parts, 1)
            assert {verdict for part in without for _, verdict in said.first(parts)[part]} == {Verdict.REVIEW}
            said.close()
            assert process.stop() == 0, process.log[-3_000:]
        finally:
            process.kill()
            plc.close()
            pictures.close()
