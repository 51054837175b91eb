"""A model version in this process: what it says of pictures, and where it sees the reason.

The line asks Triton. A search through an archive has no deadline and may run where no line does, so it asks the same
core directly.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.adapters.goodparts import good_parts
from services.adapters.modelfolder import (
    CHECKSUMS,
    read_detector,
    read_file,
    read_reference,
    read_weights,
    verify_version,
)
from services.core.detectors.calibrated import CalibratedDetector
from services.core.detectors.detector import LOCALISING
from services.core.detectors.panel import detectors_in
from services.core.errors import ExplanationError, ModelFormatError
from services.core.explain.attribution import OWN_MAP, SCORE_TARGET, AttributionMap, Budget
from services.core.explain.backdrop import GoodParts
from services.core.explain.content import Content
from services.core.explain.defaults import DEFAULT_METHOD, MAX_PASSES, MIN_STABILITY
from services.core.explain.heatmap import UNCALIBRATED, HeatScale, calibrate
from services.core.explain.registry import build_explainer
from services.core.explain.temper import temper_for
from services.core.imaging import ImageLimits, decode
from services.core.preprocessing import Placement, combine, placements, prepare
from services.core.types import RgbImage

#: Good parts that colours are calibrated on, see ``services.core.explain.heatmap.calibrate``.
CALIBRATION_PARTS: Final = 20

_BATCH: Final = 16
_SEED: Final = 0


class Said(NamedTuple):
    """What a version says of one picture."""

    score: float
    """Anomaly score, higher is worse; that of the worst tile."""
    tile: int
    """Which tile that is."""
    probabilities: NDArray[np.float32]
    """Of the classes, shape ``(C,)``."""
    embedding: NDArray[np.float32]
    """Shape ``(D,)``."""
    disagreement: float
    """How far the detectors of a panel disagree, 0 to 1; 0 where one model decides."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Where a version sees the reason of its score.

    Attributes:
        picture: What was looked at: the whole picture, or the part of it that the deciding tile covers.
        values: The map over it, of any resolution; None where there is none.
        problem: Why not; empty where there is one.
    """

    picture: RgbImage
    values: AttributionMap | None
    problem: str = ""


class FittedVersion:
    """A version's folder, ready to be asked.

    Args:
        folder: The version.

    Raises:
        NotFoundError: If there is no such folder.
        ModelFormatError: If it is damaged or from an unknown schema.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = verify_version(folder)
        self.digest = hashlib.sha256(read_file(folder, CHECKSUMS)).hexdigest()
        self._detector: CalibratedDetector | None = None
        self._answer = self._detector_answer() if self.manifest.detector else self._network_answer()

    @property
    def method(self) -> str:
        """What explains it: its own map where it finds places, masks otherwise."""
        members = detectors_in(self.manifest.detector, self.manifest.architecture_options)
        return OWN_MAP if LOCALISING.intersection(members) else DEFAULT_METHOD

    def say(self, tiles: list[NDArray[np.uint8]]) -> list[Said]:
        """Score pictures.

        Args:
            tiles: Each picture's tiles as ``prepare`` makes them, ``uint8``, shape ``(T, H, W, 3)``.
        """
        rows = np.concatenate(tiles)
        found = [self._answer(rows[start : start + _BATCH]) for start in range(0, len(rows), _BATCH)]
        scores, probabilities, embeddings, disagreements = (np.concatenate(part) for part in zip(*found, strict=True))
        told, first = [], 0
        for one in tiles:
            tile, score = combine(scores[first : first + len(one)])
            row = first + tile
            told.append(Said(score, tile, probabilities[row], embeddings[row], float(disagreements[row])))
            first += len(one)
        return told

    def see(self, image: RgbImage, tile: int = 0) -> Seen:
        """Find where the reason of a score lies.

        Args:
            image: The picture.
            tile: The tile that decided.
        """
        place = placements(image.shape[0], image.shape[1], self.manifest.preprocessing)[tile]
        prepared = np.ascontiguousarray(prepare(image, self.manifest.preprocessing)[tile])
        picture = _covered(image, place)
        content = Content.centred((prepared.shape[0], prepared.shape[1]), (place.height, place.width))
        try:
            return Seen(picture, content.crop_map(self._map(prepared, content)))
        except ExplanationError as error:
            return Seen(picture, None, error.reason)

    def heat_scale(self, progress: Callable[[float], None] = lambda _share: None) -> HeatScale:
        """Where colour begins: measured on the version's own good parts, as the line's explainer does."""
        reference = read_reference(self.folder)
        count = min(CALIBRATION_PARTS, len(reference.files))
        maps = []
        for number in range(count):
            name = reference.files[number * len(reference.files) // count]
            seen = self.see(decode(reference.images[name], ImageLimits()))
            if seen.values is not None and np.isfinite(seen.values).any():
                maps.append(seen.values)
            progress((number + 1) / count)
        return calibrate(maps) if maps else UNCALIBRATED

    def _map(self, prepared: NDArray[np.uint8], content: Content) -> AttributionMap:
        if self.method == OWN_MAP:
            explainer = build_explainer(OWN_MAP, fill=self._fill, own_map=self._own_map)
        else:
            explainer = build_explainer(
                self.method,
                fill=self._fill,
                backdrop=None if self._good_parts is None else self._good_parts.backdrop(prepared),
                temper=temper_for(self._probabilities(prepared[np.newaxis])[0], SCORE_TARGET),
                content=content,
            )
        budget = Budget(max_passes=MAX_PASSES, batch_size=_BATCH, min_stability=MIN_STABILITY)
        found = deque(
            explainer.explain(prepared, SCORE_TARGET, self._probabilities, seed=_SEED, budget=budget), maxlen=1
        )
        if not found:
            raise ExplanationError("a method must give a map, it gave none", "no_map")
        return found[0].values

    def _probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = [self._answer(images[start : start + _BATCH])[1] for start in range(0, len(images), _BATCH)]
        return np.concatenate(found)

    def _own_map(self, image: NDArray[np.uint8]) -> AttributionMap | None:
        if self._detector is None:
            return None
        maps = self._detector.detector.examine(image[np.newaxis]).maps
        return None if maps is None else maps[0]

    @cached_property
    def _good_parts(self) -> GoodParts | None:
        return good_parts(self.folder, self.manifest)

    @property
    def _fill(self) -> tuple[int, int, int]:
        red, green, blue = (min(255, max(0, round(part))) for part in self.manifest.normalisation.mean)
        return red, green, blue

    def _detector_answer(self) -> _Answer:
        size = self.manifest.preprocessing
        calibrated = CalibratedDetector.load(
            self.manifest.detector, (size.height_px, size.width_px, 3), read_detector(self.folder)
        )
        if calibrated.detector.embedding_size != self.manifest.embedding_size:
            raise ModelFormatError(
                f"model.json: embedding_size must be the detector's {calibrated.detector.embedding_size}, "
                f"got {self.manifest.embedding_size}"
            )
        self._detector = calibrated

        def answer(images: NDArray[np.uint8]) -> _Rows:
            scores, found = calibrated.examine(images)
            disagreements = np.zeros(len(scores)) if found.disagreements is None else found.disagreements
            return (
                scores,
                np.stack([1 - scores, scores], axis=1),
                found.embeddings.astype(np.float32),
                disagreements.astype(np.float32),
            )

        return answer

    def _network_answer(self) -> _Answer:
        import torch  # noqa: PLC0415 - 200 MB that a detector on pixels does without

        from services.core.models.serving import load_serving_module  # noqa: PLC0415

        module = load_serving_module(self.manifest, read_weights(self.folder), "cpu", "float32")

        def answer(images: NDArray[np.uint8]) -> _Rows:
            with torch.inference_mode():
                told = module(torch.from_numpy(np.ascontiguousarray(images)))
            none = np.zeros(len(images), np.float32)
            return told.scores.numpy(), told.probabilities.numpy(), told.embeddings.numpy(), none

        return answer


_Rows = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
_Answer = Callable[[NDArray[np.uint8]], _Rows]


def _covered(image: RgbImage, place: Placement) -> RgbImage:
    """The part of a picture that a tile shows; all of it unless the version cuts pictures into tiles."""
    top, left = round(place.source_y), round(place.source_x)
    bottom, right = round(place.source_y + place.source_height), round(place.source_x + place.source_width)
    return np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])
