"""One explanation inside the explaining model: its passes, its budget, its end; with a model computed by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.adapters.goodparts import good_parts
from services.adapters.modelfolder import read_reference
from services.adapters.ports import ExplanationRequest, ExplanationStep
from services.core.errors import ExplanationError, InvalidInputError, ModelFormatError
from services.core.explain.attribution import Budget
from services.core.explain.faithfulness import measure
from services.core.explain.registry import build_explainer
from services.core.imaging import ImageLimits, decode
from services.core.preprocessing import Preprocessing, prepare
from services.core.types import OperatingPoint
from services.serving.backend import explaining
from services.serving.backend.engine import Answer, EngineRequest
from services.serving.backend.explained_version import ExplainedVersion
from services.serving.backend.explaining import EVIDENCE_PASSES, GivenUpError, OutOfTimeError, Terms, explain
from services.serving.backend.record import Choice, key_of, write_choice
from tests.support.model_versions import write_model_version


class Toy:
    """Says *defect* as far as the upper left quarter is bright; each image costs a second of its clock."""

    fill = (0, 0, 0)
    is_detector = False

    def __init__(self) -> None:
        self.now_s = 0.0
        self.batches: list[int] = []
        self.broken = False
        self.load_s = 0.0
        self.good: np.ndarray | None = None

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.now_s += self.load_s + len(images)
        self.load_s = 0.0
        self.batches.append(len(images))
        half = images.shape[1] // 2
        bad = images[:, :half, :half].astype(np.float32).mean(axis=(1, 2, 3)) / 255
        if self.broken:
            bad[:] = np.nan
        return np.stack([1 - bad, bad], axis=1).astype(np.float32)

    def backdrop(self, image: np.ndarray) -> np.ndarray | None:
        return self.good

    def own_map(self, image: np.ndarray) -> np.ndarray | None:
        return None

    def network(self) -> object:
        raise AssertionError("only methods that look into the network ask for it")

    def terms(self, **changes: object) -> Terms:
        return Terms(**{"batch_size": 8, "clock": lambda: self.now_s, **changes})  # type: ignore[arg-type]


IMAGE = np.full((16, 16, 3), 100, np.uint8)
# Brighter than what is around it, so that hiding it changes the answer whatever hidden pixels show.
IMAGE[2:6, 2:6] = 255


def final(steps: Iterator[ExplanationStep]) -> ExplanationStep:
    found = list(steps)
    assert [step.final for step in found] == [False] * (len(found) - 1) + [True]
    return found[-1]


def test_the_map_and_its_evidence_are_those_that_the_core_computes() -> None:
    toy = Toy()
    step = final(explain(toy, IMAGE, ExplanationRequest("invrise-soft", seed=5, max_passes=64), toy.terms()))
    explainer = build_explainer("invrise-soft", fill=toy.fill)
    expected = list(explainer.explain(IMAGE, -1, toy.probabilities, seed=5, budget=Budget(64, 8)))[-1]
    np.testing.assert_array_equal(step.map, expected.values)
    evidence = measure(IMAGE, expected.values, -1, toy.probabilities, hidden=toy.fill, seed=5, batch_size=8)
    assert (step.deletion_auc, step.insertion_auc, step.random_auc) == (
        evidence.deletion_auc,
        evidence.insertion_auc,
        evidence.random_auc,
    )
    assert step.probability == pytest.approx((100 + 155 / 4) / 255)
    assert (step.passes, step.stability, step.partial) == (64, expected.stability, False)


def test_evidence_costs_the_passes_that_are_reckoned_with() -> None:
    toy = Toy()
    toy.good = np.full_like(IMAGE, 90)
    final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=64), toy.terms()))
    assert sum(toy.batches) == 1 + 64 + EVIDENCE_PASSES


def test_the_transplant_alone_costs_five_passes_and_gives_a_grade_something_to_go_by() -> None:
    toy = Toy()
    toy.good = np.full_like(IMAGE, 90)
    request = ExplanationRequest("rise", max_passes=64, evidence=False, spot=True)
    step = final(explain(toy, IMAGE, request, toy.terms()))
    assert sum(toy.batches) == 1 + 64 + 5
    assert math.isnan(step.deletion_auc)
    full = final(explain(toy, IMAGE, replace(request, evidence=True), toy.terms()))
    assert step.transplant == pytest.approx(full.transplant)


@pytest.mark.parametrize("evidence", [True, False])
def test_of_a_detector_to_which_every_seam_is_an_anomaly_no_spot_is_put_into_a_good_part(evidence: bool) -> None:
    toy = Toy()
    toy.good, toy.is_detector = np.full_like(IMAGE, 90), True
    request = ExplanationRequest("rise", max_passes=64, evidence=evidence, spot=True)
    step = final(explain(toy, IMAGE, request, toy.terms()))
    assert math.isnan(step.transplant)
    assert math.isfinite(step.deletion_auc) == evidence


def test_without_a_good_part_there_is_nothing_to_put_the_spot_into() -> None:
    toy = Toy()
    step = final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=64, evidence=False, spot=True), toy.terms()))
    assert sum(toy.batches) == 1 + 64
    assert math.isnan(step.transplant)


def test_without_evidence_only_the_map_is_paid_for() -> None:
    toy = Toy()
    step = final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=64, evidence=False), toy.terms()))
    assert sum(toy.batches) == 1 + 64
    assert math.isnan(step.deletion_auc)


def test_maps_on_the_way_come_only_where_they_are_asked_for() -> None:
    toy = Toy()
    request = ExplanationRequest("rise", max_passes=256, steps=True)
    passes = [step.passes for step in explain(toy, IMAGE, request, toy.terms())]
    assert passes == sorted(passes)
    assert passes[-2:] == [256, 256], "the last once at once and once with its evidence"
    assert len(passes) > 3
    request = ExplanationRequest("rise", max_passes=256)
    assert [step.passes for step in explain(toy, IMAGE, request, toy.terms())] == [256]


def test_a_batch_is_never_larger_than_agreed() -> None:
    toy = Toy()
    final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=100), toy.terms(batch_size=7)))
    assert max(toy.batches) == 7
    toy = Toy()
    final(explain(toy, IMAGE, ExplanationRequest("occlusion", max_passes=400), toy.terms(batch_size=7)))
    assert max(toy.batches) <= 7


def test_a_budget_that_ends_gives_the_map_so_far_with_evidence_in_time() -> None:
    toy = Toy()
    step = final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=1000, budget_ms=200_000), toy.terms()))
    assert step.partial
    assert 150 <= step.passes <= 200 - EVIDENCE_PASSES
    assert math.isfinite(step.deletion_auc)
    assert step.seconds <= 200


def test_the_smallest_budget_buys_one_batch_and_no_evidence() -> None:
    toy = Toy()
    step = final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=1000, budget_ms=1), toy.terms()))
    assert (step.passes, step.partial) == (8, True)
    assert math.isnan(step.deletion_auc)


def test_bringing_the_engine_up_is_not_charged_to_the_budget() -> None:
    toy = Toy()
    toy.load_s = 500.0
    step = final(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=64, budget_ms=400_000), toy.terms()))
    assert (step.passes, step.partial) == (64, False)


def test_it_stops_as_soon_as_the_map_is_stable() -> None:
    toy = Toy()
    request = ExplanationRequest("rise-centred", max_passes=5000, min_stability=0.5)
    step = final(explain(toy, IMAGE, request, toy.terms()))
    assert step.passes < 5000
    assert step.stability >= 0.5
    assert not step.partial


def test_no_pass_is_made_after_the_caller_has_given_up() -> None:
    toy, asked = Toy(), itertools.count()
    terms = toy.terms(given_up=lambda: next(asked) >= 5)
    with pytest.raises(GivenUpError):
        list(explain(toy, IMAGE, ExplanationRequest("rise", max_passes=10**6), terms))
    assert sum(toy.batches) <= 1 + 5 * 8


def test_one_that_was_given_up_in_the_queue_costs_nothing() -> None:
    toy = Toy()
    with pytest.raises(GivenUpError):
        list(explain(toy, IMAGE, ExplanationRequest("rise"), toy.terms(given_up=lambda: True)))
    assert toy.batches == []


def test_a_method_that_has_no_map_when_the_budget_ends_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class AllOrNothing:
        method = "lime"

        def explain(self, image: np.ndarray, _target: int, predict: object, **_: object) -> Iterator[object]:
            predict(np.repeat(image[None], 100, axis=0))  # type: ignore[operator]
            yield from ()

    monkeypatch.setattr(explaining, "build_explainer", lambda *_, **__: AllOrNothing())
    toy = Toy()
    with pytest.raises(OutOfTimeError) as raised:
        list(explain(toy, IMAGE, ExplanationRequest("lime", budget_ms=20_000), toy.terms()))
    assert raised.value.reason == "out_of_time"
    with pytest.raises(ExplanationError, match="none"):
        list(explain(toy, IMAGE, ExplanationRequest("lime"), toy.terms()))


def test_scores_that_are_no_numbers_are_refused_with_their_reason() -> None:
    toy = Toy()
    toy.broken = True
    with pytest.raises(ExplanationError) as raised:
        list(explain(toy, IMAGE, ExplanationRequest("rise"), toy.terms()))
    assert raised.value.reason == "nan_scores"


def test_an_unknown_method_or_class_is_refused() -> None:
    toy = Toy()
    with pytest.raises(ExplanationError) as raised:
        list(explain(toy, IMAGE, ExplanationRequest("tea-leaves"), toy.terms()))
    assert raised.value.reason == "unknown_method"
    with pytest.raises(InvalidInputError, match="target"):
        list(explain(toy, IMAGE, ExplanationRequest("rise", target=2), toy.terms()))


def test_hidden_parts_and_the_evidence_show_the_good_part_that_the_model_finds() -> None:
    toy = Toy()
    toy.good = np.full_like(IMAGE, 90)
    step = final(explain(toy, IMAGE, ExplanationRequest("invrise-soft", seed=5, max_passes=64), toy.terms()))
    explainer = build_explainer("invrise-soft", fill=toy.fill, backdrop=toy.good)
    expected = list(explainer.explain(IMAGE, -1, toy.probabilities, seed=5, budget=Budget(64, 8)))[-1]
    np.testing.assert_array_equal(step.map, expected.values)
    evidence = measure(IMAGE, expected.values, -1, toy.probabilities, hidden=toy.good, seed=5, batch_size=8)
    assert (step.deletion_auc, step.insertion_auc) == (evidence.deletion_auc, evidence.insertion_auc)


def test_a_model_that_finds_places_shows_its_own_map() -> None:
    toy = Toy()
    own = np.arange(16, dtype=np.float32).reshape(4, 4)
    toy.own_map = lambda image: own  # type: ignore[method-assign]
    step = final(explain(toy, IMAGE, ExplanationRequest("anomaly-map", evidence=False), toy.terms()))
    np.testing.assert_array_equal(step.map, own)
    assert step.passes == 1


def test_a_model_that_finds_none_says_so() -> None:
    with pytest.raises(ExplanationError, match="finds places") as raised:
        list(explain(Toy(), IMAGE, ExplanationRequest("anomaly-map"), Toy().terms()))
    assert raised.value.reason == "no_own_map"


def test_what_was_published_with_a_colour_is_asked_with_a_colour() -> None:
    toy = Toy()
    toy.good = np.full_like(IMAGE, 90)
    step = final(explain(toy, IMAGE, ExplanationRequest("invrise", seed=5, max_passes=64), toy.terms()))
    *_, expected = build_explainer("invrise", fill=toy.fill).explain(
        IMAGE, -1, toy.probabilities, seed=5, budget=Budget(64, 8)
    )
    np.testing.assert_array_equal(step.map, expected.values)


def test_an_image_in_which_nothing_can_be_hidden_is_refused_with_its_reason() -> None:
    toy = Toy()
    with pytest.raises(ExplanationError) as raised:
        list(explain(toy, np.zeros_like(IMAGE), ExplanationRequest("invrise", max_passes=64), toy.terms()))
    assert raised.value.reason == "flat_map"


# ---- a version's own network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explained") / "version"
    write_model_version(folder, size_px=32)
    return folder


def test_hidden_pixels_show_the_mean_colour_of_the_network(folder: Path) -> None:
    version = ExplainedVersion("torch", EngineRequest(folder))
    mean = version.network().normalisation.mean
    assert version.fill == tuple(round(part) for part in mean)


def test_a_version_shows_one_of_its_own_good_parts_and_none_under_itself(tmp_path: Path) -> None:
    folder = tmp_path / "version"
    manifest = write_model_version(folder, size_px=32, parts=3)
    version = ExplainedVersion("torch", EngineRequest(folder))
    reference = read_reference(folder)
    encoded = [reference.images[name] for name in reference.files]
    parts = [prepare(decode(data, ImageLimits()), manifest.preprocessing)[0] for data in encoded]
    nearly = parts[1].copy()
    nearly[:4, :4] = 255
    shown = version.backdrop(nearly)
    assert shown is not None
    assert np.corrcoef(shown.ravel(), parts[1].ravel())[0, 1] > 0.99
    other = version.backdrop(parts[1])
    assert other is not None
    assert np.corrcoef(other.ravel(), parts[1].ravel())[0, 1] < 0.5


def test_good_parts_that_the_version_itself_does_not_pass_are_not_shown(tmp_path: Path) -> None:
    folder = tmp_path / "version"
    manifest = write_model_version(folder, size_px=32, parts=2)
    strict = replace(manifest, operating_point=OperatingPoint(0.05, 0.05, 0.05))
    assert good_parts(folder, strict) is None
    assert good_parts(folder, manifest) is not None


def test_of_a_version_that_cuts_tiles_the_tiles_of_good_parts_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "version"
    manifest = write_model_version(folder, size_px=32, parts=2)
    tiled = replace(manifest, preprocessing=Preprocessing(mode="tiles", height_px=16, width_px=16))
    found = good_parts(folder, tiled)
    assert found is not None
    assert len(found.thumbnails) > 2
    assert found.image(0).shape == (16, 16, 3)


def test_a_version_is_asked_through_the_engine_that_serves_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[str, str]] = []

    def engine_of(name: str, request: EngineRequest) -> object:
        built.append((name, request.precision))
        return lambda images: Answer(*(np.zeros((len(images), 2), np.float32) for _ in range(3)))

    monkeypatch.setattr("services.serving.backend.explained_version.engine_of", engine_of)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    served = EngineRequest(folder, cache=tmp_path)
    write_choice(tmp_path, Choice(key_of(served), "openvino", "torch", "float32", fallback="openvino: gone"), "cpu")
    # Other threads and batches than the one that serves: the record holds all the same, and is not replaced.
    ours = EngineRequest(folder, threads=2, max_batch_size=4, cache=tmp_path)
    record = next(tmp_path.glob("choice-*/*.json")).read_bytes()
    for setting in ("openvino", "onnx", "measured"):
        ExplainedVersion(setting, ours).probabilities(images)
    assert built == [("torch", "float32"), ("onnx", "float32"), ("torch", "float32")]
    assert next(tmp_path.glob("choice-*/*.json")).read_bytes() == record


def test_a_damaged_version_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "version"
    write_model_version(other, size_px=32)
    (other / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ModelFormatError):
        ExplainedVersion("torch", EngineRequest(other))
