"""What a service tells of itself, and that it does not speak for others."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client import REGISTRY
from prometheus_client.exposition import generate_latest

from services.runtime import metrics
from services.runtime.lifecycle import Health
from services.runtime.ops import OpsServer
from services.runtime.settings import OpsSettings


@pytest.mark.parametrize("service", metrics.SERVICES)
def test_a_service_tells_its_own_metrics_and_those_of_nobody_in_particular(service: str) -> None:
    # The whole registry has gauges of each service, at 0 in every process.
    told = generate_latest(metrics.of_service(service)).decode()
    names = {line.split()[2] for line in told.splitlines() if line.startswith("# TYPE sightline_")}
    others = [name for name in metrics.SERVICES if name != service]
    assert not [name for name in names if name.startswith(tuple(f"sightline_{other}_" for other in others))]
    assert any(name.startswith(f"sightline_{service}_") for name in names)
    assert "sightline_build_info" in names
    assert "process_resident_memory_bytes" in told


def test_every_metric_belongs_to_a_service_or_to_all() -> None:
    known = tuple(f"sightline_{name}_" for name in (*metrics.SERVICES, "build", "tls", "grpc"))
    ours = [family.name for family in REGISTRY.collect() if family.name.startswith("sightline")]
    assert [name for name in ours if not f"{name}_".startswith(known)] == []


def test_the_ops_port_of_one_service_is_silent_about_another_s_triton() -> None:
    server = OpsServer(OpsSettings(host="127.0.0.1", port=0), Health(), metrics.of_service("ingest"))
    server.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            told = answer.read().decode()
    finally:
        server.stop()
    assert "sightline_ingest_spool_bytes" in told
    assert "sightline_serving_triton_up" not in told
