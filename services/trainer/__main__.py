"""Wires the trainer service and runs it: ``python -m services.trainer``."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence

from sightline.v1 import trainer_service_pb2, trainer_service_pb2_grpc

from services.adapters.aliaslease import AliasLease
from services.adapters.caserecord import CaseRecord
from services.adapters.connection import KafkaConnection
from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter, KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.ports import TopicReader
from services.adapters.servingclient import ServingAgents
from services.adapters.trainingrecord import TrainingRecord
from services.core import topics
from services.core.errors import SightlineError
from services.runtime import metrics
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for
from services.trainer.answers import AnswerBook
from services.trainer.controller import TrainingController
from services.trainer.learning_process import LearningProcess
from services.trainer.livemodels import LiveModels
from services.trainer.promoting import Promoter
from services.trainer.review_intake import ReviewIntake
from services.trainer.run_machine import Surroundings
from services.trainer.runbook import RunBook
from services.trainer.servicer import TrainerServicer
from services.trainer.settings import TrainerSettings

LOG = get_logger("services.trainer")
NAME = "trainer"


def main() -> None:
    """Read the settings, start, run until SIGTERM, leave runs where they are on record."""
    serve(NAME, TrainerSettings, run)


def run(settings: TrainerSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters, answer calls, keep runs going and count reviews.

    Args:
        settings: The service's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    kafka = settings.kafka.connection()
    store = S3ObjectStore(settings.object_store.connection())
    versions = ModelStore(store)
    models = LiveModels(functools.partial(_open_registry, kafka))
    stack.callback(models.close)
    agents = ServingAgents(settings.serving.address_list, settings.serving.timeout_s)
    stack.callback(agents.close)
    learner = LearningProcess(settings, versions)
    book = RunBook(TrainingRecord(store, _tell_damaged))
    answers = AnswerBook(CaseRecord(store))
    around = Surroundings(
        book=book,
        answers=answers,
        models=models,
        store=versions,
        learner=learner,
        agents=agents,
        open_reader=functools.partial(_open_reader, kafka),
        settings=settings,
        health=health,
        learning_turn=threading.Lock(),
    )
    controller = TrainingController(around, lambda alias: AliasLease(store, alias, ttl_s=settings.lease_s))
    servicer = TrainerServicer(
        book,
        controller,
        Promoter(book, models, versions),
        learner,
        reviews_wanted=settings.triggers.after_reviews,
        # The other half of the workers answers calls that end.
        max_watchers=settings.grpc.max_workers // 2,
    )
    server = _serve(settings, health, servicer)
    controller.start()
    # What learns is told to stop and leaves its checkpoint.
    stack.callback(controller.close, settings.drain_s)
    stack.callback(server.stop, settings.drain_s / 4)
    stack.callback(servicer.close)
    # Runs are looked at and decided whether or not reviews come.
    health.set_ready(True)
    intake = ReviewIntake(answers, controller.wake, controller.check)
    group = settings.kafka.group or NAME
    consumer = wait_for(
        "the broker",
        lambda: KafkaRecordConsumer(kafka, group),
        health=health,
        shutdown=shutdown,
        deadline_s=settings.startup_wait_s,
    )
    set_aside_what_started()
    ConsumerLoop(
        consumer,
        intake,
        topics=[topics.REVIEWS],
        health=health,
        shutdown=shutdown,
        times=LoopTimes(
            commit_every_s=settings.commit_interval_ms / 1e3,
            drain_s=settings.drain_s,
            probe_propagation_s=settings.probe_propagation_s,
        ),
        on_lag=metrics.TRAINER_LAG.set,
    ).run()


def _serve(settings: TrainerSettings, health: Health, servicer: TrainerServicer) -> GrpcServer:
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    name = trainer_service_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name
    server.add(trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server, servicer, name)
    server.start()
    LOG.info("TrainerService at port %s", server.port, extra={"grpc_port": server.port})
    return server


def _open_reader(kafka: KafkaConnection, names: Sequence[str]) -> TopicReader:
    return KafkaTopicReader(kafka, names)


def _open_registry(kafka: KafkaConnection) -> tuple[ModelRegistry, Callable[[], None]]:
    reader = KafkaTopicReader(kafka, [topics.MODELS])
    writer = KafkaRecordWriter(kafka)
    return ModelRegistry(reader, writer), functools.partial(_close_writer, writer)


def _close_writer(writer: KafkaRecordWriter) -> None:
    # A change whose acknowledgement was lost is found out when the alias is looked at again.
    with contextlib.suppress(SightlineError):
        writer.close(1.0)


def _tell_damaged(key: str, error: SightlineError) -> None:
    LOG.warning("a run on record cannot be read: %s: %s", key, error, extra={"reason": error.reason})


if __name__ == "__main__":
    main_guard(main)
