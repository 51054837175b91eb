"""Several detectors in one: votes, the score of all, and what is kept of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.catalogue import fit_detector, load_detector
from services.core.detectors.detector import DetectorSpec, Examined, Images
from services.core.detectors.panel import (
    MEMBERS,
    HeldOut,
    Panel,
    detectors_in,
    disagreement,
    fit_panel,
    load_panel,
    member_specs,
    named_spec,
)
from services.core.detectors.scale import ScoreScale
from services.core.errors import DetectorFitError, InvalidInputError, ModelFormatError
from tests.unit.core.detectors.parts import SIDE, good_parts, resealed, with_square

SHAPE = (SIDE, SIDE, 3)
NAMES = ("hbos:pca5", "knn:pca8", "lof:pca5")
#: A raw score of 100 is the threshold and one of 0 a good part's, so the distance is (raw - 100) / 25.
SCALE = ScoreScale(100.0, 100.0, 0.01, 0.95, "maximum", 10, 0, 0.0)


@dataclass(frozen=True)
class ReadsOff:
    """A detector whose raw score is one channel of the image's first pixel."""

    channel: int
    finds_places: bool = False
    image_shape: tuple[int, int, int] = (2, 2, 3)

    @property
    def spec(self) -> DetectorSpec:
        return DetectorSpec("knn", seed=self.channel)

    @property
    def embedding_size(self) -> int:
        return 1 + self.channel

    def examine(self, images: Images) -> Examined:
        scores = images[:, 0, 0, self.channel].astype(np.float64)
        maps = images[..., self.channel].astype(np.float32) if self.finds_places else None
        return Examined(scores, np.tile(np.float32(scores)[:, None], self.embedding_size), maps)

    def files(self) -> dict[str, bytes]:
        return {}


def panel_of(*members: ReadsOff) -> Panel:
    return Panel(DetectorSpec("panel"), tuple(CalibratedDetector(member, SCALE) for member in members))


def images_of(*raw: tuple[int, ...]) -> Images:
    images = np.zeros((len(raw), 2, 2, 3), np.uint8)
    for row, values in enumerate(raw):
        images[row, ..., : len(values)] = values
    return images


@pytest.fixture(scope="module")
def panel() -> Panel:
    spec = named_spec(NAMES, "embedding", "efficientnet-lite0", 0, {"knn.n_neighbors": 3})
    groups = [f"part-{number}" for number in range(20)]
    return fit_panel(good_parts(40), spec, HeldOut(good_parts(20, seed=1), groups), 0.05)


# ---- votes


def test_of_three_the_mean_is_the_score_and_one_against_two_is_a_disagreement_of_two_thirds() -> None:
    found = panel_of(ReadsOff(0), ReadsOff(1), ReadsOff(2)).examine(
        images_of((0, 0, 50), (150, 0, 50), (150, 0, 125), (150, 200, 125), (100, 100, 99))
    )
    # Calibrated: .1, .1, .1667; .8333, .1, .1667; .8333, .1, .75; .8333, .9, .75; .5, .5, .4808.
    np.testing.assert_allclose(found.scores, [-34 / 11, -4 / 11, 11 / 79, 59 / 31, -1 / 77], rtol=1e-9)
    assert found.disagreements is not None
    np.testing.assert_allclose(found.disagreements, [0, 2 / 3, 2 / 3, 0, 2 / 3])


def test_of_two_the_score_lies_midway_on_the_calibrated_scale_and_a_split_is_complete() -> None:
    found = panel_of(ReadsOff(0), ReadsOff(1)).examine(images_of((150, 0), (0, 0), (150, 150)))
    # .8333 and .1, midway .4667, which is that far below the threshold: -.0667 / (1 - .0667).
    np.testing.assert_allclose(found.scores, [-1 / 14, -4, 2], atol=1e-9)
    assert found.disagreements is not None
    np.testing.assert_allclose(found.disagreements, [1, 0, 0])


def test_one_of_three_that_is_wildly_off_neither_rejects_a_part_nor_holds_it_back() -> None:
    sharp = ScoreScale(100.0, 1e-6, 0.01, 0.95, "maximum", 10, 0, 0.0)
    members = [CalibratedDetector(ReadsOff(0), sharp), *panel_of(ReadsOff(1), ReadsOff(2)).members]
    three = Panel(DetectorSpec("panel"), tuple(members))
    good, bad = three.examine(images_of((255, 0, 0), (0, 150, 150))).scores
    assert good < 0 < bad


def test_the_embedding_is_the_first_members_and_the_map_the_mean_of_those_that_find_places() -> None:
    mixed = panel_of(ReadsOff(1), ReadsOff(0, finds_places=True), ReadsOff(2, finds_places=True))
    images = images_of((150, 60, 0))
    images[0, 1, 1] = (200, 60, 200)
    found = mixed.examine(images)
    assert mixed.embedding_size == 2
    np.testing.assert_array_equal(found.embeddings, [[60, 60]])
    assert found.maps is not None
    np.testing.assert_allclose(found.maps[0, 1, 1], 4, rtol=1e-6)
    np.testing.assert_allclose(found.maps[0, 0, 0], -1 / 14, rtol=1e-5)
    assert panel_of(ReadsOff(0), ReadsOff(1)).examine(images).maps is None


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"the shape of the fit, \(2, 2, 3\)"):
        panel_of(ReadsOff(0), ReadsOff(1)).examine(np.zeros((1, 4, 4, 3), np.uint8))


votes = st.integers(2, 9).flatmap(lambda count: arrays(bool, st.tuples(st.just(count), st.integers(0, 6))))


@given(votes)
def test_disagreement_is_0_to_1_and_0_only_where_all_say_the_same(votes: np.ndarray) -> None:
    told = disagreement(votes)
    assert ((told >= 0) & (told <= 1)).all()
    np.testing.assert_array_equal(told == 0, votes.all(axis=0) | (~votes).all(axis=0))


@given(votes, st.randoms())
def test_disagreement_asks_neither_who_votes_nor_for_what(votes: np.ndarray, shuffled) -> None:
    order = list(range(len(votes)))
    shuffled.shuffle(order)
    np.testing.assert_array_equal(disagreement(votes), disagreement(votes[order]))
    np.testing.assert_array_equal(disagreement(votes), disagreement(~votes))


def test_no_parts_answer_depends_on_its_batch_mates(panel: Panel) -> None:
    parts = np.concatenate([good_parts(4, seed=2), with_square(good_parts(4, seed=3), 20, 20)])
    together = panel.examine(parts)
    assert together.disagreements is not None
    for row in range(len(parts)):
        for mates in (parts[row : row + 1], np.concatenate([parts[row : row + 1], with_square(parts, 4, 4, 40)])):
            alone = panel.examine(mates)
            assert alone.disagreements is not None
            np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-6)
            assert alone.disagreements[0] == together.disagreements[row]
            np.testing.assert_allclose(alone.embeddings[0], together.embeddings[row], rtol=1e-5)


def test_a_panel_tells_a_defect_from_good_parts(panel: Panel) -> None:
    good = panel.examine(good_parts(12, seed=4)).scores
    bad = panel.examine(with_square(good_parts(12, seed=5), 4, 4, 56)).scores
    assert bad.min() > good.max()


# ---- what a panel is made of


def test_one_name_is_a_detector_and_several_are_a_panel_that_lists_its_members() -> None:
    one = named_spec(["lof:pca64"], "embedding", "resnet18", 3, {"n_neighbors": 5})
    assert one == DetectorSpec("lof", "pca64", "resnet18", 3, {"n_neighbors": 5})
    spec = named_spec(["patch-knn", "lof", "iforest: raw"], "embedding-pca64", "resnet18", 3, {})
    assert spec.options[MEMBERS] == "patch-knn,lof:embedding-pca64,iforest:raw"
    assert [(member.detector, member.backbone, member.seed) for member in member_specs(spec)] == [
        ("patch-knn", "resnet18", 3),
        ("lof", "resnet18", 3),
        ("iforest", "resnet18", 3),
    ]


def test_an_option_belongs_to_the_members_of_the_detector_that_it_names() -> None:
    spec = named_spec(["lof:raw", "knn", "lof:pca8"], "pca5", "resnet18", 0, {"lof.n_neighbors": 4})
    assert [dict(member.options) for member in member_specs(spec)] == [{"n_neighbors": 4}, {}, {"n_neighbors": 4}]


@pytest.mark.parametrize(
    ("names", "options", "rule"),
    [
        (["lof", "svm"], {}, "a detector must be one of abod, .*got 'svm'"),
        (["lof", "panel"], {}, "a detector must be one of abod, .*got 'panel'"),
        (["lof", "patch-knn:raw"], {}, "patch-knn brings its own features, got 'patch-knn:raw'"),
        (["lof:", "knn"], {}, "features must follow the colon, got 'lof:'"),
        (["lof", "knn", "lof"], {}, "members of a panel must differ, got lof, knn, lof"),
        (["lof:raw", "lof:pca5"] * 5, {}, "a panel must have 2 to 9 members, got 10"),
        (["lof", "knn"], {"n_neighbors": 5}, "must be DETECTOR.NAME of one of lof, knn, got 'n_neighbors'"),
        (["lof", "knn"], {"hbos.n_bins": 5}, "must be DETECTOR.NAME of one of lof, knn, got 'hbos.n_bins'"),
    ],
)
def test_members_that_make_no_panel_are_refused(names: list[str], options: dict[str, int], rule: str) -> None:
    with pytest.raises(InvalidInputError, match=rule):
        named_spec(names, "embedding", "efficientnet-lite0", 0, options)


def test_a_panel_names_its_detectors_and_refuses_to_be_without() -> None:
    assert detectors_in("panel", {MEMBERS: "patch-knn,lof:raw"}) == ("patch-knn", "lof")
    assert detectors_in("lof", {}) == ("lof",)
    with pytest.raises(InvalidInputError, match="a panel must list its members, got ''"):
        detectors_in("panel", {})
    with pytest.raises(InvalidInputError, match="a panel must list its members, got 7"):
        member_specs(DetectorSpec("panel", options={MEMBERS: 7}))


def test_a_member_that_cannot_be_fitted_is_named() -> None:
    held_out = HeldOut(good_parts(8, seed=1), [f"part-{number}" for number in range(8)])
    spec = named_spec(["hbos", "cblof"], "pca5", "efficientnet-lite0", 0, {"cblof.n_clusters": 200})
    with pytest.raises(DetectorFitError, match=r"^cblof: "):
        fit_panel(good_parts(12), spec, held_out, 0.05)
    few = HeldOut(held_out.images, ["part-1"] * 8)
    with pytest.raises(InvalidInputError, match=r"^hbos: a scale takes at least 8 held-out good parts, got 1"):
        fit_panel(good_parts(12), named_spec(["hbos", "knn"], "pca5", "efficientnet-lite0", 0, {}), few, 0.05)


def test_a_panel_is_not_fitted_without_parts_for_its_members_scales() -> None:
    with pytest.raises(InvalidInputError, match="good parts for its members' scales"):
        fit_detector(good_parts(12), named_spec(NAMES, "pca5", "efficientnet-lite0", 0, {}))


def test_a_fit_tells_which_member_it_is_at() -> None:
    told: list[tuple[float, str]] = []
    held_out = HeldOut(good_parts(8, seed=1), [f"part-{number}" for number in range(8)])
    spec = named_spec(["hbos", "knn"], "pca5", "efficientnet-lite0", 0, {})
    fit_panel(good_parts(12), spec, held_out, 0.05, lambda share, what: told.append((share, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert {what.partition(":")[0] for _, what in told} == {"hbos", "knn"}


# ---- what is kept


def test_a_panel_comes_back_from_its_files_with_the_same_answers(panel: Panel) -> None:
    files = panel.files()
    assert "detector.json" in files
    assert {"member1-detector.json", "member2-scale.json", "member3-detector.json"} <= set(files)
    back = load_detector(panel.spec, SHAPE, files)
    parts = np.concatenate([good_parts(4, seed=2), with_square(good_parts(4, seed=3), 20, 20)])
    expected, told = panel.examine(parts), back.examine(parts)
    np.testing.assert_array_equal(told.scores, expected.scores)
    np.testing.assert_array_equal(told.disagreements, expected.disagreements)
    np.testing.assert_array_equal(told.embeddings, expected.embeddings)
    assert (back.spec, back.image_shape, back.embedding_size) == (panel.spec, SHAPE, panel.embedding_size)


def test_a_version_keeps_a_panel_as_any_detector(panel: Panel) -> None:
    kept = CalibratedDetector(panel, SCALE).files()
    back = CalibratedDetector.load("panel", SHAPE, kept)
    np.testing.assert_array_equal(
        back.examine(good_parts(3, seed=9))[0], CalibratedDetector(panel, SCALE).examine(good_parts(3, seed=9))[0]
    )
    with pytest.raises(ModelFormatError, match="must be of lof, got panel"):
        CalibratedDetector.load("lof", SHAPE, kept)


@pytest.mark.parametrize("name", ["member1-detector.json", "member2-scale.json", "member3-features.skops"])
def test_a_file_of_a_member_that_was_changed_or_taken_away_is_named(panel: Panel, name: str) -> None:
    files = panel.files()
    with pytest.raises(ModelFormatError, match=f"{name}: must have the SHA-256"):
        load_panel(panel.spec, SHAPE, {**files, name: files[name] + b" "})
    del files[name]
    with pytest.raises(ModelFormatError, match=r"files beside detector\.json must be"):
        load_panel(panel.spec, SHAPE, files)


def test_files_that_are_no_members_are_refused_even_under_a_header_that_lists_them(panel: Panel) -> None:
    for name in ("notes.txt", "member4-detector.json"):
        with pytest.raises(ModelFormatError, match=f"of one of its 3 members, got .*{name}"):
            load_panel(panel.spec, SHAPE, resealed({**panel.files(), name: b"x"}))


def test_members_in_each_others_place_are_refused_even_under_a_header_that_fits(panel: Panel) -> None:
    files = panel.files()
    first = {name: data for name, data in files.items() if name.startswith("member1-")}
    third = {name: data for name, data in files.items() if name.startswith("member3-")}
    rest = {name: data for name, data in files.items() if name not in first and name not in third}
    swapped = {name.replace("member1", "member3"): data for name, data in first.items()}
    swapped |= {name.replace("member3", "member1"): data for name, data in third.items()}
    with pytest.raises(ModelFormatError, match=r"member1-\*: .*must be of hbos, got lof"):
        load_panel(panel.spec, SHAPE, resealed(rest | swapped))


def test_a_member_on_other_features_than_the_panel_says_is_refused(panel: Panel) -> None:
    spec = DetectorSpec("panel", options={MEMBERS: "hbos:pca6,knn:pca8,lof:pca5", "knn.n_neighbors": 3})
    files = Panel(spec, panel.members).files()
    with pytest.raises(ModelFormatError, match=r"member1-detector\.json: must be of .*pca6.*got .*pca5"):
        load_panel(spec, SHAPE, files)


def test_a_header_without_members_is_refused(panel: Panel) -> None:
    nothing = DetectorSpec("panel")
    with pytest.raises(ModelFormatError, match=r"detector\.json: a panel must list its members"):
        load_panel(nothing, SHAPE, Panel(nothing, panel.members).files())
