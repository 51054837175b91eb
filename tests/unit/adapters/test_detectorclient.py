"""The client of ``DetectorService``, at a real port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.adapters.detectorclient import DetectorClient
from services.core.errors import BusyError, DeadlineError, InvalidInputError, SightlineError, UnavailableError
from services.core.types import Verdict
from services.local.process import free_port
from tests.support.model_changes import DetectorStub, ToldDetector


@pytest.fixture
def told() -> ToldDetector:
    return ToldDetector(version=7, says={"part-1": Verdict.FAIL})


@pytest.fixture
def client(told: ToldDetector) -> Iterator[DetectorClient]:
    stub = DetectorStub(told)
    client = DetectorClient(f"127.0.0.1:{stub.port}")
    yield client
    client.close()
    stub.stop()


def inspect(client: DetectorClient, part_id: str = "part-1", timeout_s: float = 10.0) -> object:
    return client.inspect(b"a picture", product="disc", part_id=part_id, timeout_s=timeout_s)


def test_an_answer_says_which_version_gave_it(client: DetectorClient, told: ToldDetector) -> None:
    said = client.inspect(b"a picture", product="disc", part_id="part-1", timeout_s=10)
    assert (said.verdict, said.alias, said.model_version, said.part_id) == (Verdict.FAIL, "default", 7, "part-1")
    assert told.images == [b"a picture"]


@pytest.mark.parametrize("error", [InvalidInputError, BusyError, DeadlineError, UnavailableError])
def test_an_error_of_the_service_is_the_domain_s(
    client: DetectorClient, told: ToldDetector, error: type[SightlineError]
) -> None:
    told.fails["part-1"] = error("a rule, and what was received")
    with pytest.raises(error, match="a rule, and what was received"):
        inspect(client)


def test_a_service_that_is_away_or_fails_is_unavailable(client: DetectorClient, told: ToldDetector) -> None:
    told.fails["part-1"] = RuntimeError("a bug")  # type: ignore[assignment]
    with pytest.raises(UnavailableError, match="the detector must answer, got UNKNOWN"):
        inspect(client)
    gone = DetectorClient(f"127.0.0.1:{free_port()}")
    with pytest.raises(UnavailableError, match="the detector must answer, got UNAVAILABLE"):
        inspect(gone)
    gone.close()
    with pytest.raises(UnavailableError, match="before its client is closed"):
        inspect(gone)
