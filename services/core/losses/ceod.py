"""Cross-entropy overlap distance: a loss that asks a network to look where defects count (paper 2, equations 3-8).

``CEOD = CE + omega * mean_i(y_i * OD_i)`` with ``OD = -log clip_eps(sum(A_d * A*) / min(sum(A_d), sum(A*)))``:
``A_d`` is the hottest part of the labelled class's Grad-CAM map, in the graph, and ``A*`` the area of interest after a
3x3 convolution. ``y`` is 1 for defective parts: a good part's map is even and has no place where it ought to be.
(Equation 7 reads as if ``omega * y * OD`` were subtracted and algorithm 1 leaves out both factors; equation 6 and the
text say what is meant.)

Two readings:

``paper``
    As written. The kernel of nine times 0.5 sums to 4.5, so the quotient passes 1, and is clipped without a gradient,
    once some 22 % of the heat lies in the area; and it is clipped again, without a gradient, when all heat lies
    outside, which is the very case that the loss is for.
``repaired``
    The default. The kernel sums to 1; instead of the clip a floor of ``eps`` times the hottest share of the image is
    added to both sides of the quotient, so that heat outside still has a slope when none is inside; the hottest part is
    cut out softly at the same quantile; and where ReLU is flat the map keeps a small slope, so that an area that is
    cold can become warm.

In both, the map is scaled to a maximum of 1 and up-sampled to the area's size. Scale and cut are taken from the map
and then stand: were the maximum in the graph, a hot spot beside the area would be asked to become hotter, as everything
else then counts for less. A map without any heat, and a part whose area is empty (nobody has said where to look), have
an ``OD`` of 0.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from services.core.errors import InvalidInputError
from services.core.losses.ceod_settings import CeodSettings

_KERNEL_PX: Final = 3
#: Bend of the smooth ReLU ``(z + sqrt(z^2 + b^2)) / 2``, on a map whose maximum is 1: at -0.5 a slope of 1/400 is left.
_BEND: Final = 0.05
_TINY: Final = 1e-12


class OverlapDistance(NamedTuple):
    """How far a batch's heat lies from its areas."""

    distance: Tensor
    """``OD``, shape ``(B,)``, ``>= 0``."""
    overlap: Tensor
    """The quotient before clip or floor, shape ``(B,)``; 1 where there is no heat or no area. Without a graph."""
    clipped: Tensor
    """Whether a part's distance has no gradient, shape ``(B,)``, ``bool``."""


class Cut(NamedTuple):
    """Where maps are cut; constants to the gradient."""

    hottest: Tensor
    """Maximum of each map, shape ``(B,)``; 1 where it has no heat."""
    level: Tensor
    """The quantile, of maps with a maximum of 1, shape ``(B,)``."""
    warm: Tensor
    """Whether there is heat at all, shape ``(B,)``, ``bool``."""


class CeodLoss(NamedTuple):
    """The loss of one step."""

    total: Tensor
    """What is minimised, a scalar."""
    cross_entropy: Tensor
    """Its first part, without a graph."""
    distance: Tensor
    """Mean ``OD`` of the defective parts that have an area, without a graph; 0 without any."""
    clipped: int
    """How many of these have no gradient."""
    counted: int
    """How many of these there are."""


def soften_area(area: Tensor, settings: CeodSettings) -> Tensor:
    """Convolve areas of interest with the kernel: ``A*`` of algorithm 1, line 3.

    Args:
        area: Shape ``(B, H, W)``, values 0..1.
        settings: Of the loss.

    Returns:
        Shape ``(B, H, W)``; beyond the border lies nothing.
    """
    mean = F.avg_pool2d(area[:, None], _KERNEL_PX, stride=1, padding=_KERNEL_PX // 2)[:, 0]
    return mean * (_KERNEL_PX**2 * settings.kernel_value) if settings.variant == "paper" else mean


@torch.no_grad()
def find_cut(heat: Tensor, settings: CeodSettings) -> Cut:
    """Find scale and quantile of signed maps, shape ``(B, h, w)``.

    The quantile is taken of the map as the network gives it: between its pixels there is nothing but their mean.
    """
    hottest = heat.flatten(1).amax(dim=1)
    warm = hottest > _TINY
    hottest = torch.where(warm, hottest, torch.ones_like(hottest))
    scaled = _positive(heat / hottest[:, None, None], settings)
    return Cut(hottest, torch.quantile(scaled.flatten(1), settings.quantile, dim=1), warm)


def overlap_distance(heat: Tensor, area: Tensor, settings: CeodSettings, cut: Cut | None = None) -> OverlapDistance:
    """Measure how far heat lies from where it should be: equation 8.

    Args:
        heat: Signed Grad-CAM maps, shape ``(B, h, w)``.
        area: Areas of interest, shape ``(B, H, W)``, values 0..1; an empty one counts as not known.
        settings: Of the loss.
        cut: Scale and quantile; found in these maps without it.

    Returns:
        One distance for each part.

    Raises:
        InvalidInputError: If the shapes do not fit each other.
    """
    if heat.dim() != 3 or area.dim() != 3 or len(heat) != len(area):
        raise InvalidInputError(
            f"heat must be (B, h, w) and area (B, H, W), got {tuple(heat.shape)} and {tuple(area.shape)}"
        )
    cut = cut or find_cut(heat, settings)
    area = area.to(heat.dtype)
    known = cut.warm & (area.flatten(1).amax(dim=1) > 0)
    sums = _sums_as_written if settings.variant == "paper" else _sums_on_the_map
    inside, of_heat, of_area = sums(heat, area, cut, settings)
    smaller = torch.minimum(of_heat, of_area)
    overlap = inside / smaller.clamp_min(_TINY)
    if settings.variant == "paper":
        kept = overlap.clamp(settings.epsilon, 1 - settings.epsilon)
        clipped = (overlap < settings.epsilon) | (overlap > 1 - settings.epsilon)
    else:
        floor = settings.epsilon * (1 - settings.quantile) * area.shape[1] * area.shape[2]
        kept = (inside + floor) / (smaller + floor)
        clipped = torch.zeros_like(known)
    one = torch.ones_like(overlap)
    return OverlapDistance(
        -torch.log(torch.where(known, kept, one)),
        torch.where(known, overlap, one).detach(),
        clipped & known,
    )


def _sums_as_written(heat: Tensor, area: Tensor, cut: Cut, settings: CeodSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over all pixels of ``A_d A*``, ``A_d`` and ``A*``; ``A_d`` is cut out of the up-sampled map."""
    full = _up_sampled(_positive(heat / cut.hottest[:, None, None], settings), area.shape[1:])
    hot = (full * (full >= cut.level[:, None, None])).flatten(1)
    target = soften_area(area, settings).flatten(1)
    return (hot * target).sum(dim=1), hot.sum(dim=1), target.sum(dim=1)


def _sums_on_the_map(heat: Tensor, area: Tensor, cut: Cut, settings: CeodSettings) -> tuple[Tensor, Tensor, Tensor]:
    """The same sums; ``A_d`` is cut out before it is up-sampled, so nothing needs to be up-sampled at all.

    Up-sampling is linear: the sum of an up-sampled map times an area is that of the map times the area brought down by
    the transposed matrix. This spares a step dozens of passes over full pictures.
    """
    scaled = _positive(heat / cut.hottest[:, None, None], settings)
    hot = scaled * torch.sigmoid((scaled - cut.level[:, None, None]) / settings.softness)
    rows, columns = (
        _up_sampling(of_map, of_area, heat) for of_map, of_area in zip(heat.shape[1:], area.shape[1:], strict=True)
    )
    # The kernel is the product of a row's and a column's, and its matrix is symmetric: it may soften the matrices.
    target = _softened(rows) @ area @ _softened(columns).T
    height, width = (_softened(torch.ones_like(one[:1])) for one in (rows, columns))
    whole = (height @ area @ width.T).flatten()
    each = rows.sum(dim=1)[:, None] * columns.sum(dim=1)[None]
    return (hot * target).sum(dim=(1, 2)), (hot * each).sum(dim=(1, 2)), whole


def _up_sampling(of_map: int, of_area: int, like: Tensor) -> Tensor:
    """Matrix ``M``, shape ``(of_map, of_area)``, with which ``x @ M`` is ``x`` up-sampled along one side."""
    unit = torch.eye(of_map, dtype=like.dtype, device=like.device)
    return F.interpolate(unit[None], of_area, mode="linear", align_corners=False)[0]


def _softened(lines: Tensor) -> Tensor:
    return F.avg_pool1d(lines[None], _KERNEL_PX, stride=1, padding=_KERNEL_PX // 2)[0]


def _positive(scaled: Tensor, settings: CeodSettings) -> Tensor:
    """ReLU of maps with a maximum of 1: as it is, or with a slope everywhere."""
    if settings.variant == "paper":
        return torch.relu(scaled)
    return (scaled + torch.sqrt(scaled.square() + _BEND**2)) / 2


def _up_sampled(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps[:, None], list(size), mode="bilinear", align_corners=False)[:, 0]


def ceod_loss(
    logits: Tensor,
    heat: Tensor,
    labels: Tensor,
    area: Tensor,
    settings: CeodSettings,
    class_weights: Tensor | None = None,
) -> CeodLoss:
    """Compute the loss of one step: equation 7, with the sign of equation 6.

    Args:
        logits: Shape ``(B, C)``.
        heat: Of the labelled class, as ``services.core.losses.heat`` gives it, shape ``(B, h, w)``.
        labels: ``int64``, shape ``(B,)``; 0 is good.
        area: Areas of interest, shape ``(B, H, W)``, values 0..1; an empty one adds nothing.
        settings: Parameters.
        class_weights: Of the cross-entropy, shape ``(C,)``.

    Returns:
        The loss and its parts. The mean of ``y * OD`` is over the whole batch, as in equation 7.

    Raises:
        InvalidInputError: If shapes do not fit each other.
    """
    precise = logits if logits.dtype == torch.float64 else logits.float()
    entropy = F.cross_entropy(precise, labels, class_weights)
    counted = (labels > 0) & (area.flatten(1).amax(dim=1) > 0)
    rows = torch.nonzero(counted)[:, 0]
    if not len(rows):
        return CeodLoss(entropy, entropy.detach(), torch.zeros_like(entropy), 0, 0)
    found = overlap_distance(heat[rows], area[rows], settings)
    total = entropy + settings.omega * found.distance.sum() / len(labels)
    return CeodLoss(total, entropy.detach(), found.distance.detach().mean(), int(found.clipped.sum()), len(rows))
