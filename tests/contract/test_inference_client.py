"""What every ``InferenceClient`` promises, on the one in memory and on a real Triton; values, not shapes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.adapters.memory import MemoryInferenceClient, MemoryTriton
from services.adapters.ports import InferenceClient, InferenceResult
from services.adapters.triton import TritonControl, TritonInferenceClient
from services.core.errors import InvalidInputError, NotFoundError, UnavailableError
from services.local.triton import LocalTriton
from tests.support.toy_triton import expected_scores, toy_images, write_toy_model

MODEL = "toy-v1"


@dataclass
class Subject:
    """A client, and how to take away what it asks."""

    client: InferenceClient
    stop_server: Callable[[], None]


def answer(_model_name: str, images: np.ndarray) -> InferenceResult:
    if images.max() == 13:
        raise InvalidInputError("thirteen is refused")
    score = expected_scores(images)
    channels = images.astype(np.float32).mean(axis=(1, 2))
    return InferenceResult(score, np.stack([1 - score, score], axis=1), channels, channels[:, 0] / 510)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    repository = tmp_path_factory.mktemp("contract") / "repository"
    write_toy_model(repository, MODEL)
    with LocalTriton(repository) as server:
        yield server


@pytest.fixture(
    params=[
        "memory",
        pytest.param("sent", marks=pytest.mark.integration),
        pytest.param("shared", marks=pytest.mark.integration),
    ]
)
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        server = MemoryTriton()
        server.loaded.add(MODEL)
        client: InferenceClient = MemoryInferenceClient(answer, [server])
        yield Subject(client, lambda: setattr(server, "live", False))
        return
    triton: LocalTriton = request.getfixturevalue("triton")
    triton.start()
    control = TritonControl(triton.grpc_url)
    control.load(MODEL, 20)
    client = TritonInferenceClient([triton.grpc_url], shared_memory="on" if request.param == "shared" else "off")
    yield Subject(client, triton.kill)
    client.close()
    control.close()
    # Whatever a test did: no region of ours is left behind.
    assert not list(Path("/dev/shm").glob(f"sightline-tensor-{os.getpid()}-*"))


@pytest.mark.parametrize("count", [1, 5, 16])
def test_answers_are_the_values_that_the_model_computes(subject: Subject, count: int) -> None:
    images = toy_images(count, seed=count)
    result = subject.client.infer(MODEL, images, 5.0).result(10)
    np.testing.assert_allclose(result.score, expected_scores(images), rtol=1e-5)
    np.testing.assert_allclose(result.probabilities[:, 0], 1 - expected_scores(images), rtol=1e-5)
    np.testing.assert_allclose(result.embedding, images.astype(np.float32).mean(axis=(1, 2)), rtol=1e-5)
    assert result.score.shape == (count,)
    np.testing.assert_allclose(result.disagreement, result.embedding[:, 0] / 510, rtol=1e-5)
    assert result.disagreement.shape == (count,)


def test_answers_of_batches_in_flight_together_are_not_mixed_up(subject: Subject) -> None:
    batches = [toy_images(1 + seed % 7, seed=seed) for seed in range(60)]
    futures = [subject.client.infer(MODEL, batch, 10.0) for batch in batches]
    for batch, future in zip(batches, futures, strict=True):
        np.testing.assert_allclose(future.result(10).score, expected_scores(batch), rtol=1e-5)


def test_images_that_are_a_view_of_something_else_are_scored_as_they_look(subject: Subject) -> None:
    images = toy_images(6)[::2, :, ::-1]
    result = subject.client.infer(MODEL, images, 5.0).result(10)
    np.testing.assert_allclose(result.embedding, images.astype(np.float32).mean(axis=(1, 2)), rtol=1e-5)


def test_the_callers_array_may_change_after_the_answer(subject: Subject) -> None:
    images = toy_images(2)
    result = subject.client.infer(MODEL, images, 5.0).result(10)
    expected = expected_scores(images)
    images[:] = 0
    np.testing.assert_allclose(result.score, expected, rtol=1e-5)


def test_a_model_that_is_not_loaded_is_not_found(subject: Subject) -> None:
    with pytest.raises(NotFoundError, match="loaded"):
        subject.client.infer("toy-v2", toy_images(1), 5.0).result(10)
    assert not subject.client.warm_everywhere("toy-v2")


def test_what_the_model_refuses_is_invalid_input(subject: Subject) -> None:
    with pytest.raises(InvalidInputError, match="thirteen is refused"):
        subject.client.infer(MODEL, np.full((1, 8, 8, 3), 13, np.uint8), 5.0).result(10)


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 4), (0, 8, 8, 3)])
def test_arrays_that_are_no_batch_of_images_are_invalid_input(subject: Subject, shape: tuple[int, ...]) -> None:
    if shape[0] == 0 and isinstance(subject.client, MemoryInferenceClient):
        pytest.skip("a function may answer an empty batch")
    with pytest.raises(InvalidInputError, match="images must be uint8"):
        subject.client.infer(MODEL, np.zeros(shape, np.uint8), 5.0).result(10)


def test_a_loaded_model_is_warm_everywhere(subject: Subject) -> None:
    assert subject.client.warm_everywhere(MODEL)


def test_without_a_server_answers_are_unavailable_and_nothing_is_warm(subject: Subject) -> None:
    subject.stop_server()
    with pytest.raises(UnavailableError):
        subject.client.infer(MODEL, toy_images(1), 2.0).result(10)
    assert not subject.client.warm_everywhere(MODEL)


def test_closing_twice_is_no_error(subject: Subject) -> None:
    subject.client.close()
    subject.client.close()
