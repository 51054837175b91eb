"""Wires ingest and runs it: ``python -m services.ingest``."""

from __future__ import annotations

import contextlib
import time

from sightline.v1 import ingest_service_pb2, ingest_service_pb2_grpc

from services.adapters.kafka import KafkaRecordWriter
from services.adapters.objectstore import S3ObjectStore
from services.core.errors import SightlineError
from services.ingest.assembly import Cameras
from services.ingest.servicer import IngestServicer
from services.ingest.settings import IngestSettings
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard, set_aside_what_started
from services.runtime.logging import get_logger
from services.runtime.service import serve

LOG = get_logger(__name__)
NAME = "ingest"

_TURN_S = 0.2
#: Longest wait of a write for room or for the topic's leaders; then the frame goes to disk.
_WRITER_BLOCK_S = 2.0


def main() -> None:
    """Read the settings, start, run until SIGTERM, drain."""
    serve(NAME, IngestSettings, run)


def run(settings: IngestSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters, let the cameras run, drain at the stop.

    Args:
        settings: Ingest's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    # Neither the broker nor the store is waited for: what comes before they are there goes to disk.
    writer = KafkaRecordWriter(
        settings.kafka.connection(), buffer_bytes=settings.in_flight_bytes, max_block_s=_WRITER_BLOCK_S
    )
    stack.callback(_close_writer, writer, settings.drain_s * 0.1)
    cameras = Cameras(settings, writer, S3ObjectStore(settings.object_store.connection()))
    stack.callback(cameras.close, settings.drain_s * 0.7)
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    servicer = IngestServicer(cameras.pushed, cameras.triggers, unanswered=settings.push_unanswered)
    name = ingest_service_pb2.DESCRIPTOR.services_by_name["IngestService"].full_name
    server.add(ingest_service_pb2_grpc.add_IngestServiceServicer_to_server, servicer, name)
    server.start()
    stack.callback(server.stop, min(2.0, settings.drain_s / 4))
    LOG.info("IngestService at port %s", server.port, extra={"grpc_port": server.port})
    set_aside_what_started()
    cameras.start()
    health.set_ready(True)
    while not shutdown.wait(_TURN_S):
        health.turned()
    health.set_ready(False)
    time.sleep(settings.probe_propagation_s)


def _close_writer(writer: KafkaRecordWriter, timeout_s: float) -> None:
    # What is not acknowledged lies on the spool's disk and is sent by the next start.
    with contextlib.suppress(SightlineError):
        writer.close(timeout_s)


if __name__ == "__main__":
    main_guard(main)
