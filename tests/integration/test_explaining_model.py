"""The explaining model inside a real Triton: what it computes, when it stops, and how it comes and goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.adapters.ports import ExplanationRequest
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.adapters.tritonexplain import TritonExplanationClient
from services.core.errors import ExplanationError, InvalidInputError, UnavailableError
from services.core.manifest import ModelManifest
from services.core.types import triton_explainer_name
from services.local.triton import LocalTriton
from services.serving.backend.engine import EngineRequest
from services.serving.backend.explained_version import ExplainedVersion
from services.serving.backend.explaining import Terms, explain
from services.serving.repository import ExplainingPlacement, Placement, write_entry, write_explaining_entry
from services.serving.servicer import model_memory_bytes
from tests.support.model_versions import write_model_version
from tests.support.plant import SIDE_PX, wait_until

pytestmark = pytest.mark.integration

ENDLESS = ExplanationRequest("rise", max_passes=10**7, steps=True)
SHORT = ExplanationRequest("rise", max_passes=32, evidence=False)


class Explained:
    """One Triton with a version and the model that explains it."""

    def __init__(self, folder: Path, engine: str = "torch", **explaining: int) -> None:
        self.folder = folder
        self.manifest: ModelManifest = write_model_version(folder / "version", size_px=SIDE_PX)
        self.placement = Placement(engine=engine)  # type: ignore[arg-type]
        self.explaining = ExplainingPlacement(**explaining)
        self.triton = LocalTriton(folder / "models")
        self.name = triton_explainer_name("default", 1)
        self.version = ExplainedVersion("torch", EngineRequest(folder / "version"))

    def start(self) -> None:
        cache = self.folder / "derived"
        write_entry(self.triton.repository, self.manifest, self.folder / "version", self.placement, cache)
        write_explaining_entry(
            self.triton.repository, self.manifest, self.folder / "version", self.placement, self.explaining, cache
        )
        self.triton.start()
        self.control = TritonControl(self.triton.grpc_url)
        self.client = TritonExplanationClient([self.triton.grpc_url])
        self.control.load(self.name, 60)

    def stop(self) -> None:
        self.client.close()
        self.control.close()
        self.triton.kill()

    def processes(self) -> list[Path]:
        """Of the explaining model."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if (
                b"triton_python_backend_stub" in command
                and f"{self.triton.repository}/{self.name}/".encode() in command
            ):
                found.append(folder)
        return found

    def cpu_s(self) -> float:
        """What the explaining model's process has computed so far."""
        (folder,) = self.processes()
        user, system = (folder / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explained]:
    explained = Explained(tmp_path_factory.mktemp("explained"), nice=10, max_waiting=2)
    explained.start()
    yield explained
    explained.stop()


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


def test_it_runs_beside_the_others_with_the_niceness_that_it_was_given(explained: Explained) -> None:
    list(explained.client.explain(explained.name, image(), SHORT, 60))
    (folder,) = explained.processes()
    assert int((folder / "stat").read_text().rsplit(")", 1)[1].split()[16]) == min(19, os.nice(0) + 10)


def test_no_pass_is_made_once_the_caller_has_closed(explained: Explained) -> None:
    steps = explained.client.explain(explained.name, image(), ENDLESS, 120)
    next(steps)
    began_s, before_s = time.monotonic(), explained.cpu_s()
    for _ in range(6):
        next(steps)
    busy = (explained.cpu_s() - before_s) / (time.monotonic() - began_s)
    steps.close()

    def rests() -> bool:
        before_s = explained.cpu_s()
        time.sleep(0.3)
        return explained.cpu_s() - before_s <= 0.05

    assert busy > 0.02, "it must have been at work for its rest to mean anything"
    wait_until(rests, 10, "the end of the passes")


def test_no_pass_is_made_once_the_deadline_has_passed(explained: Explained) -> None:
    with pytest.raises(UnavailableError, match="DEADLINE_EXCEEDED"):
        list(explained.client.explain(explained.name, image(), replace(ENDLESS, steps=False), 0.5))
    (step,) = explained.client.explain(explained.name, image(), SHORT, 30)
    assert step.passes == 32


def test_those_that_wait_are_made_in_turn_and_more_than_may_wait_are_refused(explained: Explained) -> None:
    first = explained.client.explain(explained.name, image(), ENDLESS, 120)
    next(first)
    found: dict[int, int | str] = {}

    def ask(number: int) -> None:
        try:
            (step,) = explained.client.explain(explained.name, image(number), SHORT, 60)
            found[number] = step.passes
        except UnavailableError as error:
            found[number] = str(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    # Two may wait; the third is told at once.
    wait_until(lambda: len(found) == 1, 20)
    assert "at most 2" in str(next(iter(found.values())))
    first.close()
    for thread in threads:
        thread.join(60)
    assert sorted(map(str, found.values()))[:2] == ["32", "32"]


def test_one_that_is_closed_while_it_waits_is_never_made(explained: Explained) -> None:
    first = explained.client.explain(explained.name, image(), ENDLESS, 120)
    next(first)
    waiting = explained.client.explain(explained.name, image(), ENDLESS, 120)
    thread = threading.Thread(target=lambda: list(waiting))
    thread.start()
    waiting.close()
    thread.join(10)
    assert not thread.is_alive(), "whoever waits is let go"
    first.close()
    (step,) = explained.client.explain(explained.name, image(), SHORT, 30)
    assert step.final


def test_a_budget_ends_the_work_in_time_with_a_map_and_its_evidence(explained: Explained) -> None:
    request = ExplanationRequest("invrise-soft", max_passes=10**7, budget_ms=1500)
    (step,) = explained.client.explain(explained.name, image(), request, 60)
    assert step.partial
    assert step.passes >= 16
    assert np.isfinite(step.map).any()
    # Evidence is measured within the budget, one batch late at most; the rest is a busy machine's.
    assert step.seconds < 3


def test_an_image_of_another_size_is_refused(explained: Explained) -> None:
    with pytest.raises(InvalidInputError, match="shape"):
        list(explained.client.explain(explained.name, np.zeros((8, 8, 3), np.uint8), SHORT, 10))


def test_a_model_unloaded_at_once_after_an_answer_leaves_in_time_and_comes_back(explained: Explained) -> None:
    for _ in range(3):
        (step,) = explained.client.explain(explained.name, image(), SHORT, 60)
        explained.control.unload(explained.name, 30)
        assert not explained.client.is_loaded(explained.name)
        wait_until(lambda: not explained.processes(), 10)
        explained.control.load(explained.name, 60)
    assert step.final


def test_a_model_that_is_unloaded_in_the_middle_finishes_what_it_has(explained: Explained) -> None:
    request = ExplanationRequest("rise", max_passes=10**7, budget_ms=1500, steps=True, evidence=False)
    steps = explained.client.explain(explained.name, image(), request, 60)
    next(steps)
    explained.control.unload(explained.name, 60)
    assert list(steps)[-1].final
    assert not explained.client.is_loaded(explained.name)
    explained.control.load(explained.name, 60)


def test_memory_is_taken_only_once_something_is_explained(explained: Explained) -> None:
    explained.control.unload(explained.name, 30)
    explained.control.load(explained.name, 60)
    idle = model_memory_bytes(explained.triton.repository)[explained.name]
    list(explained.client.explain(explained.name, image(), SHORT, 60))
    assert 30e6 < idle < 150e6 < model_memory_bytes(explained.triton.repository)[explained.name]


def test_another_triton_is_asked_where_one_lacks_the_model_or_dies(tmp_path: Path, explained: Explained) -> None:
    other = Explained(tmp_path)
    other.start()
    urls = [other.triton.grpc_url, explained.triton.grpc_url]
    client = TritonExplanationClient(urls)
    try:
        steps = client.explain(explained.name, image(), ExplanationRequest("rise", max_passes=2000, steps=True), 120)
        assert not next(steps).final
        other.triton.kill()
        last = list(steps)[-1]
        assert (last.passes, last.final) == (2000, True), "it begins anew at the other"
        assert client.is_loaded(explained.name)
        other.triton.start()
        assert not TritonExplanationClient(urls[:1]).is_loaded(explained.name)
        (step,) = client.explain(explained.name, image(), SHORT, 60)
        assert step.final
    finally:
        client.close()
        other.stop()


def test_the_default_engine_gives_torchs_maps_and_grad_cam_comes_after_it_in_one_process(tmp_path: Path) -> None:
    explained = Explained(tmp_path, "auto")
    explained.start()
    try:
        explained.control.load("default-v1", 120)
        verdicts = TritonInferenceClient([explained.triton.grpc_url])
        score = verdicts.infer("default-v1", image()[None], 30).result(30).score[0]
        verdicts.close()
        for request in (
            ExplanationRequest("invrise-soft", seed=3, max_passes=128),
            ExplanationRequest("hirescam"),
            ExplanationRequest("gradcam", target=0),
            ExplanationRequest("rise-centred", seed=4, max_passes=64),
        ):
            (step,) = explained.client.explain(explained.name, image(), request, 120)
            (expected,) = explain(explained.version, image(), request, Terms())
            reach = float(np.nanmax(np.abs(expected.map)))
            np.testing.assert_allclose(step.map, expected.map, atol=2e-3 * reach)
            if request.target == -1:
                assert step.probability == pytest.approx(score, abs=1e-4), "it explains the score of the verdict"
        assert len(list((tmp_path / "derived").glob("openvino-*"))) == 1, "the verdict's translation is used"
    finally:
        explained.stop()


def test_a_network_without_convolutions_has_no_grad_cam_and_says_so(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In process: every architecture that can be made today has them.
    from torch import nn

    network = explained.version.network()
    monkeypatch.setattr(network, "features", nn.Flatten(2))
    with pytest.raises(ExplanationError) as raised:
        list(explain(explained.version, image(), ExplanationRequest("gradcam"), Terms()))
    assert raised.value.reason == "no_conv_layers"
