"""What every ``ExplanationClient`` promises, on the one in memory and on a real Triton; values, not shapes."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from services.adapters.memory import MemoryTriton
from services.adapters.memory_explain import MemoryExplanationClient
from services.adapters.ports import ExplanationClient, ExplanationRequest, ExplanationStep
from services.adapters.triton import TritonControl
from services.adapters.tritonexplain import TritonExplanationClient
from services.core.errors import ExplanationError, InvalidInputError, NotFoundError, UnavailableError
from services.core.types import triton_explainer_name
from services.local.triton import LocalTriton
from services.serving.backend.engine import EngineRequest
from services.serving.backend.explained_version import ExplainedVersion
from services.serving.backend.explaining import Terms, explain
from services.serving.repository import ExplainingPlacement, Placement, write_explaining_entry
from tests.support.model_versions import write_model_version

MODEL = triton_explainer_name("default", 1)
SIDE_PX = 32
ENDLESS = 10**7


@dataclass
class Subject:
    """A client, and how to take away what it asks."""

    client: ExplanationClient
    stop_server: Callable[[], None]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> ExplainedVersion:
    folder = tmp_path_factory.mktemp("explained") / "version"
    write_model_version(folder, size_px=SIDE_PX)
    return ExplainedVersion("torch", EngineRequest(folder))


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    folder = tmp_path_factory.mktemp("contract")
    manifest = write_model_version(folder / "version", size_px=SIDE_PX)
    write_explaining_entry(
        folder / "repository",
        manifest,
        folder / "version",
        Placement(engine="torch"),
        ExplainingPlacement(nice=5, max_waiting=2),
    )
    with LocalTriton(folder / "repository") as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("triton", marks=pytest.mark.integration)])
def subject(request: pytest.FixtureRequest, version: ExplainedVersion) -> Iterator[Subject]:
    if request.param == "memory":
        server = MemoryTriton()
        server.loaded.add(MODEL)

        def asked(_name: str, image: np.ndarray, wanted: ExplanationRequest) -> Iterator[ExplanationStep]:
            return explain(version, image, wanted, Terms())

        yield Subject(MemoryExplanationClient(asked, [server]), lambda: setattr(server, "live", False))
        return
    triton: LocalTriton = request.getfixturevalue("triton")
    triton.start()
    control = TritonControl(triton.grpc_url)
    control.load(MODEL, 60)
    control.close()
    client = TritonExplanationClient([triton.grpc_url])
    yield Subject(client, triton.kill)
    client.close()


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


@pytest.mark.parametrize(("method", "target"), [("invrise", -1), ("rise-centred", 1), ("hirescam", -1), ("gradcam", 0)])
def test_the_map_is_the_one_that_the_seed_gives(
    subject: Subject, version: ExplainedVersion, method: str, target: int
) -> None:
    request = ExplanationRequest(method, target=target, seed=11, max_passes=128)
    (step,) = subject.client.explain(MODEL, image(), request, 60)
    (expected,) = explain(version, image(), request, Terms())
    np.testing.assert_allclose(step.map, expected.map, rtol=1e-4, atol=1e-5)
    assert np.nanstd(step.map) > 1e-4, "maps that are flat prove nothing"
    assert step.probability == pytest.approx(expected.probability, abs=1e-5)
    assert step.deletion_auc == pytest.approx(expected.deletion_auc, abs=1e-4)
    assert step.insertion_auc == pytest.approx(expected.insertion_auc, abs=1e-4)
    assert step.random_auc == pytest.approx(expected.random_auc, abs=1e-4)
    assert (step.passes, step.final, step.partial) == (expected.passes, True, False)


def test_maps_on_the_way_come_in_order_and_the_last_is_final(subject: Subject) -> None:
    request = ExplanationRequest("rise", max_passes=256, steps=True)
    steps = list(subject.client.explain(MODEL, image(), request, 60))
    passes = [step.passes for step in steps]
    assert passes == sorted(passes)
    assert passes[-2:] == [256, 256], "the last once at once and once with its evidence"
    assert len(steps) > 3
    assert [step.final for step in steps] == [False] * (len(steps) - 1) + [True]


def test_an_image_that_is_a_view_of_something_else_is_explained_as_it_looks(
    subject: Subject, version: ExplainedVersion
) -> None:
    turned = image()[::-1, :, ::-1]
    request = ExplanationRequest("rise", max_passes=64, evidence=False)
    (step,) = subject.client.explain(MODEL, turned, request, 60)
    (expected,) = explain(version, np.ascontiguousarray(turned), request, Terms())
    np.testing.assert_allclose(step.map, expected.map, atol=1e-5)


def test_a_budget_gives_the_map_so_far(subject: Subject) -> None:
    request = ExplanationRequest("rise", max_passes=ENDLESS, budget_ms=400)
    began_s = time.monotonic()
    (step,) = subject.client.explain(MODEL, image(), request, 60)
    assert time.monotonic() - began_s < 20
    assert step.partial
    assert 16 <= step.passes < ENDLESS


def test_a_closed_explanation_gives_no_more_and_leaves_room_for_the_next(subject: Subject) -> None:
    endless = subject.client.explain(MODEL, image(), ExplanationRequest("rise", max_passes=ENDLESS, steps=True), 300)
    assert not next(endless).final
    endless.close()
    endless.close()
    assert list(endless) == []
    # The model makes one at a time: this one's map shows that the other is no longer made.
    (step,) = subject.client.explain(MODEL, image(), ExplanationRequest("rise", max_passes=32), 60)
    assert step.final


def test_an_explanation_that_nobody_holds_any_more_is_given_up(subject: Subject) -> None:
    endless = subject.client.explain(MODEL, image(), ExplanationRequest("rise", max_passes=ENDLESS, steps=True), 300)
    next(endless)
    del endless
    gc.collect()
    (step,) = subject.client.explain(MODEL, image(), ExplanationRequest("rise", max_passes=32), 60)
    assert step.final


def test_explanations_asked_together_are_not_mixed_up(subject: Subject, version: ExplainedVersion) -> None:
    requests = [ExplanationRequest("invrise-soft", seed=seed, max_passes=64, evidence=False) for seed in range(2)]
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        (step,) = subject.client.explain(MODEL, image(number), requests[number], 60)
        found[number] = step.map

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(2):
        (expected,) = explain(version, image(number), requests[number], Terms())
        np.testing.assert_allclose(found[number], expected.map, atol=1e-5)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (ExplanationRequest("tea-leaves"), "unknown_method"),
        (ExplanationRequest("rise", target=7), "invalid_input"),
    ],
)
def test_what_cannot_be_explained_says_why(subject: Subject, request_: ExplanationRequest, reason: str) -> None:
    with pytest.raises((ExplanationError, InvalidInputError)) as raised:
        list(subject.client.explain(MODEL, image(), request_, 60))
    assert raised.value.reason == reason


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (8, 8), (8, 8, 4)])
def test_what_is_no_image_is_refused_at_once(subject: Subject, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="image must be uint8"):
        subject.client.explain(MODEL, np.zeros(shape, np.uint8), ExplanationRequest("rise"), 5)


def test_a_model_that_is_not_loaded_is_not_found(subject: Subject) -> None:
    with pytest.raises(NotFoundError, match="loaded"):
        list(subject.client.explain("explain-default-v2", image(), ExplanationRequest("rise"), 5))
    assert not subject.client.is_loaded("explain-default-v2")
    assert subject.client.is_loaded(MODEL)


def test_without_a_server_nothing_is_explained_and_nothing_is_loaded(subject: Subject) -> None:
    subject.stop_server()
    with pytest.raises(UnavailableError):
        list(subject.client.explain(MODEL, image(), ExplanationRequest("rise"), 2))
    assert not subject.client.is_loaded(MODEL)


def test_a_server_that_goes_in_the_middle_is_unavailable(subject: Subject) -> None:
    endless = subject.client.explain(MODEL, image(), ExplanationRequest("rise", max_passes=ENDLESS, steps=True), 60)
    next(endless)
    subject.stop_server()
    with pytest.raises(UnavailableError):
        list(endless)


def test_closing_ends_what_is_in_flight_and_twice_is_no_error(subject: Subject) -> None:
    endless = subject.client.explain(MODEL, image(), ExplanationRequest("rise", max_passes=ENDLESS, steps=True), 60)
    next(endless)
    subject.client.close()
    subject.client.close()
    with pytest.raises(UnavailableError):
        list(endless)
    with pytest.raises(UnavailableError):
        subject.client.explain(MODEL, image(), ExplanationRequest("rise"), 5)
    assert not subject.client.is_loaded(MODEL)
