"""Wires the feedback service and runs it: ``python -m services.feedback``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import grpc
from sightline.v1 import (
    case_search_service_pb2,
    case_search_service_pb2_grpc,
    changes_service_pb2,
    changes_service_pb2_grpc,
    export_service_pb2,
    export_service_pb2_grpc,
    feedback_service_pb2,
    feedback_service_pb2_grpc,
    statistics_service_pb2,
    statistics_service_pb2_grpc,
)

from services.adapters.casebacklog import SqlCaseBacklog
from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseoutcomes import SqlCaseOutcomes
from services.adapters.caserecord import CaseRecord
from services.adapters.changerecord import ChangeRecord
from services.adapters.detectorclient import DetectorClient
from services.adapters.embeddingindex import SqlEmbeddingIndex
from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordFetcher, KafkaRecordWriter, KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import ObjectStore, VerdictCounts
from services.adapters.verdictcounts import SqlVerdictCounts
from services.core import topics
from services.core.errors import SightlineError
from services.feedback.changebook import ChangeBook
from services.feedback.changes import ChangeComparer
from services.feedback.changes_servicer import ChangesServicer
from services.feedback.counting import CountedConsumer, CountingThread, VerdictCounter
from services.feedback.embeddings import EmbeddingIntake, EmbeddingTidier
from services.feedback.export_servicer import ExportServicer
from services.feedback.exporting import Exporter
from services.feedback.measuring import CaseMeasures
from services.feedback.neighbours import NeighbourFinder
from services.feedback.pipeline import FeedbackPipeline
from services.feedback.publisher import ReviewPublisher
from services.feedback.readiness import IntakeHealth
from services.feedback.refill import IndexRefill
from services.feedback.reviewing import Reviewing
from services.feedback.search_servicer import CaseSearchServicer
from services.feedback.servicer import FeedbackServicer
from services.feedback.settings import FeedbackSettings
from services.feedback.statistics import Statistics
from services.feedback.statistics_servicer import StatisticsServicer
from services.runtime import metrics
from services.runtime.consumer import ConsumerLoop, LoopTimes, RecordProcessor
from services.runtime.fetcher import ReopeningFetcher
from services.runtime.grpc_server import GrpcServer
from services.runtime.images import FramePictures
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for

LOG = get_logger("services.feedback")
NAME = "feedback"

#: Longest wait of a write for room; short, since it is tried again.
_WRITER_BLOCK_S = 0.5
_Service = tuple[Callable[[Any, grpc.Server], None], object, str]
"""What registers a servicer, the servicer, and the service's full name."""
_COUNTED_AT_ONCE = 1_000
_SECONDS_OF_DAY = 86_400
#: Longest time for the picture of one neighbour.
_PICTURE_TIMEOUT_S = 3.0


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
    counts = SqlVerdictCounts(index.database)
    book = ChangeBook(ChangeRecord(store), compares=bool(settings.detector.address))
    comparer = _comparer(settings, index, record, book, stack)
    embeddings = _embedding_index(settings, index)
    seen = EmbeddingIntake(embeddings, keep_hours=settings.embeddings.keep_hours)
    tidier = EmbeddingTidier(embeddings, interval_s=settings.embeddings.tidy_interval_s)
    tidier.start()
    stack.callback(tidier.close)
    refill = IndexRefill(index, record, embeddings)
    refill.start()
    stack.callback(refill.close)
    counting = _counting(settings, counts, shutdown, stack)
    measures = _measures(settings, index, stack)
    others = [
        publisher.check,
        refill.check,
        counting.check,
        tidier.check,
        measures.check,
        *([comparer.check] if comparer else []),
    ]

    def check_others() -> None:
        for check in others:
            check()

    intake = IntakeHealth(health)
    pipeline = FeedbackPipeline(settings, index, record, store, writer, intake, intake=seen, alongside=check_others)
    neighbours = NeighbourFinder(index, embeddings, seen, record, _frame_pictures(settings, store, stack))
    services = [
        *_reviewing(FeedbackServicer(index, record, reviewing, neighbours, claim_s=settings.claim_s)),
        *_statistics(settings, index, counts),
        *_finding(settings, index, record),
        *_changes(book, index),
    ]
    server = _serve(settings, health, services)
    pipeline.start()
    stack.callback(pipeline.close)
    # Closed before the pipeline and the publisher: what it took last is still published.
    stack.callback(server.stop, settings.drain_s / 4)
    # People need not wait until Kafka is there: what was taken in an earlier life is in the index.
    health.set_ready(True)
    connect = functools.partial(KafkaRecordConsumer, kafka, settings.kafka.group or NAME)
    consumer = wait("the broker", connect)
    counting.start()
    stack.callback(counting.close, settings.drain_s)
    set_aside_what_started()
    _loop(settings, consumer, pipeline, intake, shutdown).run()


def _measures(settings: FeedbackSettings, index: SqlCaseIndex, stack: contextlib.ExitStack) -> CaseMeasures:
    wanted = settings.measures
    measures = CaseMeasures(
        SqlCaseBacklog(index.database),
        SqlCaseOutcomes(index.database),
        interval_s=wanted.interval_s,
        audit_interval_s=wanted.audit_interval_s,
        audit_days=wanted.audit_days,
    )
    measures.start()
    stack.callback(measures.close)
    return measures


def _embedding_index(settings: FeedbackSettings, index: SqlCaseIndex) -> SqlEmbeddingIndex:
    wanted = settings.embeddings
    return SqlEmbeddingIndex(
        index.database,
        max_per_version=wanted.max_per_version,
        exact_up_to=wanted.exact_up_to,
        max_bytes=wanted.memory_bytes,
        threads=wanted.threads,
    )


def _record_fetcher(settings: FeedbackSettings) -> KafkaRecordFetcher:
    # A person waits for the picture: not as long as a broker may take to fail over.
    timeout_ms = round(_PICTURE_TIMEOUT_S * 1_000)
    return KafkaRecordFetcher(replace(settings.kafka.connection(), request_timeout_ms=timeout_ms))


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
        topics=[topics.EXPLAINED, topics.EMBEDDINGS],
        health=intake,
        shutdown=shutdown,
        times=_times(settings),
        max_records=settings.max_in_flight_cases,
        on_lag=metrics.FEEDBACK_LAG.set,
        on_paused=lambda paused: metrics.FEEDBACK_PAUSED.set(1 if paused else 0),
    )


def _times(settings: FeedbackSettings) -> LoopTimes:
    return LoopTimes(
        commit_every_s=settings.commit_interval_ms / 1e3,
        settle_on_revoke_s=settings.revoke_settle_s,
        drain_s=settings.drain_s,
        probe_propagation_s=settings.probe_propagation_s,
    )


def _counting(
    settings: FeedbackSettings, counts: VerdictCounts, shutdown: Shutdown, stack: contextlib.ExitStack
) -> CountingThread:
    """What counts verdicts, beside the cases: neither waits for the other."""
    # Its own: statistics that fall behind keep nobody from reviewing.
    health = Health()
    counter = VerdictCounter(
        counts,
        health,
        merge_after_s=settings.statistics.merge_after_days * _SECONDS_OF_DAY,
        keep_s=settings.statistics.keep_days * _SECONDS_OF_DAY,
    )
    counter.start()
    stack.callback(counter.close)
    group = f"{settings.kafka.group or NAME}-statistics"

    def make_loop() -> ConsumerLoop:
        return ConsumerLoop(
            CountedConsumer(KafkaRecordConsumer(settings.kafka.connection(), group), counts),
            counter,
            topics=[topics.VERDICTS],
            health=health,
            shutdown=shutdown,
            times=_times(settings),
            max_records=_COUNTED_AT_ONCE,
            on_lag=metrics.FEEDBACK_VERDICTS_LAG.set,
        )

    return CountingThread(make_loop, shutdown, settings.startup_wait_s)


def _comparer(
    settings: FeedbackSettings, index: SqlCaseIndex, record: CaseRecord, book: ChangeBook, stack: contextlib.ExitStack
) -> ChangeComparer | None:
    """Start to compare after new models, where there is a detector to ask."""
    if not settings.detector.address:
        return None
    kafka = settings.kafka.connection()
    detector = DetectorClient(settings.detector.address)
    stack.callback(detector.close)
    comparer = ChangeComparer(
        lambda: ModelRegistry(KafkaTopicReader(kafka, [topics.MODELS])),
        index,
        record,
        book,
        detector,
        settings.compare,
        timeout_s=settings.detector.timeout_s,
    )
    comparer.start()
    stack.callback(comparer.close)
    return comparer


def _serve(settings: FeedbackSettings, health: Health, services: Sequence[_Service]) -> GrpcServer:
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    for add, servicer, name in services:
        server.add(add, servicer, name)
    server.start()
    LOG.info("FeedbackService at port %s", server.port, extra={"grpc_port": server.port})
    return server


def _reviewing(servicer: FeedbackServicer) -> list[_Service]:
    add = feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server
    return [(add, servicer, _full_name(feedback_service_pb2, "FeedbackService"))]


def _statistics(settings: FeedbackSettings, index: SqlCaseIndex, counts: VerdictCounts) -> list[_Service]:
    statistics = Statistics(
        counts,
        SqlCaseOutcomes(index.database),
        settings.statistics.plan,
        merge_after_days=settings.statistics.merge_after_days,
        keep_days=settings.statistics.keep_days,
    )
    add = statistics_service_pb2_grpc.add_StatisticsServiceServicer_to_server
    return [(add, StatisticsServicer(statistics), _full_name(statistics_service_pb2, "StatisticsService"))]


def _finding(settings: FeedbackSettings, index: SqlCaseIndex, record: CaseRecord) -> list[_Service]:
    exporter = Exporter(index, record, readers=settings.exports.readers, spool_bytes=settings.exports.spool_bytes)
    return [
        (
            export_service_pb2_grpc.add_ExportServiceServicer_to_server,
            ExportServicer(exporter, max_at_once=settings.exports.max_at_once),
            _full_name(export_service_pb2, "ExportService"),
        ),
        (
            case_search_service_pb2_grpc.add_CaseSearchServiceServicer_to_server,
            CaseSearchServicer(index),
            _full_name(case_search_service_pb2, "CaseSearchService"),
        ),
    ]


def _changes(book: ChangeBook, index: SqlCaseIndex) -> list[_Service]:
    add = changes_service_pb2_grpc.add_ChangesServiceServicer_to_server
    return [(add, ChangesServicer(book, index), _full_name(changes_service_pb2, "ChangesService"))]


def _frame_pictures(settings: FeedbackSettings, store: ObjectStore, stack: contextlib.ExitStack) -> FramePictures:
    fetcher = ReopeningFetcher(lambda: _record_fetcher(settings))
    stack.callback(fetcher.close)
    return FramePictures(store, fetcher, max_bytes=settings.limits.max_image_bytes, timeout_s=_PICTURE_TIMEOUT_S)


def _full_name(module: ModuleType, name: str) -> str:
    return str(module.DESCRIPTOR.services_by_name[name].full_name)


def _close_writer(writer: KafkaRecordWriter) -> None:
    # What is not acknowledged is noted as published by nobody, and is sent again by the next process.
    with contextlib.suppress(SightlineError):
        writer.close(1.0)


if __name__ == "__main__":
    main_guard(main)
