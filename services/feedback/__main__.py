"""Wires the feedback service and runs it: ``python -m services.feedback``."""

from __future__ import annotations

import contextlib
import functools

from sightline.v1 import feedback_service_pb2, feedback_service_pb2_grpc

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caserecord import CaseRecord
from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter
from services.adapters.objectstore import S3ObjectStore
from services.core import topics
from services.core.errors import SightlineError
from services.feedback.pipeline import FeedbackPipeline
from services.feedback.publisher import ReviewPublisher
from services.feedback.readiness import IntakeHealth
from services.feedback.reviewing import Reviewing
from services.feedback.servicer import FeedbackServicer
from services.feedback.settings import FeedbackSettings
from services.runtime import metrics
from services.runtime.consumer import ConsumerLoop, LoopTimes, RecordProcessor
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for

LOG = get_logger("services.feedback")
NAME = "feedback"

#: Longest wait of a write for room; short, since it is tried again.
_WRITER_BLOCK_S = 0.5


def main() -> None:
    """Read the settings, start, run until SIGTERM, drain."""
    serve(NAME, FeedbackSettings, run)


def run(settings: FeedbackSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters, answer calls and consume.

    Args:
        settings: The service's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    kafka = settings.kafka.connection()
    store = S3ObjectStore(settings.object_store.connection())
    wait = functools.partial(wait_for, health=health, shutdown=shutdown, deadline_s=settings.startup_wait_s)
    index = wait("the index", lambda: SqlCaseIndex(settings.index.url.get_secret_value()))
    stack.callback(index.close)
    record = CaseRecord(store)
    writer = KafkaRecordWriter(kafka, max_block_s=_WRITER_BLOCK_S)
    stack.callback(_close_writer, writer)
    publisher = ReviewPublisher(index, writer)
    publisher.start()
    stack.callback(publisher.close)
    reviewing = Reviewing(index, record, max_mask_bytes=settings.max_mask_bytes, on_taken=publisher.wake)
    server = _serve(settings, FeedbackServicer(index, record, reviewing, claim_s=settings.claim_s), health)
    intake = IntakeHealth(health)
    pipeline = FeedbackPipeline(settings, index, record, store, writer, intake, alongside=publisher.check)
    pipeline.start()
    stack.callback(pipeline.close)
    # Closed before the pipeline and the publisher: what it took last is still published.
    stack.callback(server.stop, settings.drain_s / 4)
    # People need not wait until Kafka is there: what was taken in an earlier life is in the index.
    health.set_ready(True)
    connect = functools.partial(KafkaRecordConsumer, kafka, settings.kafka.group or NAME)
    consumer = wait("the broker", connect)
    set_aside_what_started()
    _loop(settings, consumer, pipeline, intake, shutdown).run()


def _loop(
    settings: FeedbackSettings,
    consumer: KafkaRecordConsumer,
    pipeline: RecordProcessor,
    intake: IntakeHealth,
    shutdown: Shutdown,
) -> ConsumerLoop:
    return ConsumerLoop(
        consumer,
        pipeline,
        topics=[topics.EXPLAINED],
        health=intake,
        shutdown=shutdown,
        times=LoopTimes(
            commit_every_s=settings.commit_interval_ms / 1e3,
            settle_on_revoke_s=settings.revoke_settle_s,
            drain_s=settings.drain_s,
            probe_propagation_s=settings.probe_propagation_s,
        ),
        max_records=settings.max_in_flight_cases,
        on_lag=metrics.FEEDBACK_LAG.set,
        on_paused=lambda paused: metrics.FEEDBACK_PAUSED.set(1 if paused else 0),
    )


def _serve(settings: FeedbackSettings, servicer: FeedbackServicer, health: Health) -> GrpcServer:
    server = GrpcServer(settings.grpc, health)
    name = feedback_service_pb2.DESCRIPTOR.services_by_name["FeedbackService"].full_name
    server.add(feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server, servicer, name)
    server.start()
    LOG.info("FeedbackService at port %s", server.port, extra={"grpc_port": server.port})
    return server


def _close_writer(writer: KafkaRecordWriter) -> None:
    # What is not acknowledged is noted as published by nobody, and is sent again by the next process.
    with contextlib.suppress(SightlineError):
        writer.close(1.0)


if __name__ == "__main__":
    main_guard(main)
