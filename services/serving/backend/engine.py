"""What an engine is: it runs one network inside a Triton process.

Every engine takes the same batch of pixels and gives the same three arrays, so that a version may be served by
whichever is fastest where it runs; a panel of detectors adds a fourth.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError, SightlineError

#: What ``auto`` means. Fewer digits are faster, but bfloat16 was measured to change one verdict in forty
#: (docs/serving.md); a version that keeps its verdicts in them can be served so by setting.
DEFAULT_PRECISION: Final = "float32"


class EngineUnavailableError(SightlineError):
    """An engine cannot run here, for want of a package or a device, or since it fails; torch can serve instead."""

    reason = "engine_unavailable"


class Answer(NamedTuple):
    """What is said of a batch; ``float32``, one row for each image."""

    scores: NDArray[np.float32]
    """Shape ``(B,)``, higher is worse."""
    probabilities: NDArray[np.float32]
    """Shape ``(B, C)``."""
    embeddings: NDArray[np.float32]
    """Shape ``(B, D)``."""
    disagreements: NDArray[np.float32] | None = None
    """Shape ``(B,)``, how far the detectors of a panel disagree, in 0 to 1; None where one model answers."""

    def rows(self, start: int, stop: int) -> Answer:
        """What is said of the images ``start`` to ``stop`` of the batch."""
        split = None if self.disagreements is None else self.disagreements[start:stop]
        parts = (self.scores[start:stop], self.probabilities[start:stop], self.embeddings[start:stop])
        return Answer(*parts, split)


class InferenceEngine(Protocol):
    """Runs one model version on one device."""

    def __call__(self, images: NDArray[np.uint8]) -> Answer:
        """Score ``uint8`` images of shape ``(B, H, W, 3)``."""
        ...


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """Which version to bring up, and how.

    Attributes:
        folder: The version's folder.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        threads: CPU threads.
        max_batch_size: Most images in one pass.
        cache: Folder for what is derived from versions and may be made again; None keeps nothing.
        gentle: Bring it up in a thread that steps back for those that serve; only where the thread that asks an engine
            does all the work, since libraries start others when they are imported or asked first, and those would stay
            back.
    """

    folder: Path
    device: str = "cpu"
    precision: str = "auto"
    threads: int = 1
    max_batch_size: int = 16
    cache: Path | None = None
    gentle: bool = False


def resolve_precision(precision: str) -> str:
    """Name the precision that a setting means; raises ``InvalidInputError``."""
    if precision == "auto":
        return DEFAULT_PRECISION
    if precision not in {"float32", "bfloat16", "float16"}:
        raise InvalidInputError(f"precision must be auto, float32, bfloat16 or float16, got {precision!r}")
    return precision
