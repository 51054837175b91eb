"""The commands that fit from the object store and from the line, and send an archive to review, on real servers."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.adapters import codec
from services.adapters.connection import StoreConnection
from services.adapters.datasets import write_labelled_folder
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.kafka_topics import ensure_topics, standard_topics
from services.adapters.modelfolder import verify_version
from services.adapters.objectstore import S3ObjectStore
from services.cli import app
from services.core import topics
from services.core.identity import derive_frame_id
from services.core.imaging import encode_png
from services.core.simulation.line import draw_part
from services.core.types import Frame, Inspection, OperatingPoint, Reason, Verdict
from tests.support.model_versions import write_model_version

pytestmark = pytest.mark.integration

FAST = ("--detector", "knn", "--features", "pca8", "--size", "32", "--false-rejects", "0.05")


@dataclasses.dataclass
class Servers:
    """A broker with the line's topics and a store, and the commands that find them by their settings."""

    kafka: Any
    store: S3ObjectStore

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments), catch_exceptions=True)

    def records(self, topic: str, since_ms: int) -> list[bytes]:
        reader = KafkaTopicReader(self.kafka.connection, [topic])
        try:
            return [record.value for record in reader.read_between(since_ms, 4_000_000_000_000, 20)]
        finally:
            reader.close()


@pytest.fixture
def servers(kafka: Any, object_store_connection: StoreConnection, monkeypatch: pytest.MonkeyPatch) -> Servers:
    ensure_topics(kafka.connection, standard_topics())
    store = S3ObjectStore(object_store_connection)
    store.ensure_bucket()
    for name, value in {
        "KAFKA__BOOTSTRAP_SERVERS": kafka.connection.bootstrap_servers,
        "OBJECT_STORE__ENDPOINT": object_store_connection.endpoint,
        "OBJECT_STORE__BUCKET": object_store_connection.bucket,
        "OBJECT_STORE__ACCESS_KEY": object_store_connection.access_key,
        "OBJECT_STORE__SECRET_KEY": object_store_connection.secret_key,
    }.items():
        monkeypatch.setenv(f"SIGHTLINE_{name}", value)
    return Servers(kafka, store)


@functools.cache
def picture(seed: int) -> bytes:
    return encode_png(draw_part("thermal", seed, defect=None).image)


def frame(number: int, camera: str) -> Frame:
    captured_ns = time.time_ns()
    return Frame(
        frame_id=derive_frame_id(camera, str(number), 0, captured_ns),
        part_id=f"{camera}-{number // 2}",
        line_id="line-1",
        camera_id=camera,
        product="cap",
        sequence=number + 1,
        captured_at_ns=captured_ns,
        image=picture(number),
    )


def verdict(one: Frame, said: Verdict) -> Inspection:
    return Inspection(
        frame_id=one.frame_id,
        part_id=one.part_id,
        line_id=one.line_id,
        camera_id=one.camera_id,
        product=one.product,
        sequence=one.sequence,
        captured_at_ns=one.captured_at_ns,
        decided_at_ns=time.time_ns(),
        verdict=said,
        reason=Reason.SCORE,
        score=0.2,
        operating_point=OperatingPoint(0.5, 0.4, 0.5),
        uncertainty=0.2,
        alias="default",
        model_version=1,
    )


def feed(servers: Servers, camera: str, count: int) -> None:
    """Two views of each part; every third image by reference, all but the first four parts passed, one frame broken."""
    writer = KafkaRecordWriter(servers.kafka.connection)
    for number in range(count):
        one = frame(number, camera)
        if number % 3 == 0:
            ref = servers.store.put(f"frames/{camera}/{number}.png", picture(number))
            one = dataclasses.replace(one, image=None, image_ref=ref)
        said = Verdict.PASS if number >= 8 else Verdict.FAIL
        writer.send(topics.FRAMES, key=camera.encode(), value=codec.encode_frame(one))
        writer.send(topics.VERDICTS, key=one.part_id.encode(), value=codec.encode_inspection(verdict(one, said)))
    broken = dataclasses.replace(frame(count, camera), image=b"no image")
    writer.send(topics.FRAMES, key=camera.encode(), value=codec.encode_frame(broken))
    writer.send(topics.VERDICTS, key=b"x", value=codec.encode_inspection(verdict(broken, Verdict.PASS)))
    writer.close(20)


@pytest.mark.timeout(120)
def test_a_detector_is_fitted_to_what_the_line_passed(
    servers: Servers, unique: Callable[[str], str], tmp_path: Path
) -> None:
    camera, other = unique("cam"), unique("cam")
    feed(servers, camera, 80)
    feed(servers, other, 2)
    out = tmp_path / "v"
    done = servers.run(
        "fit", *FAST, "--data", "line", "--since", "5m", "--camera", camera, "--passed-only", "--out", str(out)
    )
    assert done.exit_code == 0, done.output
    assert "frames left out whose image cannot be used: 1: " in done.output
    lineage = verify_version(out).lineage
    assert lineage.source == "line"
    assert "72 of 73 passed frames of 20" in lineage.description
    assert f"cameras {camera}" in lineage.description
    # 36 parts of two views each: a part is on one side, whole.
    assert lineage.n_train % 2 == lineage.n_calibration % 2 == lineage.n_holdout % 2 == 0
    assert lineage.n_train + lineage.n_calibration + lineage.n_holdout == 72


def test_what_cannot_be_a_window_is_refused(servers: Servers, unique: Callable[[str], str], tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        done = servers.run("fit", *FAST, "--out", str(tmp_path / "v"), *arguments)
        assert done.exit_code != 0
        assert not (tmp_path / "v").exists()
        return " ".join((done.output + str(done.exception or "")).replace("│", " ").split())

    line = ("--data", "line")
    assert "needs --since" in refused(*line)
    assert "how long ago (90m, 2h, 3d), got 'yesterday'" in refused(*line, "--since", "yesterday")
    assert "must begin in the past, got '2999-01-01'" in refused(*line, "--since", "2999-01-01")
    assert "must have seen frames in" in refused(*line, "--since", "1h", "--camera", unique("cam"))
    assert "need --data line" in refused("--data", str(tmp_path), "--since", "1h")
    assert "which does not exist" in refused("--data", str(tmp_path / "nowhere"))


@pytest.mark.timeout(120)
def test_a_detector_is_fitted_to_a_folder_of_the_object_store(
    servers: Servers, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prefix, folder = unique("parts"), tmp_path / "data"
    write_labelled_folder((draw_part("thermal", seed, defect=None) for seed in range(36)), folder)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            servers.store.put(f"{prefix}/caps/{path.relative_to(folder).as_posix()}", path.read_bytes())
    done = servers.run("fit", *FAST, "--data", f"s3://{prefix}/caps", "--out", str(tmp_path / "v"))
    assert done.exit_code == 0, done.output
    lineage = verify_version(tmp_path / "v").lineage
    assert lineage.source == "object-store"
    assert f"36 pictures from {prefix}/caps/ of the bucket {servers.store.bucket}" in lineage.description

    empty = servers.run("fit", *FAST, "--data", f"s3://{prefix}/none", "--out", str(tmp_path / "w"))
    assert f"must lie below the prefix '{prefix}/none/'" in str(empty.exception)
    monkeypatch.setenv("SIGHTLINE_OBJECT_STORE__BUCKET", "no-such-bucket")
    unknown = servers.run("fit", *FAST, "--data", f"s3://{prefix}/caps", "--out", str(tmp_path / "w"))
    assert "the bucket must exist (SIGHTLINE_OBJECT_STORE__BUCKET), got 'no-such-bucket'" in str(unknown.exception)


@pytest.mark.timeout(120)
def test_the_worst_of_an_archive_go_to_review_once(
    servers: Servers, unique: Callable[[str], str], tmp_path: Path
) -> None:
    good, archive, alias = tmp_path / "good", tmp_path / "archive", unique("cap")
    write_labelled_folder((draw_part("thermal", seed, defect=None) for seed in range(36)), good)
    write_labelled_folder((draw_part("thermal", 500 + seed, defect="foreign_object") for seed in range(6)), archive)
    version, began_ms = tmp_path / "v", time.time_ns() // 1_000_000
    fitted = servers.run("fit", *FAST, "--data", str(good), "--out", str(version), "--alias", alias)
    assert fitted.exit_code == 0, fitted.output
    search = ("rank", "--version", str(version), "--data", str(archive / "images"), "--out", str(tmp_path / "ranked"))
    review = (*search, "--top", "2", "--no-page", "--json", "--review", "--line", "line-7", "--camera", "old")

    unknown = servers.run(*review)
    assert f"sightline models add {version} --promote" in str(unknown.exception)
    assert not (tmp_path / "ranked").exists(), "that is said before the search, not after it"

    assert servers.run("models", "add", str(version), "--promote").exit_code == 0
    told = []
    for _ in range(2):
        done = servers.run(*review)
        assert done.exit_code == 0, done.output
        told.append(json.loads(done.stdout.splitlines()[-1]))
    assert told[0]["review"] == told[1]["review"]
    assert [one["rank"] for one in told[0]["top"]] == [1, 2]
    cases = [codec.decode_case(value) for value in servers.records(topics.CASES, began_ms)]
    verdicts = [codec.decode_inspection(value) for value in servers.records(topics.VERDICTS, began_ms)]
    ours = [one for one in cases if one.inspection.alias == alias]
    assert {one.inspection.frame_id for one in ours} == set(told[0]["review"])
    assert len(ours) == 4
    assert len({one.case_id for one in ours}) == 2
    assert {one.frame_id for one in verdicts if one.alias == alias} == set(told[0]["review"])
    assert {(one.inspection.line_id, one.inspection.camera_id) for one in ours} == {("line-7", "old")}
    assert all(one.inspection.verdict is not Verdict.PASS for one in ours)
    for one in ours:
        assert one.image_ref is not None
        name = one.inspection.detail.split(": ")[1]
        assert servers.store.get(one.image_ref.key) == (archive / "images" / name).read_bytes()


@pytest.mark.timeout(180)
def test_a_version_that_is_stored_is_exported_with_its_verdicts(
    servers: Servers, unique: Callable[[str], str], tmp_path: Path
) -> None:
    alias, out = unique("weld"), tmp_path / "model.onnx"
    write_model_version(tmp_path / "v", alias=alias, size_px=32, parts=4)
    assert servers.run("models", "add", str(tmp_path / "v")).exit_code == 0
    done = servers.run("models", "export", "1", "--alias", alias, "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "of 1000 verdicts as torch gives them" in " ".join(done.output.split())
    assert out.stat().st_size > 100_000
    missing = servers.run("models", "export", "2", "--alias", alias, "--out", str(tmp_path / "other.onnx"))
    assert missing.exit_code != 0
    assert not (tmp_path / "other.onnx").exists()
