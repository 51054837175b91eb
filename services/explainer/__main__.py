"""Wires the explainer and runs it: ``python -m services.explainer``."""

from __future__ import annotations

import contextlib
import functools

from sightline.v1 import explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters.kafka import KafkaRecordConsumer, KafkaRecordWriter
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.tritonexplain import TritonExplanationClient
from services.core import topics
from services.core.errors import SightlineError
from services.core.imaging import ImageLimits
from services.explainer.asking import Asking
from services.explainer.explaining import CaseExplainer
from services.explainer.pipeline import ExplainerPipeline
from services.explainer.policy import Policy
from services.explainer.scales import HeatScales
from services.explainer.servicer import ExplainerServicer
from services.explainer.settings import ExplainerSettings
from services.explainer.versions import Versions
from services.runtime import metrics
from services.runtime.consumer import ConsumerLoop, LoopTimes
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for

LOG = get_logger("services.explainer")
NAME = "explainer"

#: Longest wait of a write for room; short, since the pipeline tries again by itself and has other work.
_WRITER_BLOCK_S = 0.5
_LAG_EVERY_S = 1.0


def main() -> None:
    """Read the settings, start, run until SIGTERM, drain."""
    serve(NAME, ExplainerSettings, run)


def run(settings: ExplainerSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters and consume.

    Args:
        settings: The explainer's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    kafka = settings.kafka.connection()
    store = S3ObjectStore(settings.object_store.connection())
    models = ModelStore(store)
    client = TritonExplanationClient(settings.triton.url_list, settings.triton_identity)
    stack.callback(client.close)
    limits = settings.limits
    asking = Asking(
        client,
        ImageLimits(
            max_bytes=limits.max_image_bytes,
            max_pixels=limits.max_image_pixels,
            max_aspect_ratio=limits.max_aspect_ratio,
        ),
        # Callers of Explain may stand before a case in the explaining model's queue.
        grace_s=settings.triton.timeout_s + settings.budget.case_s * settings.explain_max_waiting,
        side_px=settings.map_side_px,
    )
    versions = Versions(models.manifest)
    scales = HeatScales(settings, asking, models, store)
    explainer = CaseExplainer(
        Policy(settings.policy, settings.budget),
        versions,
        asking,
        scales,
        store,
        inline_limit_bytes=limits.inline_limit_bytes,
        max_image_bytes=limits.max_image_bytes,
        attempts=settings.attempts,
    )
    writer = KafkaRecordWriter(kafka, max_block_s=_WRITER_BLOCK_S)
    stack.callback(_close_writer, writer)
    pipeline = ExplainerPipeline(settings, explainer, writer, health)
    scales.set_busy(lambda: pipeline.busy)
    pipeline.start()
    stack.callback(pipeline.close)
    scales.start()
    stack.callback(scales.close)
    server = _serve(settings, ExplainerServicer(settings, versions, asking, scales), health)
    stack.callback(server.stop, settings.drain_s / 4)
    connect = functools.partial(KafkaRecordConsumer, kafka, settings.kafka.group or NAME)
    consumer = wait_for("the broker", connect, health=health, shutdown=shutdown, deadline_s=settings.startup_wait_s)
    loop = ConsumerLoop(
        consumer,
        pipeline,
        topics=[topics.CASES],
        health=health,
        shutdown=shutdown,
        times=LoopTimes(
            commit_every_s=settings.commit_interval_ms / 1e3,
            settle_on_revoke_s=settings.revoke_settle_s,
            drain_s=settings.drain_s,
            probe_propagation_s=settings.probe_propagation_s,
            lag_every_s=_LAG_EVERY_S,
        ),
        max_records=settings.max_in_flight_cases,
        on_lag=pipeline.set_lag,
        on_paused=lambda paused: metrics.EXPLAINER_PAUSED.set(1 if paused else 0),
    )
    set_aside_what_started()
    health.set_ready(True)
    loop.run()


def _serve(settings: ExplainerSettings, servicer: ExplainerServicer, health: Health) -> GrpcServer:
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    name = explainer_service_pb2.DESCRIPTOR.services_by_name["ExplainerService"].full_name
    server.add(explainer_service_pb2_grpc.add_ExplainerServiceServicer_to_server, servicer, name)
    server.start()
    LOG.info("ExplainerService at port %s", server.port, extra={"grpc_port": server.port})
    return server


def _close_writer(writer: KafkaRecordWriter) -> None:
    # What is not acknowledged was not committed either, and is written again by whoever reads it next.
    with contextlib.suppress(SightlineError):
        writer.close(1.0)


if __name__ == "__main__":
    main_guard(main)
