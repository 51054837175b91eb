"""A camera on the simulated line."""

from __future__ import annotations

import time

import numpy as np

from services.core.simulation.line import draw_part
from services.ingest.encoding import encode_bgr
from services.ingest.pacing import Pacer
from services.ingest.settings import SimulatedSource
from services.ingest.source import Cursor, Item


class SimulatedLineSource:
    """Draws part after part; the number of a part is its seed, so cameras of a line see the same parts.

    The id of a frame comes from the drawing's seed and from when the line first ran, so it repeats after a crash.
    ``captured_at`` is the moment in which the part is offered.
    """

    repeats = True

    def __init__(self, settings: SimulatedSource, *, drawing: str, epoch_ns: int) -> None:
        self._settings = settings
        self._drawing = drawing
        self._epoch_ns = epoch_ns
        self._pacer = Pacer(settings.rate_fps)
        self._index = 0
        self._run = f"{epoch_ns // 1_000:x}"

    @property
    def exhausted(self) -> bool:
        """Whether as many frames were drawn as are wanted."""
        limit = self._settings.max_frames
        return bool(limit) and self._index >= limit

    def open(self, cursor: Cursor) -> None:
        """Go on with the next part."""
        self._index = int(cursor.get("index", 0))

    def read(self, timeout_s: float) -> Item | None:
        """The next part when it is due."""
        if self.exhausted or not self._pacer.wait(timeout_s):
            return None
        settings = self._settings
        seed = settings.seed + self._index
        captured_at_ns = time.time_ns()
        part = draw_part(
            self._drawing, seed, defect_rate=settings.defect_rate, size_px=settings.size_px, view=settings.view
        )
        bgr = np.ascontiguousarray(part.image[:, :, ::-1])
        self._index += 1
        return Item(
            image=encode_bgr(bgr, settings.encoding),
            source_item=f"{self._drawing}/{seed}/{settings.view}",
            pass_number=0,
            item_time_ns=self._epoch_ns,
            captured_at_ns=captured_at_ns,
            part_text=f"{self._run}-{seed:07d}",
            cursor={"index": self._index},
        )

    def safe(self, item: Item) -> None:
        """The cursor says it all."""

    def close(self) -> None:
        """Nothing is open."""
