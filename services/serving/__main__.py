"""Wires the serving agent and runs it: ``python -m services.serving``."""

from __future__ import annotations

import contextlib
import functools

from sightline.v1 import serving_service_pb2, serving_service_pb2_grpc

from services.adapters.kafka import KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core import topics
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health, Shutdown, main_guard
from services.runtime.logging import get_logger
from services.runtime.service import serve, wait_for
from services.serving.agent import ServingAgent
from services.serving.bringup import BringUp
from services.serving.explainers import Explainers
from services.serving.servicer import ServingServicer
from services.serving.settings import ServingSettings

LOG = get_logger("services.serving")
NAME = "serving"


def main() -> None:
    """Read the settings, start, run until SIGTERM."""
    serve(NAME, ServingSettings, run)


def run(settings: ServingSettings, health: Health, shutdown: Shutdown, stack: contextlib.ExitStack) -> None:
    """Build the adapters, read the models topic, keep Triton in step with it.

    Args:
        settings: The agent's settings.
        health: Told how it goes.
        shutdown: Ends it.
        stack: Takes what must be closed; it is closed in the reverse order.
    """
    waiting_for = functools.partial(wait_for, health=health, shutdown=shutdown, deadline_s=settings.startup_wait_s)

    control = TritonControl(settings.triton_url, identity=settings.triton_identity)
    stack.callback(control.close)
    # Warming asks this one Triton and nobody else, and has nothing to gain from shared memory.
    client = TritonInferenceClient([settings.triton_url], shared_memory="off", identity=settings.triton_identity)
    stack.callback(client.close)
    kafka = settings.kafka.connection()
    reader = waiting_for("the models topic", lambda: KafkaTopicReader(kafka, [topics.MODELS]))
    registry = ModelRegistry(reader)
    stack.callback(registry.close)
    waiting_for("the models topic", registry.read_all)
    bring_up = BringUp(
        ModelStore(S3ObjectStore(settings.object_store.connection())),
        control,
        client,
        settings.repository,
        settings.data,
        settings.placement.placement(),
        settings.load_timeout_s,
        settings.warm_timeout_s,
    )
    agent = ServingAgent(
        registry,
        bring_up,
        health,
        unload_grace_s=settings.unload_grace_s,
        keep_on_disk_s=settings.keep_on_disk_s,
        retry_cap_s=settings.retry_cap_s,
        parallel=settings.parallel_loads,
        explainers=Explainers(bring_up, settings.explain.placement(), retry_cap_s=settings.retry_cap_s),
    )
    server = GrpcServer(settings.grpc, health, tls=settings.tls)
    name = serving_service_pb2.DESCRIPTOR.services_by_name["ServingService"].full_name
    servicer = ServingServicer(agent, settings.repository)
    server.add(serving_service_pb2_grpc.add_ServingServiceServicer_to_server, servicer, name)
    server.start()
    stack.callback(server.stop, settings.drain_s / 4)
    LOG.info("ServingService at port %s", server.port, extra={"grpc_port": server.port})
    agent.run(shutdown, settings.poll_s)


if __name__ == "__main__":
    main_guard(main)
