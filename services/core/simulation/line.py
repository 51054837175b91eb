"""The simulated line: parts drawn from a seed, with the exact truth about each pixel.

The same arguments give the same pixels, always: every choice comes from a PCG64 generator seeded by product, seed and
view, and nothing is read from the clock, the environment or a global generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.simulation import disc, fabric, mirror, thermal, weld, zipper
from services.core.simulation.canvas import Streams
from services.core.simulation.presets import PRESETS, PartSpec, preset
from services.core.simulation.scene import Scene

__all__ = [
    "AUTO",
    "PRESETS",
    "PRODUCTS",
    "PartSpec",
    "SimulatedPart",
    "defect_classes",
    "draw_part",
    "draw_preset",
    "preset",
]

AUTO = "auto"
"""Let the seed decide whether the part is defective."""
MIN_SIZE_PX = 96
MAX_SIZE_PX = 4096


@dataclass(frozen=True, slots=True)
class _Product:
    """How a product is drawn, and what can be wrong with it."""

    draw: Callable[[Streams, str, int | None], Scene]
    defects: tuple[str, ...]


# The order is part of the contract: a product's number seeds its streams. Append only.
_CATALOGUE: dict[str, _Product] = {
    "disc": _Product(disc.draw, disc.DEFECTS),
    "fabric": _Product(fabric.draw, fabric.DEFECTS),
    "zipper": _Product(zipper.draw, zipper.DEFECTS),
    "weld": _Product(weld.draw, weld.DEFECTS),
    "thermal": _Product(thermal.draw, thermal.DEFECTS),
    "mirror": _Product(mirror.draw, mirror.DEFECTS),
}
PRODUCTS: tuple[str, ...] = tuple(_CATALOGUE)
"""Names of the products that can be drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedPart:
    """One camera's picture of one part, and all that is true of it."""

    image: NDArray[np.uint8]
    """RGB, uint8, shape ``(H, W, 3)``."""
    mask: NDArray[np.bool_]
    """The defect's exact pixels, shape ``(H, W)``; all False for a good part."""
    aoi: NDArray[np.bool_]
    """The area of interest, shape ``(H, W)``: only what lies here can make the part bad."""
    distractor_mask: NDArray[np.bool_]
    """Harmless clutter, shape ``(H, W)``: dirt and flaws outside the area of interest, tool marks and glints inside."""
    defect_class: str
    """One of ``defect_classes(product)``; empty for a good part."""
    seed: int
    product: str

    @property
    def is_defective(self) -> bool:
        """Whether the part is bad."""
        return bool(self.defect_class)


def defect_classes(product: str) -> tuple[str, ...]:
    """Name what can be wrong with a product.

    Raises:
        InvalidInputError: There is no such product.
    """
    return _product(product).defects


def draw_part(
    product: str,
    seed: int,
    *,
    defect: str | None = AUTO,
    defect_rate: float = 0.1,
    size_px: int | None = None,
    view: int = 0,
) -> SimulatedPart:
    """Draw one part as one camera sees it.

    Args:
        product: One of ``PRODUCTS``.
        seed: Which part, >= 0. A seed is one part: its geometry and texture stay when only ``defect`` differs.
        defect: ``"auto"`` lets the seed decide, at ``defect_rate`` and evenly over the classes; None draws a good part;
            otherwise one of ``defect_classes(product)``.
        defect_rate: Share of defective parts under ``"auto"``, 0 to 1.
        size_px: Width of the picture, pixels, 96 to 4096; None for the product's own size. The aspect ratio stays.
        view: Which camera, >= 0: the same part and defect in another pose and light.

    Returns:
        The picture and its truth.

    Raises:
        InvalidInputError: An argument is out of range or unknown.
    """
    spec = _product(product)
    _check(seed, defect_rate, size_px, view)
    streams = Streams.of(PRODUCTS.index(product), seed, view)
    fate = _fate(spec, streams.fate, defect_rate) if defect == AUTO else defect or ""
    if fate and fate not in spec.defects:
        raise InvalidInputError(f"defect of {product} must be one of {', '.join(spec.defects)}, got {fate!r}")
    scene = spec.draw(streams, fate, size_px)
    return SimulatedPart(
        image=scene.image,
        mask=scene.mask,
        aoi=scene.aoi,
        distractor_mask=scene.distractors,
        defect_class=fate,
        seed=seed,
        product=product,
    )


def draw_preset(name: str, *, size_px: int | None = None) -> Iterator[SimulatedPart]:
    """Draw a set of the papers' size, part after part as they are asked for.

    Args:
        name: One of ``PRESETS``.
        size_px: Width of the pictures, pixels; None for the product's own size.

    Raises:
        InvalidInputError: There is no such set, or the size is out of range.
    """
    for spec in preset(name):
        yield draw_part(spec.product, spec.seed, defect=spec.defect, size_px=size_px)


def _product(name: str) -> _Product:
    if name not in _CATALOGUE:
        raise InvalidInputError(f"product must be one of {', '.join(PRODUCTS)}, got {name!r}")
    return _CATALOGUE[name]


def _fate(spec: _Product, rng: np.random.Generator, defect_rate: float) -> str:
    # Both draws always happen, so that a part's class does not depend on the rate.
    chance, number = rng.random(), int(rng.integers(0, len(spec.defects)))
    return spec.defects[number] if chance < defect_rate else ""


def _check(seed: int, defect_rate: float, size_px: int | None, view: int) -> None:
    if seed < 0 or view < 0:
        raise InvalidInputError(f"seed and view must be >= 0, got {seed} and {view}")
    if not 0.0 <= defect_rate <= 1.0:
        raise InvalidInputError(f"defect_rate must be from 0 to 1, got {defect_rate}")
    if size_px is not None and not MIN_SIZE_PX <= size_px <= MAX_SIZE_PX:
        raise InvalidInputError(f"size_px must be from {MIN_SIZE_PX} to {MAX_SIZE_PX}, got {size_px}")
