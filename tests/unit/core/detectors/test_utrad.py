from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch

from services.core.detectors import utrad
from services.core.detectors.detector import DetectorSpec
from services.core.detectors.u_transformer import Shape, UTransformer
from services.core.detectors.utrad import Utrad, UtradSettings, fit_utrad, load_utrad, train_transformer
from services.core.errors import DivergedError, InvalidInputError, ModelFormatError
from services.core.manifest import OptionValue
from tests.unit.core.detectors.parts import good_parts, ignore, resealed, with_square

OPTIONS: dict[str, OptionValue] = {"epochs": 4, "width": 32, "batch_size": 4}
SPEC = DetectorSpec("utrad", options=OPTIONS)
SHAPE = (64, 64, 3)


@pytest.fixture(scope="module")
def detector() -> Utrad:
    fitted = fit_utrad(good_parts(12), SPEC, ignore)
    assert isinstance(fitted, Utrad)
    return fitted


@pytest.fixture(scope="module")
def files(detector: Utrad) -> dict[str, bytes]:
    return detector.files()


def test_a_planted_square_is_the_hottest_place_and_the_part_scores_worse() -> None:
    spec = dataclasses.replace(SPEC, options={**OPTIONS, "epochs": 10})
    detector = fit_utrad(good_parts(12, side=128), spec, ignore)
    good = good_parts(2, seed=1, side=128)
    for top, left in ((16, 80), (72, 24)):
        spoilt = detector.examine(with_square(good, top, left, 24))
        assert spoilt.maps is not None
        for values in spoilt.maps:
            row, column = np.unravel_index(int(values.argmax()), values.shape)
            assert top <= row < top + 24
            assert left <= column < left + 24
        assert spoilt.scores.min() > detector.examine(good).scores.max()


def test_what_is_said_has_the_promised_shapes(detector: Utrad) -> None:
    found = detector.examine(good_parts(3, seed=1))
    assert found.scores.shape == (3,)
    assert found.scores.dtype == np.float64
    assert found.embeddings.shape == (3, detector.embedding_size) == (3, 152)
    assert found.maps is not None
    assert found.maps.shape == (3, 64, 64)
    assert found.maps.dtype == np.float32
    assert detector.examine(good_parts(1)[:0]).scores.shape == (0,)
    assert (detector.spec, detector.image_shape) == (SPEC, SHAPE)


def test_a_part_scores_alone_what_it_scores_in_a_batch(detector: Utrad) -> None:
    parts = np.concatenate([good_parts(2, seed=2), with_square(good_parts(6, seed=3), 8, 8)])
    together = detector.examine(parts)
    alone = [detector.examine(parts[row : row + 1]) for row in range(len(parts))]
    assert np.array_equal(together.scores, np.concatenate([one.scores for one in alone]))
    assert np.array_equal(together.embeddings, np.concatenate([one.embeddings for one in alone]))


def test_a_loaded_detector_says_exactly_the_same(detector: Utrad, files: dict[str, bytes]) -> None:
    parts = with_square(good_parts(3, seed=4), 20, 20)
    loaded = load_utrad(SPEC, SHAPE, files)
    one, other = detector.examine(parts), loaded.examine(parts)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.embeddings, other.embeddings)
    assert one.maps is not None
    assert other.maps is not None
    assert np.array_equal(one.maps, other.maps)
    assert loaded.files() == files


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(files: dict[str, bytes]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert fit_utrad(good_parts(12), SPEC, ignore).files() == files
    load_utrad(SPEC, SHAPE, files)
    assert torch.equal(torch.rand(3), expected)


def test_another_seed_gives_other_weights(files: dict[str, bytes]) -> None:
    other = fit_utrad(good_parts(12), dataclasses.replace(SPEC, seed=1), ignore).files()
    assert other["transformer.safetensors"] != files["transformer.safetensors"]


def toy(**changes: int) -> tuple[UTransformer, torch.Tensor]:
    shape = Shape(channels=4, rows=8, columns=8, width=16, heads=2, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UTransformer(shape)
    # Features that can be told from their neighbours: every image is a plane wave.
    generator = torch.Generator().manual_seed(1)
    phase = 6.28 * torch.rand(24, 4, 1, 1, generator=generator)
    return net, torch.sin(phase + torch.arange(8.0)[:, None] * 0.4 + torch.arange(8.0) * 0.7)


def test_training_lowers_the_held_out_error_and_moves_the_position_embeddings() -> None:
    net, data = toy()
    before = [positions.detach().clone() for positions in net.positions]
    errors = train_transformer(net, data[4:], data[:4], UtradSettings(epochs=15, learning_rate=3e-3), 0)
    assert errors[-1] < 0.5 * errors[0]
    for old, new in zip(before, net.positions, strict=True):
        assert float((old - new).abs().max()) > 1e-3


def test_the_best_epochs_weights_are_kept_and_training_stops_when_it_no_longer_helps() -> None:
    net, data = toy()
    told: list[int] = []
    settings = UtradSettings(epochs=50, learning_rate=0.05, patience=2)
    errors = train_transformer(net, data[4:], -5 * data[:4], settings, 0, lambda epoch, _: told.append(epoch))
    best = errors.index(min(errors))
    assert len(errors) == best + 1 + 2 < 50
    assert told == list(range(1, len(errors) + 1))
    with torch.no_grad():
        assert float((net(-5 * data[:4]) + 5 * data[:4]).square().mean()) == pytest.approx(min(errors), rel=1e-4)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_a_loss_that_is_no_number_is_a_clear_error() -> None:
    net, data = toy()
    data[7] = torch.nan
    with pytest.raises(DivergedError, match="training loss must stay finite, got nan in epoch 1"):
        train_transformer(net, data[4:], data[:4], UtradSettings(epochs=2), 0)


def test_in_training_places_are_hidden_by_whole_tokens_and_noise_is_added() -> None:
    wanted = torch.ones(40, 3, 8, 8)
    generator = torch.Generator().manual_seed(0)
    hidden = utrad._spoil(wanted, UtradSettings(noise=0.0, masked_share=0.25), generator)
    assert set(hidden.unique().tolist()) == {0.0, 1.0}
    assert float(hidden.mean()) == pytest.approx(0.75, abs=0.05)
    tokens = hidden.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(tokens.amin(dim=-1), tokens.amax(dim=-1))
    noisy = utrad._spoil(wanted, UtradSettings(noise=0.5, masked_share=0.0), generator)
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(utrad._spoil(wanted, UtradSettings(noise=0.0, masked_share=0.0), generator), wanted)


def test_features_are_standardised_by_the_good_parts(detector: Utrad) -> None:
    described, mean, spread = utrad._describe(good_parts(12), detector.features, ignore)
    assert described.shape == (12, 152, 8, 8)
    assert torch.allclose(described.float().mean(dim=(0, 2, 3)), torch.zeros(152), atol=0.01)
    assert torch.allclose(described.float().std(dim=(0, 2, 3)), torch.ones(152), atol=0.01)
    assert mean.shape == spread.shape == (152,)


def test_no_more_images_are_described_than_the_limit() -> None:
    told: list[str] = []
    spec = DetectorSpec("utrad", options={**OPTIONS, "epochs": 1, "image_limit": 5})
    fit_utrad(good_parts(12), spec, lambda _, text: told.append(text))
    assert told.count("describing patches") == 5


def test_progress_only_grows_tells_of_every_epoch_and_ends_at_1() -> None:
    told: list[tuple[float, str]] = []
    fit_utrad(good_parts(6), SPEC, lambda share, text: told.append((share, text)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [text[:8] for _, text in told if text.startswith("epoch")] == [f"epoch {epoch}:" for epoch in range(1, 5)]


def test_three_images_are_too_few() -> None:
    with pytest.raises(InvalidInputError, match="at least 4 images of good parts, got 3"):
        fit_utrad(good_parts(3), SPEC, ignore)


def test_images_of_another_shape_are_refused_with_both_shapes(detector: Utrad) -> None:
    with pytest.raises(InvalidInputError, match=r"shape of the fit, \(64, 64, 3\), got \(72, 72, 3\)"):
        detector.examine(good_parts(2, side=72))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 3}, r"utrad takes the options \[.*'epochs'.*\], got layers"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"patience": True}, "patience must be a whole number of at least 1, got True"),
        ({"width": 30, "heads": 4}, "width must be a multiple of heads = 4, got 30"),
        ({"learning_rate": 0}, "learning_rate must be a number in"),
        ({"masked_share": 1.0}, "masked_share must be a number in"),
        ({"held_out": 0.95}, "held_out must be a number in"),
        ({"skips": "no"}, "skips must be true or false, got 'no'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, OptionValue], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        fit_utrad(good_parts(4), DetectorSpec("utrad", options=options), ignore)


@pytest.mark.parametrize(
    "name", ["detector.json", "backbone.safetensors", "transformer.safetensors", "scaling.safetensors"]
)
def test_a_missing_or_truncated_file_is_refused_by_name(files: dict[str, bytes], name: str) -> None:
    with pytest.raises(ModelFormatError, match=name):
        load_utrad(SPEC, SHAPE, {key: data for key, data in files.items() if key != name})
    with pytest.raises(ModelFormatError, match=name):
        load_utrad(SPEC, SHAPE, {**files, name: files[name][: len(files[name]) // 2]})


def test_a_foreign_or_tampered_file_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(ModelFormatError, match=r"must be of .*'utrad'.*, got .*'patch-knn'"):
        load_utrad(SPEC, SHAPE, {**files, "detector.json": files["detector.json"].replace(b"utrad", b"patch-knn")})
    with pytest.raises(ModelFormatError, match=r"must be of .*options=\{\}"):
        load_utrad(DetectorSpec("utrad"), SHAPE, files)
    with pytest.raises(ModelFormatError, match=r"transformer.safetensors: .*must hold"):
        load_utrad(SPEC, SHAPE, resealed({**files, "transformer.safetensors": files["scaling.safetensors"]}))
    scaling = safetensors.torch.load(files["scaling.safetensors"])
    for name in ("spread", "error"):
        changed = safetensors.torch.save({**scaling, name: torch.zeros(152)})
        with pytest.raises(ModelFormatError, match="spread and error must be above 0"):
            load_utrad(SPEC, SHAPE, resealed({**files, "scaling.safetensors": changed}))
