"""What must be known of a model version to explain with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from services.core.detectors.detector import LOCALISING, PANEL
from services.core.detectors.panel import detectors_in
from services.core.errors import InvalidInputError, ModelFormatError
from services.core.manifest import ModelManifest
from services.core.preprocessing import Preprocessing
from services.core.types import triton_explainer_name

_KEPT = 64


@dataclass(frozen=True, slots=True)
class Version:
    """A model version, without its weights.

    Attributes:
        alias: Its alias.
        number: Its number in it.
        preprocessing: How an image becomes its input.
        classes: Names of its outputs.
        detector: Name of the detector that it is; empty for a network.
        members: Names of the detectors that answer in a panel; empty for anything else.
    """

    alias: str
    number: int
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    detector: str = ""
    members: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: ModelManifest) -> Version:
        """What the explainer needs of a manifest.

        Raises:
            ModelFormatError: If it is of a panel and does not say of which detectors.
        """
        size, classes, detector = manifest.preprocessing, manifest.classes, manifest.detector
        try:
            members = detectors_in(detector, manifest.architecture_options) if detector == PANEL else ()
        except InvalidInputError as error:
            raise ModelFormatError(f"model.json: {error}") from error
        return cls(manifest.alias, manifest.version, size, classes, detector, members)

    @property
    def finds_places(self) -> bool:
        """Whether it makes a map by itself."""
        return not LOCALISING.isdisjoint((self.detector, *self.members))

    @property
    def model_name(self) -> str:
        """The Triton model that explains it."""
        return triton_explainer_name(self.alias, self.number)


class Versions:
    """Versions by alias and number; each is read once, since none ever changes. Thread-safe.

    Args:
        read_manifest: Reads one from the object store.
    """

    def __init__(self, read_manifest: Callable[[str, int], ModelManifest]) -> None:
        self._read_manifest = read_manifest
        self._known: dict[tuple[str, int], Version] = {}
        self._lock = threading.Lock()

    def get(self, alias: str, number: int) -> Version:
        """One version.

        Raises:
            NotFoundError: If the store has no such version.
            ModelFormatError: If what it has is damaged.
            UnavailableError: If it does not answer.
        """
        with self._lock:
            known = self._known.get((alias, number))
        if known is not None:
            return known
        version = Version.of(self._read_manifest(alias, number))
        with self._lock:
            self._known[alias, number] = version
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
        return version
