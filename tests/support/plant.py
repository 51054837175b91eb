"""A broker, an object store and two real Tritons with an agent each: what swaps of versions are tested on."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import torch
from sightline.v1 import serving_service_pb2, serving_service_pb2_grpc

from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.modelfolder import read_weights, verify_version
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.triton import TritonInferenceClient
from services.core import alias as aliases
from services.core import topics
from services.core.models.serving import load_serving_module
from services.local.broker import LocalBroker
from services.local.member import Member
from services.local.process import free_port
from services.local.store import LocalStore
from services.local.triton import LocalTriton
from tests.support.model_versions import write_model_version

SIDE_PX = 48
WHO = {"actor": "test", "at_ns": 1}


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0, what: str = "the condition") -> None:
    """Poll; the deadline only ends a test that hangs, so it leaves a busy machine time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout_s} s"
        time.sleep(0.03)


class Plant:
    """A broker, an object store, and Tritons, each with its agent.

    Args:
        folder: For logs and data.
        side_px: What the versions take.
        tritons: How many.
        engine: What runs the versions. Equal scores to those of torch are torch's alone.
    """

    def __init__(self, folder: Path, *, side_px: int = SIDE_PX, tritons: int = 2, engine: str = "torch") -> None:
        self.folder = folder
        self._engine = engine
        self._side_px = side_px
        self.store = LocalStore(folder / "store")
        self.broker = LocalBroker(log_path=folder / "broker.log")
        self.tritons = [LocalTriton(folder / name / "models") for name in ("one", "two")[:tritons]]
        self.agents: list[Member] = []
        self.grpc_ports: list[int] = []
        self._next = {"default": 1, "weld": 1}

    def start(self) -> None:
        """Start everything; nothing is live yet."""
        self.store.start()
        self.store.ensure_bucket("sightline")
        self.broker.start()
        self.kafka = KafkaConnection(self.broker.bootstrap_servers)
        ensure_topics(self.kafka, standard_topics())
        connection = StoreConnection(
            self.store.endpoint, "sightline", self.store.access_key, self.store.secret_key, timeout_s=5.0
        )
        self.objects = S3ObjectStore(connection)
        self.models = ModelStore(self.objects)
        self.writer = KafkaRecordWriter(self.kafka)
        self.registry = ModelRegistry(KafkaTopicReader(self.kafka, [topics.MODELS]), self.writer)
        for number, triton in enumerate(self.tritons):
            triton.start()
            self.grpc_ports.append(free_port())
            settings = {
                "KAFKA__BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
                "OBJECT_STORE__ENDPOINT": self.store.endpoint,
                "OBJECT_STORE__BUCKET": "sightline",
                "OBJECT_STORE__ACCESS_KEY": self.store.access_key,
                "OBJECT_STORE__SECRET_KEY": self.store.secret_key,
                "TRITON_URL": triton.grpc_url,
                "REPOSITORY": str(triton.repository),
                "DATA": str(self.folder / f"agent-{number}"),
                "GRPC__PORT": str(self.grpc_ports[-1]),
                "PLACEMENT__ENGINE": self._engine,
                "PLACEMENT__PRECISION": "float32",
                "POLL_S": "0.1",
                "UNLOAD_GRACE_S": "1",
            }
            agent = Member("serving", settings, logs=self.folder / f"logs-{number}")
            agent.start()
            self.agents.append(agent)

    def stop(self) -> None:
        """Stop what runs."""
        for agent in self.agents:
            agent.process.stop(10)
        for triton in self.tritons:
            triton.kill()
        self.registry.close()
        self.writer.close(2)
        self.broker.stop()
        self.store.stop()

    def settings(self) -> dict[str, str]:
        """The settings that lead a detector here, to both Tritons."""
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            # On a machine that is busy with other things, a member that is late is not dead.
            "KAFKA__SESSION_TIMEOUT_MS": "20000",
            "KAFKA__FETCH_WAIT_MS": str(LocalBroker.FETCH_WAIT_MS),
            "OBJECT_STORE__ENDPOINT": self.store.endpoint,
            "OBJECT_STORE__BUCKET": "sightline",
            "OBJECT_STORE__ACCESS_KEY": self.store.access_key,
            "OBJECT_STORE__SECRET_KEY": self.store.secret_key,
            "TRITON__URLS": ",".join(triton.grpc_url for triton in self.tritons),
        }

    def upload(self, alias: str = "default") -> int:
        """Make a version whose weights differ from every other's, and put it into the store."""
        version = self._next[alias]
        self._next[alias] += 1
        folder = self.made(alias, version)
        write_model_version(folder, alias=alias, version=version, size_px=self._side_px, seed=version)
        self.models.upload(folder)
        return version

    def made(self, alias: str, version: int) -> Path:
        return self.folder / "made" / alias / str(version)

    def promote(self, version: int, alias: str = "default") -> None:
        """Add a version and make it live."""
        self.registry.change(alias, functools.partial(aliases.add, version=version, **WHO))
        self.registry.change(alias, functools.partial(aliases.promote, version=version, **WHO))

    def status(self, number: int = 0) -> serving_service_pb2.GetStatusResponse:
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_ports[number]}") as channel:
            stub = serving_service_pb2_grpc.ServingServiceStub(channel)
            return stub.GetStatus(serving_service_pb2.GetStatusRequest(), timeout=5)

    def state(self, alias: str, version: int, number: int = 0) -> int:
        found = [v.state for v in self.status(number).versions if (v.alias, v.version) == (alias, version)]
        return found[0] if found else serving_service_pb2.VERSION_STATE_UNSPECIFIED

    def wait_until_warm(self, version: int, alias: str = "default") -> None:
        """Wait until every Triton has it; readiness does not tell, an agent with nothing to load has it too."""
        warm = serving_service_pb2.VERSION_STATE_WARM
        for number, agent in enumerate(self.agents):
            wait_until(agent.ready, what=f"readiness of agent {number}")
            wait_until(
                lambda n=number: self.state(alias, version, n) == warm, what=f"version {version} at agent {number}"
            )  # type: ignore[misc]

    def expected(self, version: int, batch: np.ndarray, alias: str = "default") -> np.ndarray:
        """Scores of the version computed here, in torch."""
        folder = self.made(alias, version)
        module = load_serving_module(verify_version(folder), read_weights(folder), "cpu", "float32")
        return module(torch.from_numpy(batch)).scores.numpy()

    def client(self) -> TritonInferenceClient:
        return TritonInferenceClient([triton.grpc_url for triton in self.tritons])
