"""Wires the outcome service and runs it: ``python -m services.outcome``."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from sightline.v1 import outcome_service_pb2, outcome_service_pb2_grpc

from services.adapters.brokerprobe import tcp_probe
from services.adapters.codec_outcome import decode_outcome
from services.adapters.connection import KafkaConnection
from services.adapters.ingestclient import IngestClient
from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import describe_topics
from services.adapters.modbus import ModbusImage
from services.adapters.mqtt import MqttConnection, MqttSink
from services.adapters.outcomefile import OutcomeFileSink
from services.adapters.ports import OutcomeSink, ProcessImage
from services.adapters.spool import Spool
from services.adapters.webhook import WebhookConnection, WebhookSink
from services.core import topics
from services.core.errors import EventDecodeError, SettingsError, SightlineError, UnavailableError
from services.core.identity import line_event_id
from services.core.line_event import LineEvent, LineEventKind
from services.core.outcome import Outcome
from services.outcome.assembly import LineBuilder, only_one
from services.outcome.delivery import Delivery
from services.outcome.feed import OutcomeFeed
from services.outcome.gateway import LineGateway
from services.outcome.pipeline import OutcomePipeline
from services.outcome.postbox import Postbox
from services.outcome.servicer import OutcomeServicer
from services.outcome.settings import (
    FileSettings,
    LineSettings,
    ModbusSettings,
    MqttSettings,
    OpcUaSettings,
    OutcomeSettings,
    WebhookSettings,
)
from services.outcome.triggering import TriggerListener
from services.runtime import metrics
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for

LOG = get_logger("services.outcome")
NAME = "outcome"

_WRITER_BLOCK_S = 0.5
_PROBE_S = 2.0
_ANSWERS_S = 30.0
_CHECK_S = 0.2


def main() -> None:
    """Read the settings, start, run until SIGTERM, drain."""
    serve(NAME, OutcomeSettings, run)


def run(settings: OutcomeSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters, serve the lines, join.

    Args:
        settings: The service's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    waiting_for = functools.partial(wait_for, health=health, shutdown=shutdown, deadline_s=settings.startup_wait_s)
    stack.callback(os.close, only_one(settings.data))
    kafka = settings.kafka.connection()
    # An outcome waits for no other: what shares its request is what is there at that moment.
    writer = KafkaRecordWriter(kafka, max_block_s=_WRITER_BLOCK_S, linger_ms=0)
    stack.callback(_close_writer, writer)
    postbox = Postbox(
        Spool(
            settings.data / "events", max_bytes=settings.events_max_bytes, policy="drop-oldest", fsync=settings.fsync
        ),
        writer,
    )
    postbox.start()
    stack.callback(postbox.close, 2.0)
    lines, listeners, feed = _lines(settings, kafka, postbox, stack)
    # The lines are served before the broker is there: a PLC is told REVIEW rather than nothing.
    for line in lines:
        line.start()
        stack.callback(line.close)
    for listener in listeners:
        listener.start()
        stack.callback(listener.close)
    if lines:
        # A process that only joins has nobody to tell.
        feed.start(shutdown)
        stack.callback(feed.join, 5.0)
    # From here on: a line is served however long the broker is waited for.
    checks = [line.check for line in lines] + [listener.check for listener in listeners] + [feed.check, postbox.check]
    _watch(checks, shutdown)
    server = _serve(settings, lines, health)
    stack.callback(server.stop, min(2.0, settings.drain_s / 4))
    pipeline = OutcomePipeline(
        settings.plans,
        settings.joining.limits(),
        writer,
        functools.partial(_answers_since, kafka),
        health,
        max_skew_s=settings.joining.max_skew_s,
        on_skew=functools.partial(_tell_skew, postbox),
        stopping=lambda: shutdown.requested,
    )
    waiting_for("the topics", functools.partial(_check_topics, kafka))
    pipeline.start()
    stack.callback(pipeline.close)
    consumer = waiting_for(
        "the broker", lambda: KafkaRecordConsumer(kafka, settings.kafka.group or NAME, together=True)
    )
    loop = ConsumerLoop(
        consumer,
        pipeline,
        topics=[topics.ARRIVALS, topics.VERDICTS],
        health=health,
        shutdown=shutdown,
        times=LoopTimes(drain_s=settings.drain_s, probe_propagation_s=settings.probe_propagation_s),
        max_records=1_000,
        on_lag=metrics.OUTCOME_LAG.set,
    )
    for line in lines:
        checks += [_deliver(settings, kafka, line.line_id, delivery, shutdown, stack) for delivery in line.deliveries]
    set_aside_what_started()
    health.set_ready(True)
    try:
        loop.run()
    finally:
        # The feed and the deliveries end by it, whatever ended the loop.
        shutdown.request()


# ---- lines


def _lines(
    settings: OutcomeSettings, kafka: KafkaConnection, postbox: Postbox, stack: contextlib.ExitStack
) -> tuple[list[LineGateway], list[TriggerListener], OutcomeFeed]:
    cameras = None
    if settings.ingest.address:
        cameras = IngestClient(settings.ingest.address, settings.ingest.timeout_s)
        stack.callback(cameras.close)
    mqtt: list[tuple[LineSettings, MqttSettings, MqttSink]] = []

    def make_sink(options: MqttSettings | WebhookSettings | FileSettings, line: LineSettings) -> OutcomeSink:
        if isinstance(options, MqttSettings):
            sink = _mqtt(options, line)
            if options.triggers:
                mqtt.append((line, options, sink))
            return sink
        return _receiver(options, line)

    lines: list[LineGateway] = []
    feed = OutcomeFeed(
        lambda: KafkaTopicReader(kafka, [topics.OUTCOMES]),
        tcp_probe(kafka.bootstrap_servers, _PROBE_S),
        lambda outcomes: _hand_out(lines, outcomes),
        lookback_s=settings.joining.remember_s,
    )
    builder = LineBuilder(
        settings,
        tell=postbox.tell,
        announce=postbox.announce,
        cameras=cameras,
        broker_away=lambda: feed.away or postbox.away,
        blind=lambda: feed.away,
        make_image=_image,
        make_sink=make_sink,
    )
    lines.extend(builder.build(line) for line in settings.lines)
    by_id = {line.line_id: line for line in lines}
    listeners = [
        TriggerListener(line.line_id, options.name, sink, by_id[line.line_id].trigger, tell=postbox.tell)
        for line, options, sink in mqtt
    ]
    return lines, listeners, feed


def _hand_out(lines: list[LineGateway], outcomes: Sequence[Outcome]) -> None:
    for line in lines:
        line.take(outcomes)


def _image(options: ModbusSettings | OpcUaSettings, line: LineSettings) -> ProcessImage:
    if isinstance(options, ModbusSettings):
        return ModbusImage(options.host, options.port, options.unit_id)
    # Its package comes with an extra of its own, and takes a second to import.
    from services.adapters.opcua import OpcUaImage, OpcUaSecurity  # noqa: PLC0415

    security = None
    if options.certificate_file is not None and options.key_file is not None:
        security = OpcUaSecurity(
            options.certificate_file,
            options.key_file,
            options.username,
            options.password.get_secret_value(),
            tuple(options.trusted_files),
        )
    return OpcUaImage(options.host, options.port, line.line_id, security=security)


def _mqtt(options: MqttSettings, line: LineSettings) -> MqttSink:
    connection = MqttConnection(
        host=options.host,
        port=options.port,
        username=options.username,
        password=options.password.get_secret_value(),
        tls=options.tls,
        ca_file=options.ca_file,
        certificate_file=options.certificate_file,
        key_file=options.key_file,
        topic_prefix=options.topic_prefix,
        timeout_s=options.timeout_s,
        payload=options.payload,
    )
    return MqttSink(connection, line.line_id)


def _receiver(options: WebhookSettings | FileSettings, line: LineSettings) -> OutcomeSink:
    if isinstance(options, FileSettings):
        return OutcomeFileSink(options.folder, line.line_id, options.format)
    return WebhookSink(WebhookConnection(options.url, options.secret.get_secret_value(), timeout_s=options.timeout_s))


def _deliver(
    settings: OutcomeSettings,
    kafka: KafkaConnection,
    line_id: str,
    delivery: Delivery,
    shutdown: Shutdown,
    stack: contextlib.ExitStack,
) -> Callable[[], None]:
    """Serve one receiver on a thread of its own, as a consumer group that stands where the receiver stands.

    Returns:
        Raises what ended it, if anything did.
    """
    group = f"{settings.kafka.group or NAME}-{line_id}-{delivery.name}"
    # A receiver that is away or slow says nothing about the service.
    health = Health()

    def work() -> None:
        try:
            consumer = wait_for(
                f"the broker for {delivery.name}",
                lambda: KafkaRecordConsumer(kafka, group, latest=True),
                health=health,
                shutdown=shutdown,
                deadline_s=settings.startup_wait_s,
            )
            ConsumerLoop(
                consumer,
                delivery,
                topics=[topics.OUTCOMES, topics.LINE_EVENTS],
                health=health,
                shutdown=shutdown,
                times=LoopTimes(drain_s=min(5.0, settings.drain_s / 2)),
                max_records=100,
            ).run()
        except Exception as error:
            if not shutdown.requested:
                LOG.exception("a receiver is served no more: %s", delivery.name)
                failures.append(error)

    def check() -> None:
        if failures:
            raise failures[0]

    failures: list[Exception] = []
    delivery.start()
    thread = threading.Thread(target=work, name=f"receiver-{delivery.name}", daemon=True)
    thread.start()
    stack.callback(delivery.close)
    stack.callback(thread.join, settings.drain_s / 2)
    return check


def _watch(checks: Sequence[Callable[[], None]], shutdown: Shutdown) -> None:
    """End the service where one of its threads ended: whoever restarts it brings the line back, and says so."""

    def look() -> None:
        while not shutdown.wait(_CHECK_S):
            try:
                for check in tuple(checks):
                    check()
            except BaseException:
                LOG.exception("a line is served no more")
                # Not drained: a line that nobody answers must not wait for that.
                os._exit(1)

    threading.Thread(target=look, name="watch", daemon=True).start()


# ---- Kafka


def _check_topics(kafka: KafkaConnection) -> None:
    """What is joined by key must lie in as many partitions.

    Raises:
        UnavailableError: While a topic is missing.
        SettingsError: When they differ.
    """
    partitions = describe_topics(kafka)
    missing = [name for name in (topics.ARRIVALS, topics.VERDICTS, topics.OUTCOMES) if name not in partitions]
    if missing:
        raise UnavailableError(f"topics must exist, got none named {', '.join(missing)}")
    if partitions[topics.ARRIVALS] != partitions[topics.VERDICTS]:
        raise SettingsError(
            f"{topics.ARRIVALS} and {topics.VERDICTS} must have as many partitions, got "
            f"{partitions[topics.ARRIVALS]} and {partitions[topics.VERDICTS]}"
        )


def _answers_since(kafka: KafkaConnection, since_ms: int) -> Iterator[Outcome]:
    reader = KafkaTopicReader(kafka, [topics.OUTCOMES])
    try:
        # A second beyond the present: what was written a moment ago may carry another machine's clock.
        for record in reader.read_between(since_ms, int(time.time() * 1_000) + 1_000, _ANSWERS_S):
            try:
                yield decode_outcome(record.value)
            except EventDecodeError as error:
                LOG.warning("an outcome cannot be read, at %s: %s", record.position, error)
    finally:
        reader.close()


def _tell_skew(postbox: Postbox, line_id: str, camera_id: str, ahead_s: float) -> None:
    at_ns = time.time_ns()
    detail = f"the clock of {camera_id or 'the trigger'} is {ahead_s:.1f} s ahead"
    event = LineEvent(
        event_id=line_event_id(line_id, "", f"clock_skew:{camera_id}", at_ns),
        line_id=line_id,
        at_ns=at_ns,
        kind=LineEventKind.CLOCK_SKEW,
        detail=detail,
    )
    postbox.tell((event,))


def _serve(settings: OutcomeSettings, lines: list[LineGateway], health: Health) -> GrpcServer:
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    name = outcome_service_pb2.DESCRIPTOR.services_by_name["OutcomeService"].full_name
    servicer = OutcomeServicer({line.line_id: line for line in lines})
    server.add(outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server, servicer, name)
    server.start()
    LOG.info("OutcomeService at port %s", server.port, extra={"grpc_port": server.port})
    return server


def _close_writer(writer: KafkaRecordWriter) -> None:
    # What is not acknowledged lies on the spool's disk, or its records are not committed.
    with contextlib.suppress(SightlineError):
        writer.close(1.0)


if __name__ == "__main__":
    main_guard(main)
