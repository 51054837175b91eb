"""A drawn part as a model version remembers it: by a short text from which its picture comes out again, byte for byte.

The sets of a model that was fitted on simulated parts hold no pictures: drawing them again costs less than keeping
them. Pictures take the way that a camera's take: encoded as JPEG.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from services.core.errors import InvalidInputError
from services.core.imaging import encode_jpeg
from services.core.manifest import GOOD
from services.core.simulation.line import PRODUCTS, SimulatedPart, defect_classes, draw_part

_JPEG_QUALITY: Final = 92
_SOURCE: Final = re.compile(r"([a-z]+)/(\d{1,18})/(\d{1,4})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One part to draw.

    Attributes:
        product: One of ``PRODUCTS``.
        seed: Which part.
        defect: One of its defects; None for a good part.
        view: Which camera.
    """

    product: str
    seed: int
    defect: str | None
    view: int

    @property
    def part_id(self) -> str:
        """Of the part."""
        return f"{self.product}-{self.seed}"

    @property
    def label(self) -> str:
        """Its true class."""
        return self.defect or GOOD

    @property
    def source(self) -> str:
        """What a model version writes down of it; see :func:`drawing_from`."""
        return f"{self.product}/{self.seed}/{self.view}"

    def part(self) -> SimulatedPart:
        """Draw it, with its truth."""
        return draw_part(self.product, self.seed, defect=self.defect, view=self.view)

    def picture(self) -> bytes:
        """Draw it as a camera's file; the same bytes each time."""
        return self.encoded(self.part())

    def encoded(self, part: SimulatedPart) -> bytes:
        """Encode what :meth:`part` gave."""
        return encode_jpeg(part.image, _JPEG_QUALITY)


def is_drawn(source: str) -> bool:
    """Whether a part's source is the simulation."""
    found = _SOURCE.match(source)
    return found is not None and found.group(1) in PRODUCTS


def drawing_from(source: str, label: str) -> Drawing:
    """Find a part again by what was written down of it.

    Args:
        source: As :attr:`Drawing.source` gives it.
        label: Its true class.

    Raises:
        InvalidInputError: If that is no drawn part.
    """
    found = _SOURCE.match(source)
    if found is None or found.group(1) not in PRODUCTS:
        raise InvalidInputError(f"a drawn part must be told as product/seed/view, got {ascii(source)[:80]}")
    product = found.group(1)
    if label != GOOD and label not in defect_classes(product):
        raise InvalidInputError(f"a drawn {product} must be good or have one of its defects, got {ascii(label)[:80]}")
    return Drawing(product, int(found.group(2)), None if label == GOOD else label, int(found.group(3)))
