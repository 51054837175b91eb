"""The explainer as a process, on a real broker, store and Triton whose agent loads explaining models."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from sightline.v1 import explainer_service_pb2, explainer_service_pb2_grpc

from services.adapters import codec
from services.adapters.codec_explained import decode_explained_case, explanation_from_message
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.tritonexplain import TritonExplanationClient
from services.core import alias as aliases
from services.core import topics
from services.core.imaging import encode_png
from services.core.types import Case, ExplainedCase, ExplanationStatus, triton_explainer_name
from services.local.member import Member, metric_total
from services.local.process import free_port
from services.local.servers import Servers
from tests.support.explainer_line import make_case
from tests.support.model_versions import write_model_version
from tests.support.plant import WHO, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

SIDE_PX = 48


def noise(seed: int) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8))


class Plant:
    """Servers, an agent and an explainer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers = Servers(folder, engine="memory", environ={})
        self.grpc_port = free_port()
        self.agent: Member
        self.explainer: Member

    def start(self) -> None:
        self.servers.start()
        common = self.servers.settings()
        write_model_version(self.folder / "v1", version=1, size_px=SIDE_PX, parts=3, seed=2)
        ModelStore(S3ObjectStore(self.servers.objects)).upload(self.folder / "v1")
        self.writer = KafkaRecordWriter(self.servers.kafka)
        self.reader = KafkaTopicReader(self.servers.kafka, [topics.EXPLAINED])
        self.seen: list[ExplainedCase] = []
        registry = ModelRegistry(KafkaTopicReader(self.servers.kafka, [topics.MODELS]), self.writer)
        registry.read_all()
        registry.change("default", functools.partial(aliases.add, version=1, **WHO))
        registry.change("default", functools.partial(aliases.promote, version=1, **WHO))
        registry.close()
        serving = {
            "TRITON_URL": self.servers.triton_url,
            "REPOSITORY": str(self.servers.repository),
            "DATA": str(self.folder / "versions"),
            "GRPC__PORT": "0",
            "PLACEMENT__ENGINE": "torch",
            "PLACEMENT__PRECISION": "float32",
            "POLL_S": "0.1",
        }
        self.agent = Member("serving", {**common, **serving}, logs=self.folder / "logs")
        explaining = {
            "GRPC__PORT": str(self.grpc_port),
            "CALIBRATION__PARTS": "3",
            "CALIBRATION__PATIENCE_S": "0",
            "BUDGET__CASE_S": "30",
            "BUDGET__MAX_PASSES": "96",
            "BUDGET__MIN_STABILITY": "0",
        }
        self.explainer = Member("explainer", {**common, **explaining}, logs=self.folder / "logs")
        self.agent.start()
        self.explainer.start()
        client = TritonExplanationClient([self.servers.triton_url])
        name = triton_explainer_name("default", 1)
        wait_until(lambda: client.is_loaded(name), 180, what="the explaining model")
        client.close()
        wait_until(self.explainer.ready, what="the explainer")

    def stop(self) -> None:
        for member in (self.explainer, self.agent):
            member.process.stop(20)
        self.reader.close()
        self.writer.close(2)
        self.servers.stop()

    def send(self, *cases: Case) -> None:
        for case in cases:
            key = case.inspection.camera_id.encode()
            self.writer.send(topics.CASES, key=key, value=codec.encode_case(case)).result(20)

    def explained(self, case: Case, timeout_s: float = 120.0) -> ExplainedCase:
        """Wait for a case; at the first time it came."""
        end_s = time.monotonic() + timeout_s
        while True:
            for each in self.seen:
                if each.case.case_id == case.case_id:
                    return each
            assert time.monotonic() < end_s, self.explainer.process.log_tail()
            records = self.reader.poll(max_records=100, timeout_s=0.2)
            self.seen += [decode_explained_case(record.value) for record in records]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    plant = Plant(tmp_path_factory.mktemp("explainer"))
    try:
        plant.start()
        yield plant
    finally:
        plant.stop()


def test_a_flagged_case_comes_out_with_the_maps_of_its_version(plant: Plant) -> None:
    case = make_case(0, noise(0))
    plant.send(case)
    found = plant.explained(case)
    assert codec.encode_case(found.case) == codec.encode_case(case)
    sampled, cam, published = found.explanations
    assert (sampled.method, cam.method, published.method) == ("invrise-soft", "hirescam", "gradcam")
    for each in found.explanations:
        assert each.status is ExplanationStatus.DONE, each.detail
        assert each.map.shape == (SIDE_PX, SIDE_PX)
    assert sampled.passes == 96
    assert cam.passes <= 2
    assert published.passes <= 2
    for each in found.explanations:
        assert each.grade is not None
        assert 0 < each.probability < 1
        assert np.isfinite([each.deletion_auc, each.insertion_auc, each.random_auc]).all()
    assert 0 <= found.agreement <= 1
    assert sampled.probability == pytest.approx(cam.probability, abs=1e-4)


def test_the_same_case_again_after_a_restart_gets_the_same_map(plant: Plant) -> None:
    case = make_case(1, noise(1))
    plant.send(case)
    before = plant.explained(case)
    assert plant.explainer.stop(), plant.explainer.process.log_tail()
    assert plant.explainer.process.returncode == 0
    plant.explainer.start()
    plant.seen.clear()
    plant.send(case)
    again = plant.explained(case)
    for one, two in zip(before.explanations, again.explanations, strict=True):
        assert one.seed == two.seed
        np.testing.assert_allclose(one.map.astype(np.float32), two.map.astype(np.float32), atol=2e-3)


def test_colours_are_calibrated_in_the_background_and_kept_beside_the_version(plant: Plant) -> None:
    store = S3ObjectStore(plant.servers.objects)

    def kept() -> list[str]:
        return [stat.key for stat in store.list("models/default/1/derived/heatmap/")]

    wait_until(lambda: len(kept()) == 3, 180, what="a scale for each method")
    case = make_case(2, noise(2))
    plant.send(case)
    for each in plant.explained(case).explanations:
        assert each.scale_high > each.scale_low


def test_what_cannot_be_explained_comes_out_with_its_reason(plant: Plant) -> None:
    black = encode_png(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8))
    told = {
        "model_gone": make_case(10, noise(3), version=9),
        "blank_image": make_case(11, black),
        "image_truncated": make_case(12, noise(3)[:-100]),
        "no_model": make_case(13, b"broken", version=0),
    }
    plant.send(*told.values())
    for reason, case in told.items():
        assert {each.reason for each in plant.explained(case).explanations} == {reason}


def test_a_map_is_refined_before_the_caller_s_eyes_and_ends_when_he_hangs_up(plant: Plant) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{plant.grpc_port}") as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        asked = explainer_service_pb2.ExplainRequest(
            image=noise(4), alias="default", model_version=1, method="rise-centred", max_passes=400
        )
        answers = list(stub.Explain(asked, timeout=120))
        assert len(answers) > 2
        assert [answer.final for answer in answers] == [False] * (len(answers) - 1) + [True]
        passes = [explanation_from_message(answer.explanation).passes for answer in answers]
        assert passes == sorted(passes)
        assert passes[-1] == 400
        asked.max_passes = 100_000
        asked.budget_ms = 60_000
        call = stub.Explain(asked, timeout=120)
        next(call)
        call.cancel()
        began_s = time.monotonic()
        asked.max_passes, asked.budget_ms = 32, 20_000
        list(stub.Explain(asked, timeout=120))
        assert time.monotonic() - began_s < 60, "the explaining model is free again"
        asked.method = "telepathy"
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Explain(asked, timeout=10))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_while_triton_is_away_cases_are_kept_and_explained_when_it_is_back(plant: Plant) -> None:
    assert plant.servers.triton is not None
    plant.servers.triton.kill()
    cases = [make_case(20 + number, noise(number)) for number in range(3)]
    plant.send(*cases)
    wait_until(lambda: not plant.explainer.ready(), what="the explainer not ready")
    plant.servers.triton.start()
    for case in cases:
        assert [each.reason for each in plant.explained(case, 240).explanations] == ["", "", ""]
    assert len({each.case.case_id for each in plant.seen}) == len(plant.seen), "each came once"


def test_metrics_tell_of_cases_passes_grades_and_reasons(plant: Plant) -> None:
    text = plant.explainer.metrics()
    assert metric_total(text, "sightline_explainer_cases_total") >= 3
    assert metric_total(text, "sightline_explainer_passes_count") >= 3
    assert metric_total(text, "sightline_explainer_grades_total") >= 3
    assert metric_total(text, "sightline_explainer_seconds_count") >= 3
    assert "sightline_explainer_lag_cases" in text


def test_sigterm_ends_it_in_order(plant: Plant) -> None:
    plant.send(make_case(30, noise(5)))
    assert plant.explainer.stop(), plant.explainer.process.log_tail()
    assert plant.explainer.process.returncode == 0
