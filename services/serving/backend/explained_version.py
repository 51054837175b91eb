"""A model version as its explaining model sees it: asked through the engine that gives its verdicts."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from services.adapters.goodparts import good_parts
from services.adapters.modelfolder import read_weights, verify_version
from services.core.errors import ExplanationError
from services.serving.backend.choice import MEASURED, REFERENCE, build_engine, engine_of, resolve_engine
from services.serving.backend.engine import EngineRequest, EngineUnavailableError, InferenceEngine, resolve_precision
from services.serving.backend.record import read_choices

if TYPE_CHECKING:
    from services.core.explain.backdrop import GoodParts
    from services.core.models.classifier import Classifier
    from services.serving.backend.detector_engine import DetectorEngine

LOG = logging.getLogger(__name__)


class ExplainedVersion:
    """An ``ExplainedModel``; the engine, and torch where a method needs it, come up when they are first asked for.

    Args:
        setting: The engine's setting, as the verdict's model has it.
        request: The version, and how to run it.

    Raises:
        NotFoundError: If the folder does not exist.
        ModelFormatError: If it is damaged or from an unknown schema.
    """

    def __init__(self, setting: str, request: EngineRequest) -> None:
        self._setting = setting
        self._request = request
        self._manifest = verify_version(request.folder)
        self._engine: InferenceEngine | None = None
        self._network: Classifier | None = None

    def backdrop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """The version's good part that looks most like an image ``(H, W, 3)``; None where it passes none."""
        parts = self._good_parts
        return None if parts is None else parts.backdrop(image)

    @cached_property
    def _good_parts(self) -> GoodParts | None:
        return good_parts(self._request.folder, self._manifest)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The mean colour of what the network was fitted on: its zero."""
        red, green, blue = (min(255, max(0, round(part))) for part in self._manifest.normalisation.mean)
        return red, green, blue

    @property
    def is_detector(self) -> bool:
        """Whether the version has learned from good parts alone."""
        return bool(self._manifest.detector)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Answer ``uint8`` images ``(B, H, W, 3)`` by class probabilities ``(B, C)``."""
        if self._engine is None:
            self._engine = self._bring_up()
        return self._engine(images).probabilities

    def own_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """The map that the version makes by itself of an image ``(H, W, 3)``; None where it finds no places."""
        if not self.is_detector:
            return None
        if self._engine is None:
            self._engine = self._bring_up()
        maps = cast("DetectorEngine", self._engine).maps(image[np.newaxis])
        return None if maps is None else maps[0]

    def network(self) -> Classifier:
        """The network in torch, on the CPU: gradients of one image need no more.

        Raises:
            ExplanationError: ``no_conv_layers`` if the version is a detector.
        """
        if self._manifest.detector:
            raise ExplanationError(
                f"a network must be there to look into, got {self._manifest.architecture}", "no_conv_layers"
            )
        if self._network is None:
            import torch  # noqa: PLC0415 - 200 MB, and not every line asks for it

            from services.core.models.serving import build_model  # noqa: PLC0415

            torch.set_num_threads(self._request.threads)
            self._network = build_model(self._manifest, read_weights(self._request.folder))
        return self._network

    def _bring_up(self) -> InferenceEngine:
        """The engine that serves the verdicts, by its record, which is read but never written here."""
        if self._manifest.detector:
            return build_engine(self._setting, self._request)
        kind = self._request.device.partition(":")[0]
        kept = (
            read_choices(self._request.cache, self._request.folder, self._setting, kind) if self._request.cache else {}
        )
        if kept:
            choice = kept.get(self._request.device) or next(iter(kept.values()))
            name, precision = choice.engine, choice.precision
        elif (name := resolve_engine(self._setting, self._request.device)) == MEASURED:
            name, precision = REFERENCE
        else:
            precision = resolve_precision(self._request.precision)
        try:
            return engine_of(name, replace(self._request, precision=precision))
        except EngineUnavailableError as error:
            if name == REFERENCE[0]:
                raise
            LOG.warning("explanations are made by %s instead of %s: %s", REFERENCE[0], name, error)
            return engine_of(REFERENCE[0], replace(self._request, precision=REFERENCE[1]))
