"""The most anomalous pictures of an archive on their way to review, and on their page."""

from __future__ import annotations

import functools
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.adapters.codec import decode_case, decode_inspection
from services.adapters.datasets import read_good_folder, write_labelled_folder
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter, MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.core import alias as aliases
from services.core import topics
from services.core.decision import decide
from services.core.detectors.detector import DetectorSpec
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import draw_part
from services.core.types import CaseKind, Verdict
from services.trainer import fitted
from services.trainer.detector_version import FitOrder, Origin, fit_once
from services.trainer.fitted import FittedVersion
from services.trainer.rank_report import write_rank_report
from services.trainer.ranking import Ranking, rank_archive, read_picture
from services.trainer.review import ReviewPlace, check_registered, send_to_review

SIZE = Preprocessing(height_px=32, width_px=32)
WHO = {"actor": "test", "at_ns": 1}


def order(detector: str = "knn", **options: int) -> FitOrder:
    return FitOrder(DetectorSpec(detector, "pca8", options=options), preprocessing=SIZE, false_reject_target=0.05)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    write_labelled_folder((draw_part("thermal", seed, defect=None) for seed in range(36)), folder)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good parts and a white picture that is like none of them."""
    folder = tmp_path_factory.mktemp("archive")
    write_labelled_folder((draw_part("thermal", 900 + seed, defect=None) for seed in range(5)), folder)
    # With a little noise: no place of a picture in one colour says more than another.
    white = np.random.default_rng(0).integers(230, 256, (256, 320, 3), np.uint8)
    (folder / "images" / "glare in the lens.png").write_bytes(encode_png(white))
    return folder / "images"


@pytest.fixture(scope="module")
def version(good: Path, tmp_path_factory: pytest.TempPathFactory) -> FittedVersion:
    folder = tmp_path_factory.mktemp("version") / "1"
    fit_once(read_good_folder(good), order(), folder)
    return FittedVersion(folder)


@pytest.fixture(scope="module")
def found(version: FittedVersion, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    return rank_archive(version, archive, tmp_path_factory.mktemp("ranked"), top=3)


class Line:
    def __init__(self) -> None:
        self.broker, self.store = MemoryBroker(), MemoryObjectStore()
        self.writer, self.models = MemoryRecordWriter(self.broker), ModelStore(self.store)
        self.registry = ModelRegistry(MemoryTopicReader(self.broker, [topics.MODELS]), self.writer)

    def add(self, folder: Path, *, promote: bool = True) -> None:
        manifest = self.models.upload(folder)
        self.registry.change(manifest.alias, functools.partial(aliases.add, version=manifest.version, **WHO))
        if promote:
            self.registry.change(manifest.alias, functools.partial(aliases.promote, version=manifest.version, **WHO))


@pytest.fixture
def line() -> Line:
    return Line()


# ---- the version in this process


def test_what_looks_like_no_good_part_is_found_first(found: Ranking) -> None:
    assert found.top[0].file == "glare in the lens.png"
    assert found.top[0].verdict == "fail"


def test_the_version_says_what_its_reference_was_calibrated_on(version: FittedVersion) -> None:
    from services.adapters.modelfolder import read_reference
    from services.core.imaging import ImageLimits, decode

    reference = read_reference(version.folder)
    tiles = [prepare(decode(reference.images[name], ImageLimits()), SIZE) for name in reference.files]
    told = version.say(tiles)
    np.testing.assert_allclose([one.score for one in told], reference.scores, atol=1e-5)
    np.testing.assert_allclose([one.probabilities[1] for one in told], reference.scores, atol=1e-5)
    assert {one.embedding.shape for one in told} == {(version.manifest.embedding_size,)}


def test_the_same_order_is_fitted_once_and_another_is_refused(
    good: Path, version: FittedVersion, tmp_path: Path
) -> None:
    folder = tmp_path / "1"
    shutil.copytree(version.folder, folder)
    images = read_good_folder(good)
    assert fit_once(images, order(), folder) == version.manifest
    with pytest.raises(ConflictError, match="what these images and this order made"):
        fit_once(images, order("hbos"), folder)
    with pytest.raises(ConflictError, match="what these images and this order made"):
        fit_once(images[1:], order(), folder)


def test_a_plain_folder_of_pictures_is_good_parts(good: Path) -> None:
    plain = read_good_folder(good / "images")
    assert [one.path.name for one in plain] == [one.path.name for one in read_good_folder(good)]
    assert not any(one.defect for one in plain)


def test_the_lineage_says_where_images_come_from(good: Path, tmp_path: Path) -> None:
    asked = replace(order(), origin=Origin("line", "36 of 36 frames of this morning"))
    lineage = fit_once(read_good_folder(good), asked, tmp_path / "v").lineage
    assert lineage.source == "line"
    assert "; 36 of 36 frames of this morning" in lineage.description


# ---- review


def test_each_is_sent_as_the_detector_sends_a_frame(
    version: FittedVersion, archive: Path, found: Ranking, line: Line
) -> None:
    place = ReviewPlace("archive", "search", "cap")
    ids = send_to_review(version, archive, found.top, place, line.store, line.writer)
    verdicts = {
        one.frame_id: one for one in (decode_inspection(each.value) for each in line.broker.records(topics.VERDICTS))
    }
    cases = {
        one.inspection.frame_id: one for one in (decode_case(each.value) for each in line.broker.records(topics.CASES))
    }
    assert set(verdicts) == set(cases) == set(ids)
    assert len(ids) == 3
    for one, frame_id in zip(found.top, ids, strict=True):
        case, said = cases[frame_id], verdicts[frame_id]
        assert case.inspection == said
        assert (said.line_id, said.camera_id, said.product) == ("archive", "search", "cap")
        assert (said.alias, said.model_version, said.operating_point) == (
            "default",
            1,
            version.manifest.operating_point,
        )
        assert said.score == pytest.approx(one.score, abs=1e-6)
        assert said.defect_class == "anomaly"
        assert said.detail == f"rank {one.rank} of an archive: {one.file}"
        assert case.embedding.shape == (version.manifest.embedding_size,)
        assert case.image_ref == said.image_ref is not None
        assert line.store.get(case.image_ref.key) == (archive / one.file).read_bytes()  # type: ignore[union-attr]


def test_nobody_is_asked_to_review_a_pass(version: FittedVersion, archive: Path, found: Ranking, line: Line) -> None:
    send_to_review(version, archive, found.top, ReviewPlace(), line.store, line.writer)
    point = version.manifest.operating_point
    said = [decode_case(each.value) for each in line.broker.records(topics.CASES)]
    assert any(decide(one.inspection.score, point).verdict is Verdict.PASS for one in said), "a good part is among them"
    for one in said:
        own = decide(one.inspection.score, point).verdict
        assert one.inspection.verdict is (Verdict.FAIL if own is Verdict.FAIL else Verdict.REVIEW)
        assert one.kind is (CaseKind.FAIL if own is Verdict.FAIL else CaseKind.REVIEW)


def test_what_is_sent_twice_has_the_same_ids(
    version: FittedVersion, archive: Path, found: Ranking, line: Line, tmp_path: Path
) -> None:
    first = send_to_review(version, archive, found.top, ReviewPlace(), line.store, line.writer)
    copied = tmp_path / "elsewhere"
    shutil.copytree(archive, copied)
    again = send_to_review(version, copied, found.top, ReviewPlace(), line.store, line.writer)
    assert again == first
    cases = {decode_case(each.value).case_id for each in line.broker.records(topics.CASES)}
    assert len(cases) == 3
    os.utime(copied / found.top[0].file, ns=(1, 1))
    other = send_to_review(version, copied, found.top[:1], ReviewPlace(), line.store, line.writer)
    assert other != first[:1], "a file of another time is another picture"


def test_a_picture_that_went_since_is_left_out(
    version: FittedVersion, archive: Path, found: Ranking, line: Line, tmp_path: Path
) -> None:
    shutil.copytree(archive, tmp_path / "a")
    (tmp_path / "a" / found.top[1].file).unlink()
    assert len(send_to_review(version, tmp_path / "a", found.top, ReviewPlace(), line.store, line.writer)) == 2


def test_a_broker_that_is_away_is_said_so(version: FittedVersion, archive: Path, found: Ranking, line: Line) -> None:
    line.broker.unavailable = True
    with pytest.raises(UnavailableError):
        send_to_review(version, archive, found.top, ReviewPlace(), line.store, line.writer)


def test_names_that_are_no_ids_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="line_id must"):
        ReviewPlace(line_id="hall 3")


def test_a_version_that_the_line_does_not_know_is_refused_with_what_to_do(version: FittedVersion, line: Line) -> None:
    line.registry.read_all()
    with pytest.raises(NotFoundError, match=r"default version 1, which it does not: sightline models add .* --promote"):
        check_registered(version.manifest, line.registry, line.models, version.folder)


def test_a_candidate_is_not_loaded_and_is_refused_with_what_to_do(version: FittedVersion, line: Line) -> None:
    line.add(version.folder, promote=False)
    with pytest.raises(ConflictError, match="sightline models promote 1 --alias default"):
        check_registered(version.manifest, line.registry, line.models, version.folder)


def test_another_version_of_the_same_number_is_refused(
    good: Path, version: FittedVersion, line: Line, tmp_path: Path
) -> None:
    line.add(version.folder)
    check_registered(version.manifest, line.registry, line.models, version.folder)
    other = fit_once(read_good_folder(good)[1:], order(), tmp_path / "other")
    with pytest.raises(ConflictError, match="the line's own default version 1, got a folder that holds another"):
        check_registered(other, line.registry, line.models, tmp_path / "other")


# ---- the page


@pytest.fixture
def worst(found: Ranking, monkeypatch: pytest.MonkeyPatch) -> Ranking:
    """The search with one picture to show, explained by few passes."""
    monkeypatch.setattr(fitted, "MAX_PASSES", 32)
    monkeypatch.setattr(fitted, "CALIBRATION_PARTS", 2)
    return replace(found, top=found.top[:1])


def test_the_page_shows_rates_pictures_and_maps(
    version: FittedVersion, archive: Path, worst: Ranking, tmp_path: Path
) -> None:
    told: list[float] = []
    page = write_rank_report(version, archive, worst, tmp_path, lambda share, _: told.append(share)).read_text()
    assert page.count("data:image/jpeg;base64,") == 2
    assert "glare in the lens.png" in page
    assert "invrise-soft" in page
    assert f"{1000 * worst.whole.flagged / 6:.1f}" in page
    assert told == sorted(told)


def test_a_detector_that_finds_places_shows_its_own_map(good: Path, archive: Path, tmp_path: Path) -> None:
    fit_once(read_good_folder(good), order("patch-knn", bank_limit=128), tmp_path / "v")
    version = FittedVersion(tmp_path / "v")
    image = read_picture(archive / "glare in the lens.png")[1]
    seen = version.see(image)
    assert version.method == "anomaly-map"
    assert seen.values is not None
    # A letterbox of 320 x 256 into 32 px leaves 26 rows; what is mirrored above and below is no part of the picture.
    assert seen.values.shape == (26, 32)
    assert seen.picture.shape == image.shape
    assert version.heat_scale().is_calibrated


def test_a_file_that_went_since_leaves_a_gap_on_the_page(
    version: FittedVersion, worst: Ranking, tmp_path: Path
) -> None:
    page = write_rank_report(version, tmp_path, worst, tmp_path).read_text()
    assert "data:image/jpeg;base64," not in page
    assert "no map: image_invalid" in page
