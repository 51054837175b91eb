"""The serving agent on ports in memory: what it loads, restores, refuses, retries and unloads."""

from __future__ import annotations

import functools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.adapters.memory import (
    MemoryBroker,
    MemoryInferenceClient,
    MemoryModelControl,
    MemoryObjectStore,
    MemoryRecordWriter,
    MemoryTopicReader,
    MemoryTriton,
)
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.ports import InferenceResult
from services.core import alias as aliases
from services.core.topics import MODELS
from services.runtime.lifecycle import Health, Shutdown
from services.serving.agent import ServingAgent
from services.serving.backend.apart import version_digest
from services.serving.backend.record import Candidate, Choice, Key, write_choice
from services.serving.bringup import BringUp
from services.serving.explainers import Explainers
from services.serving.repository import ExplainingPlacement, Placement
from services.serving.versions import VersionKey, VersionState
from tests.support.model_versions import write_model_version

WHO = {"actor": "mira", "at_ns": 1}
EMBEDDING = {"customnet": 0}


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of default 1 to 4 and weld 1."""
    root = tmp_path_factory.mktemp("made")
    for alias, version in (("default", 1), ("default", 2), ("default", 3), ("default", 4), ("weld", 1)):
        manifest = write_model_version(root / alias / str(version), alias=alias, version=version, size_px=16)
        EMBEDDING["customnet"] = manifest.embedding_size
    return root


class Line:
    """An agent with everything around it in memory, and a clock of its own."""

    def __init__(self, versions: Path, tmp_path: Path) -> None:
        self.now_s = 100.0
        self.explaining: ExplainingPlacement | None = None
        self.placement = Placement()
        self.broker = MemoryBroker()
        self.triton = MemoryTriton()
        self.control = MemoryModelControl(self.triton)
        self.objects = MemoryObjectStore()
        self.store = ModelStore(self.objects)
        self.repository, self.data = tmp_path / "repository", tmp_path / "data"
        self.answer: Callable[[str, np.ndarray], InferenceResult] = right_answer
        self.client = MemoryInferenceClient(self.ask, [self.triton])
        self.health = Health()
        self.writer = ModelRegistry(MemoryTopicReader(self.broker, [MODELS]), MemoryRecordWriter(self.broker))
        self.versions = versions
        self.agent = self.new_agent()

    def ask(self, name: str, images: np.ndarray) -> InferenceResult:
        """Answer as the test says at the time."""
        return self.answer(name, images)

    def new_agent(self) -> ServingAgent:
        self.registry = ModelRegistry(MemoryTopicReader(self.broker, [MODELS]))
        bring_up = BringUp(self.store, self.control, self.client, self.repository, self.data, self.placement)
        return ServingAgent(
            self.registry,
            bring_up,
            self.health,
            unload_grace_s=60.0,
            keep_on_disk_s=3600.0,
            explainers=Explainers(bring_up, self.explaining, clock=lambda: self.now_s),
            clock=lambda: self.now_s,
        )

    def publish(self, alias: str, version: int) -> None:
        self.store.upload(self.versions / alias / str(version))
        self.writer.change(alias, functools.partial(aliases.add, version=version, **WHO))
        self.promote(alias, version)

    def promote(self, alias: str, version: int) -> None:
        self.writer.change(alias, functools.partial(aliases.promote, version=version, **WHO))

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass and the agent work until it has nothing under way."""
        self.now_s += seconds
        for _ in range(2):
            self.registry.read_all()
            self.agent.turn()
            deadline = time.monotonic() + 20
            explainers = self.agent._explainers
            while any(one.busy for one in (*self.agent._tracked.values(), *explainers._known.values())):
                assert time.monotonic() < deadline
                time.sleep(0.002)
            self.now_s += 0.001
        self.agent.turn()

    def states(self) -> dict[str, VersionState]:
        return {status.key.model_name: status.state for status in self.agent.board.snapshot()}


def right_answer(_name: str, images: np.ndarray) -> InferenceResult:
    count, embedding = len(images), EMBEDDING["customnet"]
    return InferenceResult(
        np.zeros(count, np.float32),
        np.zeros((count, 2), np.float32),
        np.zeros((count, embedding), np.float32),
        np.zeros(count, np.float32),
    )


@pytest.fixture
def line(versions: Path, tmp_path: Path) -> Iterator[Line]:
    line = Line(versions, tmp_path)
    line.health.set_ready(True)
    yield line
    line.agent._pool.shutdown(wait=True)


def test_an_empty_topic_makes_a_ready_agent_with_nothing_loaded(line: Line) -> None:
    assert not line.health.ready
    line.turn()
    assert line.health.ready
    assert line.triton.loaded == set()


def test_live_previous_and_shadow_are_loaded_and_candidates_are_not(line: Line) -> None:
    for version in (1, 2, 3):
        line.publish("default", version)
    line.store.upload(line.versions / "default" / "4")
    line.writer.change("default", functools.partial(aliases.add, version=4, **WHO))
    line.writer.change("default", functools.partial(aliases.shadow, version=1, **WHO))
    line.turn()
    assert line.triton.loaded == {"default-v1", "default-v2", "default-v3"}
    assert set(line.states().values()) == {VersionState.WARM}
    assert line.health.ready


def test_it_is_not_ready_before_what_is_wanted_is_warm(line: Line) -> None:
    line.publish("default", 1)
    release = threading.Event()
    line.answer = lambda name, images: (release.wait(10), right_answer(name, images))[1]
    line.registry.read_all()
    line.agent.turn()
    line.agent.turn()
    assert not line.health.ready
    release.set()
    line.turn()
    assert line.health.ready


def test_a_version_is_asked_at_batch_one_and_at_the_largest_before_it_is_called_warm(line: Line) -> None:
    line.placement = Placement(threads=2)
    line.agent = line.new_agent()
    line.publish("default", 1)
    line.turn()
    assert line.client.calls == [("default-v1", 1), ("default-v1", 16)]


def test_a_version_that_came_up_gently_is_asked_at_batch_one_alone(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    assert line.client.calls == [("default-v1", 1)]


def test_what_it_loads_is_copied_to_the_local_disk_and_named_in_the_entry(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    folder = line.data / "versions" / "default" / "1"
    assert (folder / "weights.safetensors").is_file()
    assert str(folder) in (line.repository / "default-v1" / "config.pbtxt").read_text()


def test_a_new_version_wanted_later_does_not_take_readiness_back(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    told: list[bool] = []
    line.health.on_change(told.append)
    line.publish("default", 2)
    line.turn()
    assert line.triton.loaded == {"default-v1", "default-v2"}
    assert told == [True]


def test_after_a_restart_of_triton_everything_is_loaded_again_before_it_is_ready(line: Line) -> None:
    line.publish("default", 1)
    line.publish("default", 2)
    line.turn()
    restarts = REGISTRY.get_sample_value("sightline_serving_triton_restarts_total") or 0.0
    line.triton.restart()
    line.agent.turn()
    assert not line.health.ready
    line.turn()
    assert line.triton.loaded == {"default-v1", "default-v2"}
    assert line.health.ready
    assert REGISTRY.get_sample_value("sightline_serving_triton_restarts_total") == restarts + 1


def test_a_triton_that_does_not_answer_makes_it_not_ready_and_is_restored_when_it_is_back(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    line.triton.live = False
    line.turn()
    assert not line.health.ready
    assert line.health.describe()["waiting_for"] == {"triton": "Triton does not answer"}
    line.triton.restart()
    line.turn(120)
    assert line.states() == {"default-v1": VersionState.WARM}
    assert line.health.ready


def test_a_version_that_is_not_wanted_is_unloaded_after_the_grace_and_not_before(line: Line) -> None:
    for version in (1, 2, 3):
        line.publish("default", version)
        line.turn()
    assert line.triton.loaded == {"default-v1", "default-v2", "default-v3"}
    line.turn(59)
    assert "default-v1" in line.triton.loaded
    line.turn(2)
    assert line.triton.loaded == {"default-v2", "default-v3"}
    assert not (line.repository / "default-v1").exists()
    assert set(line.states()) == {"default-v2", "default-v3"}
    assert (line.data / "versions" / "default" / "1").is_dir(), "its copy is kept for a quick way back"


def test_a_version_wanted_again_within_the_grace_stays(line: Line) -> None:
    for version in (1, 2, 3):
        line.publish("default", version)
    line.turn()
    line.promote("default", 1)
    line.turn(100)
    assert "default-v1" in line.triton.loaded
    assert len([call for call in line.client.calls if call[0] == "default-v1"]) == 1, "it was not warmed a second time"


def test_a_tampered_version_is_refused_reported_and_not_tried_again(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    line.publish("default", 2)
    line.objects.put("models/default/2/weights.safetensors", b"something else")
    line.turn()
    line.turn(1000)
    statuses = {status.key: status for status in line.agent.board.snapshot()}
    refused = statuses[VersionKey("default", 2)]
    assert refused.state is VersionState.FAILED
    assert "weights.safetensors" in refused.detail
    assert line.agent._tracked[VersionKey("default", 2)].tried_at_s < 110, "one try was enough"
    assert line.triton.loaded == {"default-v1"}
    assert line.health.ready
    failures = REGISTRY.get_sample_value("sightline_serving_load_failures_total", {"model": "default-v2"})
    assert failures is not None


def test_a_refused_version_is_tried_again_when_its_alias_changes(line: Line) -> None:
    line.publish("default", 1)
    good = line.objects.get("models/default/1/weights.safetensors")
    line.objects.put("models/default/1/weights.safetensors", b"something else")
    line.turn()
    assert line.states() == {"default-v1": VersionState.FAILED}
    line.objects.put("models/default/1/weights.safetensors", good)
    line.publish("default", 2)
    line.turn()
    assert line.states() == {"default-v1": VersionState.WARM, "default-v2": VersionState.WARM}


def test_a_load_that_triton_refuses_is_tried_again_and_the_other_alias_is_not_held_up(line: Line) -> None:
    line.triton.refusals["default-v1"] = "out of memory"
    line.publish("default", 1)
    line.publish("weld", 1)
    line.turn()
    assert line.states() == {"default-v1": VersionState.FAILED, "weld-v1": VersionState.WARM}
    assert line.health.ready
    line.triton.refusals.clear()
    line.turn(120)
    assert line.states()["default-v1"] is VersionState.WARM


def test_a_refusal_that_names_the_files_is_final(line: Line) -> None:
    line.triton.refusals["default-v1"] = "model_format: weights.safetensors: must hold features.0.weight"
    line.publish("default", 1)
    line.turn()
    line.triton.refusals.clear()
    line.turn(1000)
    assert line.states() == {"default-v1": VersionState.FAILED}


def test_while_the_object_store_is_away_a_live_version_is_waited_for(line: Line) -> None:
    line.publish("default", 1)
    line.objects.unavailable = True
    line.turn()
    assert line.states() == {"default-v1": VersionState.FAILED}
    assert not line.health.ready
    line.objects.unavailable = False
    line.turn(120)
    assert line.health.ready


def test_a_version_that_is_not_in_the_store_does_not_keep_the_others_from_their_work(line: Line) -> None:
    line.publish("weld", 1)
    line.writer.change("default", functools.partial(aliases.add, version=1, **WHO))
    line.promote("default", 1)
    line.turn()
    assert line.states() == {"default-v1": VersionState.FAILED, "weld-v1": VersionState.WARM}
    assert line.health.ready


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            lambda count: InferenceResult(
                np.zeros(count), np.zeros((count, 3)), np.zeros((count, 4)), np.zeros((count, 1))
            ),
            "answer shapes",
        ),
        (
            lambda count: InferenceResult(
                np.full(count, np.nan),
                np.zeros((count, 2)),
                np.zeros((count, EMBEDDING["customnet"])),
                np.zeros(count),
            ),
            "finite",
        ),
        (
            lambda count: InferenceResult(
                np.zeros(count),
                np.zeros((count, 2)),
                np.zeros((count, EMBEDDING["customnet"])),
                np.full(count, np.nan),
            ),
            "finite",
        ),
    ],
)
def test_a_version_whose_answers_are_not_what_its_manifest_says_is_refused(
    line: Line, answer: Callable[[int], InferenceResult], why: str
) -> None:
    line.answer = lambda _name, images: answer(len(images))
    line.publish("default", 1)
    line.turn()
    (status,) = line.agent.board.snapshot()
    assert status.state is VersionState.FAILED
    assert why in status.detail


def test_a_new_agent_keeps_what_the_last_one_loaded(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    loads: list[str] = []
    line.control.load = lambda name, _timeout_s: loads.append(name)  # type: ignore[method-assign]
    line.agent = line.new_agent()
    line.turn()
    assert line.states() == {"default-v1": VersionState.WARM}
    assert loads == []


def test_a_new_agent_unloads_what_the_last_one_left_behind_and_nothing_foreign(line: Line) -> None:
    line.triton.loaded |= {"default-v9", "somebody-elses-model"}
    line.turn()
    line.turn(61)
    assert line.triton.loaded == {"somebody-elses-model"}


def test_a_model_loaded_from_another_entry_is_loaded_from_ours(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    (line.repository / "default-v1" / "config.pbtxt").write_text("# written by another release")
    line.agent = line.new_agent()
    line.turn()
    assert str(line.data) in (line.repository / "default-v1" / "config.pbtxt").read_text()


def test_a_damaged_local_copy_is_fetched_again(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    (line.data / "versions" / "default" / "1" / "weights.safetensors").write_bytes(b"bit rot")
    line.triton.restart()
    line.turn()
    assert line.states() == {"default-v1": VersionState.WARM}


def test_a_broker_that_is_away_changes_nothing(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    line.broker.unavailable = True
    line.agent._follow(0.0)
    line.agent.turn()
    assert line.health.ready
    assert line.triton.loaded == {"default-v1"}


def test_old_copies_leave_the_disk_and_those_in_use_stay(line: Line) -> None:
    line.publish("default", 1)
    line.turn()
    versions = line.data / "versions"
    for name in ("7", "8"):
        shutil.copytree(versions / "default" / "1", versions / "default" / name)
    derived = line.data / "derived" / "openvino-abc"
    used = line.data / "derived" / f"choice-{version_digest(versions / 'default' / '1')}"
    for folder in (derived, used):
        folder.mkdir(parents=True)
    long_ago_s = time.time() - 7200
    for folder in (versions / "default" / "1", versions / "default" / "7", derived, used):
        os.utime(folder, (long_ago_s, long_ago_s))
    line.turn(4000)
    assert sorted(folder.name for folder in (versions / "default").iterdir()) == ["1", "8"]
    assert not derived.exists()
    assert used.exists()


def test_the_agent_tells_what_serves_a_version_why_and_what_was_measured(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    folder = line.versions / "default" / "1"
    candidates = (
        Candidate("torch", "float32", 10.0, 1.0, 0.0),
        Candidate("tensorrt", "float16", 90.0, 0.5, 0.3, "off"),
    )
    key = Key(version_digest(folder), "a processor", {}, "auto", 1, 16)
    choice = Choice(key, "auto", "torch", "float32", "openvino: is missing", candidates=candidates)
    write_choice(line.data / "derived", choice, "cpu")
    line.publish("default", 1)
    with caplog.at_level("INFO"):
        line.turn()

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"sightline_serving_engine{name}", {"model": "default-v1"} | labels)

    served, slow = ({"engine": one.engine, "precision": one.precision} for one in candidates)
    assert value("", **served) == 1
    assert value("_images_per_second", **slow) == 90.0
    assert value("_verdicts_equal_ratio", **slow) == 0.5
    assert value("_fallbacks_total") == 1
    assert "default-v1 is served on cpu by torch float32 (openvino: is missing)" in caplog.text
    line.agent.board.forget(VersionKey("default", 1))
    assert value("", **served) is None
    assert value("_images_per_second", **slow) is None


def test_run_ends_soon_after_the_stop_is_asked_for_and_leaves_what_is_loaded(line: Line) -> None:
    line.publish("default", 1)
    shutdown = Shutdown()
    thread = threading.Thread(target=line.agent.run, args=(shutdown, 0.01))
    line.registry.read_all()
    thread.start()
    deadline = time.monotonic() + 20
    while not line.health.ready and time.monotonic() < deadline:
        line.now_s += 0.01
        time.sleep(0.01)
    assert line.health.ready
    shutdown.request()
    thread.join(5)
    assert not thread.is_alive()
    assert not line.health.ready
    assert line.triton.loaded == {"default-v1"}


@pytest.fixture
def explained(line: Line) -> Line:
    """The same agent, told to explain."""
    line.explaining = ExplainingPlacement()
    line.agent = line.new_agent()
    return line


def test_live_and_previous_are_explained_and_a_shadow_is_not(explained: Line) -> None:
    for version in (1, 2, 3):
        explained.publish("default", version)
    explained.writer.change("default", functools.partial(aliases.shadow, version=1, **WHO))
    explained.turn()
    explained.turn()
    assert {name for name in explained.triton.loaded if name.startswith("explain-")} == {
        "explain-default-v2",
        "explain-default-v3",
    }
    assert set(explained.states()) == {"default-v1", "default-v2", "default-v3"}, "they are no versions"


def test_an_explaining_model_that_is_refused_or_slow_takes_nothing_from_readiness(explained: Line) -> None:
    explained.triton.refusals["explain-default-v1"] = "no memory"
    explained.publish("default", 1)
    explained.turn()
    explained.turn()
    assert explained.triton.loaded == {"default-v1"}
    assert explained.health.ready
    assert explained.states() == {"default-v1": VersionState.WARM}


def test_no_explaining_model_is_loaded_while_versions_come_up(explained: Line) -> None:
    explained.publish("default", 1)
    release = threading.Event()
    explained.answer = lambda name, images: (release.wait(10), right_answer(name, images))[1]
    explained.registry.read_all()
    for _ in range(5):
        explained.agent.turn()
    assert not explained.agent._explainers._known
    release.set()
    explained.turn()
    explained.turn()
    assert "explain-default-v1" in explained.triton.loaded


def test_explaining_models_leave_with_their_versions_after_the_grace_and_come_back_after_a_restart(
    explained: Line,
) -> None:
    for version in (1, 2, 3):
        explained.publish("default", version)
        explained.turn()
        explained.turn()
    assert "explain-default-v1" in explained.triton.loaded, "cases of it may be on their way"
    explained.triton.restart()
    explained.turn()
    explained.turn()
    assert {"explain-default-v2", "explain-default-v3"} < explained.triton.loaded
    explained.turn(70)
    explained.turn()
    assert explained.triton.loaded == {"default-v2", "default-v3", "explain-default-v2", "explain-default-v3"}


def test_a_new_agent_takes_charge_of_explaining_models_that_an_earlier_one_left(explained: Line) -> None:
    explained.publish("default", 1)
    explained.turn()
    explained.turn()
    explained.triton.loaded.add("explain-weld-v7")
    explained.agent = explained.new_agent()
    explained.turn()
    explained.turn()
    assert explained.triton.loaded == {"default-v1", "explain-default-v1"}
    assert set(explained.states()) == {"default-v1"}
