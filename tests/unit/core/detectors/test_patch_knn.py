from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch

from services.core.detectors.detector import DetectorSpec
from services.core.detectors.patch_knn import PatchKnn, _Sieve, fit_patch_knn, load_patch_knn, scales_of
from services.core.errors import InvalidInputError, ModelFormatError
from tests.unit.core.detectors.parts import good_parts, ignore, resealed, with_square

SPEC = DetectorSpec("patch-knn", options={"bank_limit": 400, "greedy_limit": 200, "bank_share": 0.4})
SHAPE = (64, 64, 3)


@pytest.fixture(scope="module")
def detector() -> PatchKnn:
    fitted = fit_patch_knn(good_parts(12), SPEC, ignore)
    assert isinstance(fitted, PatchKnn)
    return fitted


@pytest.fixture(scope="module")
def files(detector: PatchKnn) -> dict[str, bytes]:
    return detector.files()


def test_a_planted_square_is_the_hottest_place_and_the_part_scores_worse() -> None:
    detector = fit_patch_knn(good_parts(8, side=128), SPEC, ignore)
    good = good_parts(2, seed=1, side=128)
    for top, left in ((16, 80), (72, 24)):
        spoilt = detector.examine(with_square(good, top, left, 24))
        assert spoilt.maps is not None
        for values in spoilt.maps:
            row, column = np.unravel_index(int(values.argmax()), values.shape)
            assert top <= row < top + 24
            assert left <= column < left + 24
        assert spoilt.scores.min() > detector.examine(good).scores.max()


def test_what_is_said_has_the_promised_shapes(detector: PatchKnn) -> None:
    found = detector.examine(good_parts(3, seed=1))
    assert found.scores.shape == (3,)
    assert found.scores.dtype == np.float64
    assert found.embeddings.shape == (3, detector.embedding_size) == (3, 152)
    assert found.embeddings.dtype == np.float32
    assert found.maps is not None
    assert found.maps.shape == (3, 64, 64)
    assert found.maps.dtype == np.float32
    assert detector.image_shape == SHAPE
    assert detector.spec == SPEC


def test_a_part_scores_alone_what_it_scores_in_a_batch(detector: PatchKnn) -> None:
    parts = np.concatenate([good_parts(2, seed=2), with_square(good_parts(6, seed=3), 8, 8)])
    together = detector.examine(parts)
    alone = [detector.examine(parts[row : row + 1]) for row in range(len(parts))]
    assert np.array_equal(together.scores, np.concatenate([one.scores for one in alone]))
    assert np.array_equal(together.embeddings, np.concatenate([one.embeddings for one in alone]))


def test_the_distance_is_to_the_nearest_of_the_bank_in_units_of_its_scale(detector: PatchKnn) -> None:
    bank = torch.zeros(2, 152)
    bank[1, 0] = 10.0
    small = dataclasses.replace(detector, bank=bank, scales=torch.tensor([1.0, 2.0]), _sieve=_Sieve.of(bank, 152))
    patches = torch.zeros(3, 152)
    patches[0, 1] = 3.0  # 3 from the first
    patches[1, 0] = 10.0  # on the second
    patches[1, 5] = 4.0  # but for 4
    patches[2, 0] = 4.0  # nearer to the first, however large the second's scale
    assert small._distances(patches).tolist() == pytest.approx([3.0, 2.0, 4.0])


def test_the_bank_s_leading_directions_choose_the_neighbour_and_all_numbers_measure_it(detector: PatchKnn) -> None:
    bank = torch.zeros(3, 152)
    bank[0, 0], bank[1, 0] = -10.0, 10.0
    bank[2, 7] = 1.0  # direction 0 is the one that leads
    small = dataclasses.replace(detector, bank=bank, scales=torch.ones(3), _sieve=_Sieve.of(bank, 1))
    patch = torch.zeros(1, 152)
    patch[0, 0], patch[0, 7] = 6.0, 1.0
    # The third is at 6, but 4 from the second counts more in what leads.
    assert float(small._distances(patch)) == pytest.approx((16.0 + 1.0) ** 0.5)


def test_a_patch_of_the_bank_is_at_distance_nothing(detector: PatchKnn) -> None:
    assert float(detector._distances(detector.bank).max()) == 0.0


def test_a_scale_is_the_mean_distance_to_patches_of_other_parts() -> None:
    bank = torch.tensor([[0.0], [0.0], [6.0], [10.0]])
    owners = torch.tensor([0, 0, 1, 2])
    # 0 and 0 see 6 and 10; 6 sees 0, 0 and 10; 10 sees 0, 0 and 6. A tenth of the mean is the floor.
    radius = torch.tensor([8.0, 8.0, 16 / 3, 8.0])
    assert torch.allclose(scales_of(bank, owners), radius + 0.1 * radius.mean())


def test_without_local_scales_distances_are_what_they_are() -> None:
    spec = dataclasses.replace(SPEC, options={**SPEC.options, "local_scale": 0.0})
    plain = fit_patch_knn(good_parts(3), spec, ignore)
    assert isinstance(plain, PatchKnn)
    assert bool((plain.scales == 1).all())
    patch = plain.bank[:1] + 1e-2
    assert float(plain._distances(patch)) == pytest.approx(1e-2 * 152**0.5, rel=1e-3)


def test_what_greedy_k_centre_leaves_of_the_bank_is_drawn_at_random() -> None:
    banks = []
    for greedy in (0, 40, 100):
        options = {"bank_limit": 100, "greedy_limit": greedy}
        fitted = fit_patch_knn(good_parts(16), dataclasses.replace(SPEC, options=options), ignore)
        assert isinstance(fitted, PatchKnn)
        assert len(fitted.bank.unique(dim=0)) == 100
        banks.append(fitted)
    # Patches that were chosen to be far apart are.
    nearest = [float(torch.cdist(one.bank, one.bank).fill_diagonal_(torch.inf).amin()) for one in banks]
    assert nearest[2] > 1.5 * nearest[0]


def test_scales_of_equal_patches_divide_by_more_than_nothing() -> None:
    assert bool((scales_of(torch.ones(6, 3), torch.zeros(6, dtype=torch.long)) > 0).all())


def test_a_loaded_detector_says_exactly_the_same(detector: PatchKnn, files: dict[str, bytes]) -> None:
    parts = with_square(good_parts(3, seed=4), 20, 20)
    loaded = load_patch_knn(SPEC, SHAPE, files)
    one, other = detector.examine(parts), loaded.examine(parts)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.embeddings, other.embeddings)
    assert one.maps is not None
    assert other.maps is not None
    assert np.array_equal(one.maps, other.maps)
    assert loaded.files() == files


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_bank(files: dict[str, bytes]) -> None:
    torch.manual_seed(5)
    assert fit_patch_knn(good_parts(12), SPEC, ignore).files() == files
    other = fit_patch_knn(good_parts(12), dataclasses.replace(SPEC, seed=1), ignore).files()
    assert other["bank.safetensors"] != files["bank.safetensors"]


def test_fitting_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit_patch_knn(good_parts(2), SPEC, ignore)
    assert torch.equal(torch.rand(3), expected)


def test_the_bank_has_the_asked_share_of_all_patches_up_to_its_limit() -> None:
    for share, limit, expected in ((0.1, 1000, 26), (0.5, 1000, 128), (0.5, 50, 50)):
        spec = DetectorSpec("patch-knn", options={"strides": "8", "bank_share": share, "bank_limit": limit})
        fitted = fit_patch_knn(good_parts(4), spec, ignore)
        assert isinstance(fitted, PatchKnn)
        assert len(fitted.bank) == expected
        assert fitted.bank_bytes == 4 * expected * (2 * fitted.embedding_size + 2)


def test_a_bank_too_large_for_its_memory_is_refused_with_its_size() -> None:
    spec = DetectorSpec("patch-knn", options={"bank_share": 1.0, "max_bank_bytes": 100_000})
    with pytest.raises(InvalidInputError, match="max_bank_bytes = 100000 bytes, got 206848 bytes for 256 patches"):
        fit_patch_knn(good_parts(4), spec, ignore)


def test_progress_only_grows_and_ends_at_1() -> None:
    told: list[float] = []
    fit_patch_knn(good_parts(3), SPEC, lambda share, _: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_one_image_is_too_few() -> None:
    with pytest.raises(InvalidInputError, match="at least 2 images of good parts, got 1"):
        fit_patch_knn(good_parts(1), SPEC, ignore)


def test_images_of_another_shape_are_refused_with_both_shapes(detector: PatchKnn) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of the fit, \(64, 64, 3\), got \(72, 72, 3\)"):
        detector.examine(good_parts(2, side=72))


def test_images_of_another_type_are_refused(detector: PatchKnn) -> None:
    with pytest.raises(InvalidInputError, match="uint8"):
        detector.examine(good_parts(1).astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"images must have shape \(N, H, W, 3\), got \(4, 64, 64\)"):
        fit_patch_knn(good_parts(4)[..., 0], SPEC, ignore)


def test_no_images_get_no_scores(detector: PatchKnn) -> None:
    assert detector.examine(good_parts(1)[:0]).scores.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bank": 3}, r"patch-knn takes the options \[.*'bank_share'.*\], got bank"),
        ({"bank_share": 0}, "bank_share must be a number in"),
        ({"match_size": 0}, "match_size must be a whole number of at least 1"),
        ({"bank_limit": 2}, "bank_limit must be a whole number of at least"),
        ({"greedy_limit": -1}, "greedy_limit must be a whole number of at least 0"),
        ({"local_scale": True}, "local_scale must be a number in 0.0..1.0, got True"),
        ({"top_share": 1.5}, "top_share must be a number in"),
        ({"smoothing_px": "wide"}, "smoothing_px must be a number in"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, bool | int | float | str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_patch_knn(good_parts(2), DetectorSpec("patch-knn", options=options), ignore)


@pytest.mark.parametrize("name", ["detector.json", "backbone.safetensors", "bank.safetensors"])
def test_a_missing_or_truncated_file_is_refused_by_name(files: dict[str, bytes], name: str) -> None:
    with pytest.raises(ModelFormatError, match=name):
        load_patch_knn(SPEC, SHAPE, {key: data for key, data in files.items() if key != name})
    with pytest.raises(ModelFormatError, match=name):
        load_patch_knn(SPEC, SHAPE, {**files, name: files[name][: len(files[name]) // 2]})


def test_another_detectors_description_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ModelFormatError, match=r"image_shape must be \(72, 72, 3\), got \(64, 64, 3\)"):
        load_patch_knn(SPEC, (72, 72, 3), files)
    with pytest.raises(ModelFormatError, match=r"must be of .*seed=9.*, got .*seed=0"):
        load_patch_knn(dataclasses.replace(SPEC, seed=9), SHAPE, files)
    newer = {**json.loads(files["detector.json"]), "schema": 3}
    with pytest.raises(ModelFormatError, match="schema must be 2, got 3"):
        load_patch_knn(SPEC, SHAPE, {**files, "detector.json": json.dumps(newer).encode()})
    with pytest.raises(ModelFormatError, match="schema must be 2, got 'list'"):
        load_patch_knn(SPEC, SHAPE, {**files, "detector.json": b"[]"})
    with pytest.raises(ModelFormatError, match=r"detector.json: must be JSON"):
        load_patch_knn(SPEC, SHAPE, {**files, "detector.json": b"\xff{"})


def tampered(files: dict[str, bytes], **changed: torch.Tensor) -> dict[str, bytes]:
    tensors = {**safetensors.torch.load(files["bank.safetensors"]), **changed}
    return resealed({**files, "bank.safetensors": safetensors.torch.save(tensors)})


def test_a_bank_that_is_not_the_one_that_was_kept_is_refused_unread(files: dict[str, bytes]) -> None:
    whole = safetensors.torch.load(files["bank.safetensors"])
    other = safetensors.torch.save({**whole, "scales": 2 * whole["scales"]})
    with pytest.raises(ModelFormatError, match=r"bank.safetensors: must have the SHA-256"):
        load_patch_knn(SPEC, SHAPE, {**files, "bank.safetensors": other})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bank": torch.zeros(5, 151, dtype=torch.float16)}, r"bank must be torch.float16 \(-1, 152\), got"),
        ({"bank": torch.zeros(5, 152)}, r"bank must be torch.float16 .*, got torch.float32"),
        ({"bank": torch.full((5, 152), torch.nan).half()}, "bank must be finite"),
        ({"bank": torch.zeros(0, 152).half()}, r"got torch.float16 \(0, 152\)"),
        ({"bank": torch.zeros(5, 152).half()}, "one scale above 0, got 5 patches and 307 scales"),
        ({"bank": torch.zeros(5, 152).half(), "scales": torch.zeros(5)}, "one scale above 0, got"),
        ({"more": torch.zeros(1)}, r"must hold \['bank', 'scales'\], got \['bank', 'more'"),
    ],
)
def test_a_bank_that_was_tampered_with_is_refused(
    files: dict[str, bytes], changed: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(ModelFormatError, match=message):
        load_patch_knn(SPEC, SHAPE, tampered(files, **changed))


def test_a_kept_bank_that_would_take_more_memory_than_the_bound_is_refused() -> None:
    spec = dataclasses.replace(SPEC, options={**SPEC.options, "max_bank_bytes": 250_000})
    files = fit_patch_knn(good_parts(3), spec, ignore).files()
    swollen = tampered(files, bank=torch.zeros(500, 152).half(), scales=torch.ones(500))
    with pytest.raises(InvalidInputError, match="at most max_bank_bytes = 250000 bytes, got 404000 bytes"):
        load_patch_knn(spec, SHAPE, swollen)


def test_a_backbone_of_another_network_is_refused(files: dict[str, bytes]) -> None:
    spec = dataclasses.replace(SPEC, backbone="customnet")
    other = fit_patch_knn(good_parts(2), spec, ignore).files()
    with pytest.raises(ModelFormatError, match=r"backbone.safetensors: .*must hold only known tensors"):
        load_patch_knn(SPEC, SHAPE, resealed({**files, "backbone.safetensors": other["backbone.safetensors"]}))
