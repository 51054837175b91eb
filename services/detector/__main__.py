"""Wires the detector and runs it: ``python -m services.detector``."""

from __future__ import annotations

import contextlib
import functools

from sightline.v1 import detector_service_pb2, detector_service_pb2_grpc

from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter, KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.triton import TritonInferenceClient
from services.core import topics
from services.core.errors import SightlineError
from services.detector.deployments import Deployments
from services.detector.drift import DriftWatch
from services.detector.job import Deployment
from services.detector.pipeline import DetectorPipeline
from services.detector.servicer import DetectorServicer
from services.detector.settings import DetectorSettings
from services.detector.shadow import ShadowScorer
from services.runtime import metrics
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for

LOG = get_logger("services.detector")
NAME = "detector"

#: Longest wait of a write for room; short, since the pipeline tries again by itself and has other work.
_WRITER_BLOCK_S = 0.5


def main() -> None:
    """Read the settings, start, run until SIGTERM, drain."""
    serve(NAME, DetectorSettings, run)


def run(settings: DetectorSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters, read the models topic, consume.

    Args:
        settings: The detector's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    waiting_for = functools.partial(wait_for, health=health, shutdown=shutdown, deadline_s=settings.startup_wait_s)

    kafka = settings.kafka.connection()
    store = S3ObjectStore(settings.object_store.connection())
    inference = TritonInferenceClient(
        settings.triton.url_list, shared_memory=settings.triton.shared_memory, identity=settings.triton_identity
    )
    stack.callback(inference.close)
    reader = waiting_for("the models topic", lambda: KafkaTopicReader(kafka, [topics.MODELS]))
    models = ModelStore(store)
    deployments = Deployments(
        ModelRegistry(reader),
        inference,
        lambda alias, number: Deployment.of(models.manifest(alias, number)),
        aliases=settings.aliases,
        health=health,
    )
    stack.callback(deployments.close)
    writer = KafkaRecordWriter(kafka, max_block_s=_WRITER_BLOCK_S)
    stack.callback(_close_writer, writer)
    shadow = None
    if settings.shadow.share > 0:
        # Not through shared memory: its places are the live version's.
        asks_shadow = TritonInferenceClient(
            settings.triton.url_list, shared_memory="off", identity=settings.triton_identity
        )
        stack.callback(asks_shadow.close)
        shadow = ShadowScorer(settings, deployments, asks_shadow, writer, store)
    drift = DriftWatch(settings.drift, models.reference)
    stack.callback(drift.close)
    pipeline = DetectorPipeline(
        settings,
        deployments,
        inference,
        writer,
        store,
        health,
        shadow=shadow,
        drift=drift,
        tracing_on=settings.tracing.exporter != "none",
    )
    waiting_for("the models topic", deployments.load)
    deployments.follow(shutdown, settings.models_poll_s)
    drift.start()
    pipeline.start()
    stack.callback(pipeline.close)
    server = _serve(settings, pipeline, health)
    stack.callback(server.stop, settings.drain_s / 4)
    consumer = waiting_for("the broker", lambda: KafkaRecordConsumer(kafka, settings.kafka.group or NAME))
    loop = ConsumerLoop(
        consumer,
        pipeline,
        topics=[topics.FRAMES],
        health=health,
        shutdown=shutdown,
        times=LoopTimes(
            commit_every_s=settings.commit_interval_ms / 1e3,
            settle_on_revoke_s=settings.revoke_settle_s,
            drain_s=settings.drain_s,
            probe_propagation_s=settings.probe_propagation_s,
        ),
        max_records=settings.max_in_flight_frames,
        on_lag=metrics.DETECTOR_LAG.set,
        on_paused=lambda paused: metrics.DETECTOR_PAUSED.set(1 if paused else 0),
    )
    set_aside_what_started()
    health.set_ready(True)
    try:
        loop.run()
    finally:
        # The models' follower ends by it, whatever ended the loop.
        shutdown.request()


def _serve(settings: DetectorSettings, pipeline: DetectorPipeline, health: Health) -> GrpcServer:
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    name = detector_service_pb2.DESCRIPTOR.services_by_name["DetectorService"].full_name
    servicer = DetectorServicer(
        pipeline, max_waiting=settings.inspect_max_waiting, timeout_s=settings.inspect_timeout_s
    )
    server.add(detector_service_pb2_grpc.add_DetectorServiceServicer_to_server, servicer, name)
    server.start()
    LOG.info("DetectorService at port %s", server.port, extra={"grpc_port": server.port})
    return server


def _close_writer(writer: KafkaRecordWriter) -> None:
    # What is not acknowledged was not committed either, and is written again by whoever reads it next.
    with contextlib.suppress(SightlineError):
        writer.close(1.0)


if __name__ == "__main__":
    main_guard(main)
