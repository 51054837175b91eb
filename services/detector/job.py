"""One frame on its way through the detector."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from opentelemetry.trace import Span

from services.adapters.ports import Headers, Record
from services.core.manifest import ModelManifest
from services.core.preprocessing import Preprocessing
from services.core.types import CaseKind, Frame, ImageRef, Inspection, OperatingPoint, triton_model_name
from services.runtime.outbox import Entry, Output


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model version that answers: what the detector must know of it, and no weights."""

    alias: str
    version: int
    preprocessing: Preprocessing
    operating_point: OperatingPoint
    classes: tuple[str, ...] = ()
    """First the good one; empty for a model that knows only good."""

    @classmethod
    def of(cls, manifest: ModelManifest) -> Deployment:
        """What the detector needs of a manifest."""
        return cls(manifest.alias, manifest.version, manifest.preprocessing, manifest.operating_point, manifest.classes)

    @property
    def model_name(self) -> str:
        """The Triton model that serves it."""
        return triton_model_name(self.alias, self.version)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What an ``Inspect`` caller gets."""

    inspection: Inspection
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]


@dataclass(slots=True, eq=False)
class Job:
    """A frame's state from the moment it is taken until what came of it is handed to the outbox or the caller."""

    frame: Frame
    alias: str
    taken_at_ns: int
    record: Record | None = None
    """The frame's record; None for a caller of ``Inspect``."""
    entry: Entry | None = None
    answer: Future[Answer] | None = None
    """Set for a caller of ``Inspect``."""
    deployment: Deployment | None = None
    rows: NDArray[np.uint8] | None = None
    """Prepared tiles, ``uint8``, shape ``(T, H, W, 3)``; None before and after."""
    waiting_since_s: float = 0.0
    """Monotonic time since which the rows wait for a batch."""
    fetch_ms: float = 0.0
    decode_ms: float = 0.0
    missing_since_s: float | None = None
    """Monotonic time at which its image was first looked for in vain."""
    trace_headers: Headers = ()
    trace_id: str = ""
    span: Span | None = None
    case_ref: ImageRef | None = None
    """Where its image was put because the case would be too large with it inline."""
    pending_case: tuple[Inspection, CaseKind, NDArray[np.float32] | None] | None = None
    """What is to be said once its image lies there."""
    dead_letter: Output | None = None

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for the result any more: the caller is gone, or the partition is another member's."""
        if self.entry is not None:
            return self.entry.dropped
        return self.answer is not None and self.answer.cancelled()
