"""A camera on the simulated line."""

from __future__ import annotations

import hashlib
import time
from typing import Final

import numpy as np

from services.core.simulation.line import AUTO, PRODUCTS, defect_classes, draw_part
from services.ingest.encoding import encode_bgr
from services.ingest.pacing import Pacer
from services.ingest.settings import SimulatedSource
from services.ingest.source import Cursor, Item
from services.ingest.triggers import TriggerQueue

#: Part ids that begin so are reference parts, whose verdict is known before they are seen.
REFERENCE_GOOD: Final = "ref-good"
REFERENCE_BAD: Final = "ref-bad"
#: A reference part is one piece, whatever it is called at each showing; its defect is one that nobody argues about.
REFERENCE_SEED: Final = 5
_REFERENCE_DEFECT: Final = 1


class SimulatedLineSource:
    """Draws part after part; the number of a part is its seed, so cameras of a line see the same parts.

    A triggered camera draws the part that the trigger names: its seed comes from the part's id alone, so that views of
    one part show the same part even after a restart, or where one camera missed a trigger.

    The id of a frame comes from the drawing's seed and from when the line first ran, so it repeats after a crash.
    ``captured_at`` is the moment in which the part is offered.
    """

    repeats = True

    def __init__(
        self, settings: SimulatedSource, *, drawing: str, epoch_ns: int, triggers: TriggerQueue | None = None
    ) -> None:
        """Set up; nothing is drawn yet.

        Args:
            settings: The source's.
            drawing: The product that is drawn, where neither settings nor trigger say another.
            epoch_ns: When the camera's line first ran.
            triggers: Names the parts of a triggered camera; None where it runs freely.
        """
        self._triggers = triggers
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
        drawing, seed, defect = self._next()
        captured_at_ns = time.time_ns()
        part = draw_part(
            drawing,
            seed,
            defect=defect,
            defect_rate=settings.defect_rate,
            size_px=settings.size_px,
            view=settings.view,
        )
        bgr = np.ascontiguousarray(part.image[:, :, ::-1])
        self._index += 1
        return Item(
            image=encode_bgr(bgr, settings.encoding),
            source_item=f"{drawing}/{seed}/{settings.view}",
            pass_number=0,
            item_time_ns=self._epoch_ns,
            captured_at_ns=captured_at_ns,
            part_text=f"{self._run}-{seed:07d}",
            cursor={"index": self._index},
        )

    def _next(self) -> tuple[str, int, str | None]:
        """What is drawn, its seed, and what is wrong with it."""
        trigger = self._triggers.first if self._triggers is not None else None
        if trigger is None:
            return self._drawing, self._settings.seed + self._index, AUTO
        drawing = self._drawing
        if not self._settings.drawing and trigger.product in PRODUCTS:
            drawing = trigger.product
        if trigger.part_id.startswith(REFERENCE_GOOD):
            return drawing, REFERENCE_SEED, None
        if trigger.part_id.startswith(REFERENCE_BAD):
            classes = defect_classes(drawing)
            return drawing, REFERENCE_SEED, classes[_REFERENCE_DEFECT % len(classes)]
        return drawing, self._settings.seed + seed_of_part(trigger.part_id), AUTO

    def safe(self, item: Item) -> None:
        """The cursor says it all."""

    def close(self) -> None:
        """Nothing is open."""


def seed_of_part(part_id: str) -> int:
    """The number of the drawing that stands for a part, 0 to 2**29 - 1; the same in any process.

    Below the seeds that the starter model was fitted on: it has seen none of them.
    """
    return int.from_bytes(hashlib.sha256(part_id.encode()).digest()[:4], "big") >> 3
