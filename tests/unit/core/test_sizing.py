"""The calculator: more of anything never needs less, one box needs one of each, and a plant worked by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from services.adapters.caserecord import CaseRecord
from services.adapters.codec import encode_case, encode_frame_embedding, encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.codec_outcome import encode_outcome
from services.adapters.codec_review import encode_review
from services.adapters.memory import MemoryObjectStore
from services.cli import app
from services.core import topics
from services.core.errors import InvalidInputError
from services.core.imaging import encode_png
from services.core.sizing import (
    CASE_BYTES,
    CASE_OBJECT_BYTES,
    EMBEDDING_BYTES,
    EXPLAINED_BYTES,
    OUTCOME_BYTES,
    REVIEW_BYTES,
    REVIEW_OBJECT_BYTES,
    VERDICT_BYTES,
    Plant,
    Size,
    detect_ms,
    size,
)
from services.core.types import Case, CaseKind, ExplainedCase, FrameEmbedding
from tests.support.cases import START_NS, queued_case, wrong
from tests.support.explained import explanation
from tests.support.outcomes import outcome

RUNNER = CliRunner()
ONE_BOX = Plant(cameras_per_line=2, frames_per_s=10, image_bytes=30_000, replication=1)
PLANT = Plant(lines=50, cameras_per_line=8, frames_per_s=10, audit_share=0, retention_hours=2, gpu_images_per_s=2_000)


def amounts(found: Size) -> dict[str, float]:
    """Everything that may not fall when there is more to do."""
    told = {
        f"topic {one.name} {name}": getattr(one, name)
        for one in found.topics
        for name in ("partitions", "bytes_per_s", "disk_bytes")
    }
    told |= {f"replicas {one.name}": one.replicas for one in found.services}
    # Cores of a replica may fall where another one is added; those of all together may not, but for rounding up.
    told["brokers"] = found.brokers
    told["partitions"] = found.partitions
    for name in (
        "gpus",
        "store_bytes_per_day",
        "store_expiring_bytes",
        "store_puts_per_s",
        "store_gets_per_s",
        "index_bytes_per_year",
        "embeddings_bytes",
    ):
        told[name] = getattr(found, name)
    return told


plants = st.builds(
    Plant,
    lines=st.integers(1, 100),
    cameras_per_line=st.integers(1, 16),
    frames_per_s=st.floats(0.1, 60),
    image_bytes=st.integers(1_000, 800_000),
    views_per_part=st.integers(1, 8),
    cycle_time_ms=st.integers(100, 60_000),
    flagged_share=st.floats(0, 0.5),
    audit_share=st.floats(0, 0.5),
    embeddings_keep_hours=st.floats(0, 100),
    passes_per_case=st.integers(1, 2_000),
    answers_per_hour=st.floats(0, 10_000),
    retention_hours=st.floats(0.5, 200),
    record_days=st.floats(1, 1_000),
    replication=st.integers(1, 5),
    gpu_images_per_s=st.sampled_from([0.0, 500.0, 5_000.0]),
    peak_factor=st.floats(1, 4),
    spare_replicas=st.integers(0, 3),
)


@pytest.mark.parametrize(
    "name",
    [
        "lines",
        "cameras_per_line",
        "frames_per_s",
        "image_bytes",
        "cycle_time_ms",
        "flagged_share",
        "embeddings_keep_hours",
        "passes_per_case",
        "answers_per_hour",
        "retention_hours",
        "record_days",
        "replication",
        "peak_factor",
        "spare_replicas",
    ],
)
@given(plant=plants, factor=st.floats(1, 1.9))
def test_more_of_anything_never_needs_less(name: str, plant: Plant, factor: float) -> None:
    before = getattr(plant, name)
    after = math.ceil(before * factor) if isinstance(before, int) else before * factor
    if name == "image_bytes":
        # Beyond the limit images go by reference, which moves bytes from the brokers to the store.
        after = min(after, 800_000)
    if name == "flagged_share":
        after = min(after, 1.0)
    more = amounts(size(dataclasses.replace(plant, **{name: after})))
    for what, value in amounts(size(plant)).items():
        if name == "flagged_share" and "embeddings" in what:
            # A case carries its embedding itself, so fewer frames have one of their own.
            continue
        assert more[what] >= value * (1 - 1e-9), f"{what} fell when {name} went from {before} to {after}"


@given(plant=plants)
def test_topics_that_are_joined_have_as_many_partitions(plant: Plant) -> None:
    found = size(plant)
    assert all(one.partitions <= found.partitions for one in found.topics)
    assert found.topic(topics.ARRIVALS).partitions == found.topic(topics.VERDICTS).partitions
    assert found.topic(topics.MODELS).partitions == 1
    assert {one.name for one in found.topics} == set(topics.ALL)


@given(plant=plants)
def test_no_service_has_more_replicas_than_partitions(plant: Plant) -> None:
    found = size(plant)
    for name in ("detector", "outcome", "explainer", "feedback"):
        assert found.service(name).replicas <= found.partitions


def test_one_box_needs_one_of_each() -> None:
    found = size(ONE_BOX)
    assert {one.replicas for one in found.services} == {1}
    assert (found.brokers, found.partitions, found.gpus, found.needs_postgres) == (1, 4, 0, False)
    # .41 + .82 + .09 ms: what the benchmark has for such a picture.
    assert detect_ms(ONE_BOX) == pytest.approx(1.32)


def test_the_plant_as_worked_by_hand() -> None:
    found = size(PLANT)
    # 50 x 8 x 10 = 4 000 frames/s of 200 KB, 800 MB/s, 500 parts/s; 1 % are 40 cases/s.
    assert (PLANT.rate, PLANT.parts_per_s, PLANT.cases_per_s) == (4_000, 500, 40)
    # 200 KB are 6.67 times 30 KB: .41 + 6.67 x (.82 + .09) = 6.477 ms; x 6 000/s at the peak / .6 = 64.8 processes.
    assert detect_ms(PLANT) == pytest.approx(0.41 + 200 / 30 * 0.91)
    assert found.service("detector").replicas == 65
    # 2.1 ms x 6 000/s / .6 = 21.
    assert found.service("ingest").replicas == 21
    # 500 parts/s x 1.5 x .44 ms = .33 of a core, / .6 = .55.
    assert (found.service("outcome").replicas, found.service("outcome").cores) == (1, 0.6)
    # (6 000 verdicts + 40 cases x 405 passes) / 2 000 a GPU / .6 = 18.5.
    assert found.gpus == pytest.approx(18.5)
    assert found.service("triton").replicas == found.service("serving").replicas == 19
    # 40 x 1.5 / 34 / .6 = 2.94.
    assert found.service("feedback").replicas == 3
    assert found.needs_postgres
    # Images: 800.72 MB/s x 2 h x 3 copies = 17.3 TB; twice 65 replicas are 130 partitions, 1.2 GB/s / 10 MB/s only 121.
    assert found.topic(topics.FRAMES).disk_bytes == pytest.approx(800_720_000 * 7_200 * 3)
    assert found.partitions == 130
    # 40 cases/s x (200 000 + 42 302) bytes x 86 400 s, and 200 answers an hour of 439 bytes.
    assert found.store_bytes_per_day == pytest.approx(40 * 242_302 * 86_400 + 200 * 24 * 439)
    # 40 cases/s x a year x 1.5 KB.
    assert found.index_bytes_per_year == pytest.approx(40 * 31_536_000 * 1_500)
    assert any("a dashboard reads every verdict" in warning for warning in found.warnings)


def test_images_beyond_the_inline_limit_go_to_the_store() -> None:
    small, large = (
        size(dataclasses.replace(ONE_BOX, image_bytes=860_000)),
        Plant(cameras_per_line=2, image_bytes=880_000),
    )
    assert small.store_expiring_bytes == 0
    assert size(large).store_expiring_bytes == pytest.approx(20 * 880_000 * 25 * 3_600)
    assert size(large).topic(topics.FRAMES).bytes_per_s == pytest.approx(20 * 180)


def test_a_gpu_is_never_counted_with_unless_it_is_given() -> None:
    found = size(dataclasses.replace(PLANT, gpu_images_per_s=0))
    assert found.gpus == 0
    assert found.service("triton").replicas > 19
    assert any("no GPU is counted with" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lines": 0}, "lines must be above 0, got 0"),
        ({"flagged_share": 1.1}, "flagged_share must be from 0 to 1, got 1.1"),
        ({"peak_factor": 0.5}, "peak_factor must be at least 1, got 0.5"),
        ({"network": "vgg"}, "network must be one of resnet18, efficientnet-lite0, got 'vgg'"),
        ({"frames_per_s": math.nan}, "frames_per_s must be above 0, got nan"),
        ({"embeddings_keep_hours": math.inf}, "embeddings_keep_hours must be a finite number from 0 on, got inf"),
        ({"spare_replicas": -1}, "spare_replicas must be a finite number from 0 on, got -1"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError, match=says):
        Plant(**changes)


def test_the_command_prints_a_table_json_and_values() -> None:
    plant = ["size", "--lines", "50", "--cameras", "8", "--gpu-images-per-s", "2000", "--audit-share", "0"]
    plant += ["--retention-hours", "2"]
    assert "4,000 frames/s, 800.0 MB/s" in RUNNER.invoke(app, plant).stdout
    told = json.loads(RUNNER.invoke(app, [*plant, "--json"]).stdout)
    assert told["size"]["partitions"] == 130
    printed = RUNNER.invoke(app, [*plant, "--values"]).stdout
    assert printed.startswith("# ingest: 21 processes: divide cameras or lines among ingest.instances\n")
    values = yaml.safe_load(printed)
    assert values["detector"] == {
        "replicas": 65,
        "resources": {"requests": {"cpu": "1000m", "memory": "174M"}, "limits": {"memory": "1000M"}},
    }
    assert (values["topics"]["partitions"], values["topics"]["minInsyncReplicas"]) == (130, 2)
    assert "replicas" not in values["ingest"]
    assert not {"serving", "trainer"} & set(values)


def test_events_and_objects_are_as_large_as_the_calculator_takes_them() -> None:
    inspection = queued_case().inspection
    embedding = np.random.default_rng(0).standard_normal(1_280).astype(np.float16)
    case = Case(queued_case().case_id, CaseKind.FAIL, inspection, 1.0, embedding, image_ref=queued_case().image_ref)
    explained = ExplainedCase(case, (explanation(), explanation("hirescam")), START_NS)
    store = MemoryObjectStore()
    record = CaseRecord(store)
    kept = replace(explained, case=replace(case, image_ref=record.add_image(encode_png(np.zeros((8, 8, 3), np.uint8)))))
    record.add_case(kept)
    record.add_review(wrong(queued_case()))
    found = {
        VERDICT_BYTES: len(encode_inspection(inspection)),
        CASE_BYTES: len(encode_case(case)),
        EMBEDDING_BYTES: len(encode_frame_embedding(FrameEmbedding(inspection, embedding))),
        EXPLAINED_BYTES: len(encode_explained_case(explained)),
        OUTCOME_BYTES: len(encode_outcome(outcome())),
        REVIEW_BYTES: len(encode_review(wrong(queued_case()))),
        CASE_OBJECT_BYTES: next(store.list("record/cases/")).size_bytes,
        REVIEW_OBJECT_BYTES: next(store.list("record/reviews/")).size_bytes,
    }
    for taken, measured in found.items():
        assert measured == pytest.approx(taken, rel=0.15)
