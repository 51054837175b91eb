from __future__ import annotations

import pytest
import torch

from services.core.detectors.u_transformer import Block, Shape, UTransformer, merge_squares, split_squares


def transformer(shape: Shape, seed: int = 0) -> UTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UTransformer(shape)


def features(shape: Shape, count: int = 2) -> torch.Tensor:
    size = (count, shape.channels, shape.rows, shape.columns)
    return torch.randn(size, generator=torch.Generator().manual_seed(3))


SMALL = Shape(channels=5, rows=8, columns=12, width=16, heads=2)


def test_four_places_become_one_and_four_again() -> None:
    grid = torch.arange(16.0).reshape(1, 4, 4, 1)
    merged = merge_squares(grid)
    assert merged[0, 0, 0].tolist() == [0.0, 1.0, 4.0, 5.0]
    assert merged[0, 1, 0].tolist() == [8.0, 9.0, 12.0, 13.0]
    assert torch.equal(split_squares(merged), grid)
    many = torch.randn(2, 6, 4, 3)
    assert torch.equal(split_squares(merge_squares(many)), many)


@pytest.mark.parametrize(("rows", "columns", "levels"), [(8, 12, 1), (8, 12, 2), (7, 9, 2), (28, 28, 3), (3, 5, 3)])
def test_what_comes_out_has_the_shape_of_what_goes_in(rows: int, columns: int, levels: int) -> None:
    shape = Shape(5, rows, columns, width=16, heads=2, levels=levels)
    assert transformer(shape)(features(shape)).shape == (2, 5, rows, columns)


def test_tokens_get_fewer_on_the_way_down() -> None:
    shape = Shape(4, 28, 28, width=8, heads=2, levels=2)
    assert [tuple(one.shape[1:3]) for one in transformer(shape).positions] == [(14, 14), (7, 7)]
    assert Shape(4, 28, 25, levels=3).padded == (32, 32)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_every_weight_learns_the_position_embeddings_of_all_scales_included(levels: int) -> None:
    shape = Shape(5, 8, 8, width=16, heads=2, levels=levels)
    net = transformer(shape)
    (net(features(shape)) - features(shape)).square().mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    for positions in net.positions:
        # Every place's own, not only some.
        assert bool((positions.grad.abs().amax(dim=-1) > 0).all())


def test_without_position_embeddings_a_shuffled_image_is_a_shuffled_answer_and_with_them_it_is_not() -> None:
    shape = Shape(5, 8, 8, width=16, heads=2, levels=1)
    net = transformer(shape)
    given = features(shape, 1)
    turned = given.roll(2, dims=3)  # by one whole token
    with torch.no_grad():
        assert not torch.allclose(net(turned), net(given).roll(2, dims=3), atol=1e-4)
        net.positions[0].zero_()
        assert torch.allclose(net(turned), net(given).roll(2, dims=3), atol=1e-5)


def test_skip_connections_carry_what_the_bottom_does_not() -> None:
    net = transformer(SMALL)
    given = features(SMALL)
    with torch.no_grad():
        for layer in net.merge:
            layer.weight.zero_()
        # The bottom is blind now: all that an answer can depend on the image for came by the skip connection.
        assert not torch.allclose(net(given), net(-given), atol=1e-3)
        net.mix[0].weight[:, SMALL.width :] = 0
        assert torch.allclose(net(given), net(-given), atol=1e-6)


def test_without_skip_connections_all_has_to_go_through_the_bottom() -> None:
    shape = Shape(5, 8, 12, width=16, heads=2, skips=False)
    net, same = transformer(shape), transformer(SMALL)
    same.load_state_dict(net.state_dict())
    given = features(shape)
    with torch.no_grad():
        assert not torch.allclose(net(given), same(given), atol=1e-3)
        for layer in net.merge:
            layer.weight.zero_()
        assert torch.allclose(net(given), net(-given), atol=1e-6)


def test_every_token_sees_every_other() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = Block(8, 2)
    tokens = torch.randn(1, 3, 4, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    block(tokens)[0, 0, 0].sum().backward()
    assert tokens.grad is not None
    assert bool((tokens.grad.abs().amax(dim=-1) > 0).all())


def test_images_of_a_batch_do_not_see_each_other() -> None:
    net, given = transformer(SMALL), features(SMALL, 3)
    with torch.no_grad():
        assert torch.allclose(net(given)[1:2], net(given[1:2]), rtol=1e-4, atol=1e-5)
