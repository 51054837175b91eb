"""A real Triton: it starts, dies with its owner and comes back; the client survives what happens to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from services.adapters.ports import InferenceResult
from services.adapters.sharedmemory import RegionPool, sweep_stale
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.adapters.tritonendpoint import REGION_PREFIX, Endpoint
from services.core.errors import ModelFormatError, NotFoundError, UnavailableError
from services.local.triton import LocalTriton
from tests.support.toy_triton import expected_scores, toy_images, write_toy_model

pytestmark = pytest.mark.integration

MODEL = "toy-v1"


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def load(triton: LocalTriton, *names: str) -> None:
    control = TritonControl(triton.grpc_url)
    for name in names:
        control.load(name, 30)
    control.close()


@pytest.fixture
def triton(tmp_path: Path) -> Iterator[LocalTriton]:
    write_toy_model(tmp_path / "repository", MODEL)
    server = LocalTriton(tmp_path / "repository")
    server.start()
    yield server
    # An orderly stop takes Triton two seconds; one test looks at it.
    server.kill()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[LocalTriton]]:
    servers = [LocalTriton(tmp_path / name) for name in ("one", "two")]
    for server in servers:
        write_toy_model(server.repository, MODEL, delay_s=0.01)
        server.start()
        load(server, MODEL)
    yield servers
    for server in servers:
        server.kill()


# ---- the server


def test_a_killed_server_comes_back_empty_on_the_same_ports(triton: LocalTriton) -> None:
    load(triton, MODEL)
    url = triton.grpc_url
    triton.kill()
    assert not triton.running
    triton.start()
    assert triton.grpc_url == url
    control = TritonControl(url)
    assert control.is_live()
    assert control.ready_models() == frozenset()
    control.close()


def test_a_stopped_server_leaves_no_process_and_no_shared_memory(triton: LocalTriton) -> None:
    load(triton, MODEL)
    pid = triton.pid
    triton.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not list(Path("/dev/shm").glob(f"sightline-backend-{triton.grpc_url.rsplit(':', 1)[1]}-*"))


def test_the_server_and_its_models_die_with_their_owner(tmp_path: Path) -> None:
    write_toy_model(tmp_path / "repository", MODEL)
    owner = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from services.adapters.triton import TritonControl
        from services.local.triton import LocalTriton

        server = LocalTriton(Path({str(tmp_path / "repository")!r}))
        server.start()
        TritonControl(server.grpc_url).load({MODEL!r}, 30)
        print(server.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", owner], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    repository = str(tmp_path / "repository").encode()

    def processes() -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if repository in (folder / "cmdline").read_bytes():
                    found.append(folder.name)
            except OSError:
                continue
        return found

    wait_until(lambda: not processes(), 15)


def test_two_servers_take_ports_of_their_own(pair: list[LocalTriton]) -> None:
    urls = {url for server in pair for url in (server.grpc_url, server.http_url, server.metrics_url)}
    assert len(urls) == 6


# ---- control


def test_unload_returns_when_the_model_is_gone_and_again_without_error(triton: LocalTriton) -> None:
    control = TritonControl(triton.grpc_url)
    control.load(MODEL, 30)
    assert control.ready_models() == {MODEL}
    control.unload(MODEL, 10)
    assert control.ready_models() == frozenset()
    control.unload(MODEL, 10)
    control.unload("never-heard-of-v1", 10)
    control.close()


def test_what_is_ready_can_be_asked_while_the_repository_changes(triton: LocalTriton) -> None:
    load(triton, MODEL)
    control = TritonControl(triton.grpc_url)
    over = threading.Event()

    def change() -> None:
        folder = triton.repository / ".being-written"
        while not over.wait(0.002):
            folder.mkdir()
            over.wait(0.002)
            folder.rmdir()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert {control.ready_models() for _ in range(300)} == {frozenset({MODEL})}
        control.unload(MODEL, 30)
    finally:
        over.set()
        thread.join(10)
    assert control.ready_models() == frozenset()
    control.close()


def test_a_model_that_fails_to_load_is_refused_with_its_own_words(triton: LocalTriton) -> None:
    write_toy_model(triton.repository, "broken-v1", broken=True)
    control = TritonControl(triton.grpc_url)
    with pytest.raises(ModelFormatError, match="this model was made to fail"):
        control.load("broken-v1", 30)
    with pytest.raises(ModelFormatError, match="missing-v1"):
        control.load("missing-v1", 30)
    assert control.ready_models() == frozenset()
    control.close()


def test_control_of_a_server_that_is_away_says_so(triton: LocalTriton) -> None:
    control = TritonControl(triton.grpc_url, timeout_s=1.0)
    triton.kill()
    assert not control.is_live()
    with pytest.raises(UnavailableError):
        control.ready_models()
    with pytest.raises(UnavailableError):
        control.load(MODEL, 1)
    with pytest.raises(UnavailableError):
        control.unload(MODEL, 1)
    control.close()


# ---- several servers


def answered(server: LocalTriton) -> int:
    endpoint = Endpoint(server.grpc_url, "off")
    statistics = endpoint.stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=MODEL))
    endpoint.close([])
    return int(statistics.model_stats[0].inference_stats.success.count)


def test_work_is_spread_over_both_servers(pair: list[LocalTriton]) -> None:
    client = TritonInferenceClient([server.grpc_url for server in pair])
    futures = [client.infer(MODEL, toy_images(2, seed=seed), 20) for seed in range(40)]
    for future in futures:
        future.result(20)

    def counts() -> list[int]:
        return [answered(server) for server in pair]

    # Triton counts an answer a moment after it has sent it.
    wait_until(lambda: sum(counts()) == 40)
    assert min(counts()) >= 8
    client.close()


def test_one_server_killed_in_the_middle_of_the_work_costs_no_answer(pair: list[LocalTriton]) -> None:
    client = TritonInferenceClient([server.grpc_url for server in pair])
    asked: list[tuple[np.ndarray, Future[InferenceResult]]] = []
    for number in range(240):
        images = toy_images(1 + number % 4, seed=number)
        asked.append((images, client.infer(MODEL, images, 20)))
        if number == 60:
            pair[0].kill()
        if number == 160:
            pair[0].start()
            load(pair[0], MODEL)
        time.sleep(0.004)
    for images, future in asked:
        np.testing.assert_allclose(future.result(20).score, expected_scores(images), rtol=1e-5)
    wait_until(lambda: len(client.healthy_urls()) == 2)
    client.close()


def test_a_server_that_hangs_costs_no_answer_either(pair: list[LocalTriton]) -> None:
    client = TritonInferenceClient([server.grpc_url for server in pair])
    os.kill(pair[0].pid, signal.SIGSTOP)
    try:
        futures = [client.infer(MODEL, toy_images(2, seed=seed), 15) for seed in range(8)]
        for seed, future in enumerate(futures):
            np.testing.assert_allclose(future.result(20).score, expected_scores(toy_images(2, seed=seed)), rtol=1e-5)
        assert client.healthy_urls() == [pair[1].grpc_url]
    finally:
        os.kill(pair[0].pid, signal.SIGCONT)
    wait_until(lambda: len(client.healthy_urls()) == 2)
    client.close()


def test_a_model_that_only_one_server_has_is_found_there_but_not_warm_everywhere(pair: list[LocalTriton]) -> None:
    write_toy_model(pair[1].repository, "toy-v2", scale=0.5)
    load(pair[1], "toy-v2")
    client = TritonInferenceClient([server.grpc_url for server in pair])
    for seed in range(6):
        images = toy_images(3, seed=seed)
        np.testing.assert_allclose(
            client.infer("toy-v2", images, 10).result(10).score, expected_scores(images, 0.5), rtol=1e-5
        )
    assert not client.warm_everywhere("toy-v2")
    with pytest.raises(NotFoundError):
        client.infer("toy-v3", toy_images(1), 10).result(10)
    pair[0].kill()
    wait_until(lambda: client.warm_everywhere("toy-v2"))
    client.close()


def test_all_servers_gone_is_unavailable_and_soon_said(pair: list[LocalTriton]) -> None:
    client = TritonInferenceClient([server.grpc_url for server in pair])
    for server in pair:
        server.kill()
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        client.infer(MODEL, toy_images(1), 10).result(12)
    assert time.monotonic() - started < 5
    client.close()


def test_a_call_whose_time_is_over_is_unavailable(triton: LocalTriton) -> None:
    write_toy_model(triton.repository, "slow-v1", delay_s=1.5)
    load(triton, "slow-v1")
    client = TritonInferenceClient([triton.grpc_url])
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        client.infer("slow-v1", toy_images(1), 0.3).result(5)
    assert time.monotonic() - started < 1.2
    # The server is only slow: the next call finds it.
    assert client.infer("slow-v1", toy_images(1), 8).result(10).score.shape == (1,)
    client.close()


def test_closing_ends_what_is_in_flight(triton: LocalTriton) -> None:
    write_toy_model(triton.repository, "slow-v1", delay_s=1.5)
    load(triton, "slow-v1")
    client = TritonInferenceClient([triton.grpc_url])
    future = client.infer("slow-v1", toy_images(1), 10)
    client.close()
    with pytest.raises(UnavailableError):
        future.result(1)
    with pytest.raises(UnavailableError):
        client.infer("slow-v1", toy_images(1), 10).result(1)


# ---- shared memory


def registered(triton: LocalTriton) -> set[str]:
    endpoint = Endpoint(triton.grpc_url, "off")
    status = endpoint.stub.SystemSharedMemoryStatus(service_pb2.SystemSharedMemoryStatusRequest())
    endpoint.close([])
    return set(status.regions)


def test_shared_memory_works_again_after_the_server_was_restarted(triton: LocalTriton) -> None:
    load(triton, MODEL)
    client = TritonInferenceClient([triton.grpc_url], shared_memory="on")
    images = toy_images(4)
    client.infer(MODEL, images, 10).result(10)
    before = registered(triton)
    assert len(before) == 1
    triton.kill()
    triton.start()
    load(triton, MODEL)

    def scored() -> bool:
        try:
            np.testing.assert_allclose(client.infer(MODEL, images, 10).result(10).score, expected_scores(images), 1e-5)
        except UnavailableError:
            return False
        return True

    wait_until(scored)
    assert registered(triton) == before, "the same region is known to the new server"
    client.close()
    assert registered(triton) == set()


def test_what_a_killed_client_left_behind_is_swept_from_the_disk_and_from_the_server(triton: LocalTriton) -> None:
    load(triton, MODEL)
    left = textwrap.dedent(f"""
        import os, signal, numpy as np
        from services.adapters.triton import TritonInferenceClient

        client = TritonInferenceClient([{triton.grpc_url!r}], shared_memory="on")
        client.infer({MODEL!r}, np.ones((2, 8, 8, 3), np.uint8), 10).result(10)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", left], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (stale,) = registered(triton)
    assert (Path("/dev/shm") / stale).exists()
    client = TritonInferenceClient([triton.grpc_url], shared_memory="on")
    client.infer(MODEL, toy_images(2), 10).result(10)
    assert not (Path("/dev/shm") / stale).exists()
    assert stale not in registered(triton)
    client.close()


def test_the_sweep_leaves_regions_in_use_alone() -> None:
    pool = RegionPool(REGION_PREFIX, max_regions=2, max_bytes=1 << 20)
    region = pool.take(1000)
    assert region is not None
    assert region.name not in sweep_stale(REGION_PREFIX)
    assert (Path("/dev/shm") / region.name).exists()
    pool.give_back(region)
    assert pool.close() == [region.name]
    assert not (Path("/dev/shm") / region.name).exists()


def test_more_batches_in_flight_than_regions_are_sent_instead(triton: LocalTriton) -> None:
    load(triton, MODEL)
    client = TritonInferenceClient([triton.grpc_url], shared_memory="on", max_regions=2)
    batches = [toy_images(3, seed=seed) for seed in range(30)]
    futures = [client.infer(MODEL, batch, 20) for batch in batches]
    for batch, future in zip(batches, futures, strict=True):
        np.testing.assert_allclose(future.result(20).score, expected_scores(batch), rtol=1e-5)
    assert len(registered(triton)) == 2
    client.close()


def test_requests_from_many_threads_each_get_their_own_answer(triton: LocalTriton) -> None:
    load(triton, MODEL)
    client = TritonInferenceClient([triton.grpc_url])
    wrong: list[int] = []

    def ask(seed: int) -> None:
        for turn in range(10):
            images = toy_images(2, seed=100 * seed + turn)
            score = client.infer(MODEL, images, 20).result(20).score
            if not np.allclose(score, expected_scores(images), rtol=1e-5):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    client.close()
