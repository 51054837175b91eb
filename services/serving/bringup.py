"""Brings one version up: local copy, repository entry, load, first inferences."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.adapters.modelfolder import verify_version
from services.adapters.modelstore import ModelStore
from services.adapters.ports import InferenceClient, InferenceResult, ModelControl
from services.core.errors import ModelFormatError, SightlineError
from services.core.manifest import ModelManifest
from services.serving.backend.record import Choice, read_choices
from services.serving.repository import CONFIG, Placement, remove_entry, render_config, write_entry
from services.serving.versions import VersionKey, VersionState


class RefusedVersionError(ModelFormatError):
    """The version's own files are wrong: another try will end the same way."""

    reason = "version_refused"


class LoadRefusedError(SightlineError):
    """Triton did not load the version, for want of memory or the like; another try may succeed."""

    retriable = True
    reason = "load_refused"


@dataclass(frozen=True, slots=True)
class BringUp:
    """What it takes to bring versions up on one Triton. Safe to use from several threads.

    Attributes:
        store: Where versions come from.
        control: Loads and unloads on this Triton.
        client: Asks this Triton.
        repository: Triton's model repository.
        data: Local disk.
        placement: How versions are run.
        load_timeout_s: Longest load.
        warm_timeout_s: Deadline of each warming inference.
    """

    store: ModelStore
    control: ModelControl
    client: InferenceClient
    repository: Path
    data: Path
    placement: Placement
    load_timeout_s: float = 900.0
    warm_timeout_s: float = 60.0

    def folder_of(self, key: VersionKey) -> Path:
        """Where the local copy of a version lies."""
        return self.versions_folder / key.alias / str(key.version)

    @property
    def versions_folder(self) -> Path:
        """Where local copies lie, as ``<alias>/<version>``."""
        return self.data / "versions"

    @property
    def cache_folder(self) -> Path:
        """Where Triton's processes keep what they derive from versions."""
        return self.data / "derived"

    def run(self, key: VersionKey, tell: Callable[[VersionState], None]) -> None:
        """Bring a version up, or find that it is up.

        Args:
            key: The version.
            tell: Called with each state on the way.

        Raises:
            RefusedVersionError: If the version's files are damaged, foreign, or not this version.
            SightlineError: If the store, the disk or Triton failed; another try may succeed.
        """
        tell(VersionState.COPYING)
        manifest, folder = self._install(key)
        tell(VersionState.LOADING)
        if not self._is_up(manifest, folder):
            self._load(manifest, folder)
        tell(VersionState.WARMING)
        self._warm(manifest)

    def choices(self, key: VersionKey) -> dict[str, Choice]:
        """What serves a version that is up and why, by device; empty where Triton's disk is not ours."""
        folder = self.folder_of(key)
        device = "cpu" if self.placement.device == "cpu" else "cuda"
        return read_choices(self.cache_folder, folder, self.placement.engine, device)

    def take_down(self, key: VersionKey) -> None:
        """Unload a version and remove its entry.

        Raises:
            UnavailableError: If Triton does not answer in time.
        """
        self.control.unload(key.model_name, self.load_timeout_s)
        remove_entry(self.repository, key.model_name)

    def _install(self, key: VersionKey) -> tuple[ModelManifest, Path]:
        try:
            folder = self.store.install(key.alias, key.version, self.versions_folder)
            manifest = verify_version(folder)
        except ModelFormatError as error:
            raise RefusedVersionError(str(error)) from error
        # The time of last use, for the cleaning of the disk.
        os.utime(folder)
        return manifest, folder

    def _is_up(self, manifest: ModelManifest, folder: Path) -> bool:
        """Whether Triton has it loaded from the very entry that would be written now."""
        if manifest.triton_model_name not in self.control.ready_models():
            return False
        wanted = render_config(manifest, folder.resolve(), self.placement, self.cache_folder.resolve())
        try:
            return (self.repository / manifest.triton_model_name / CONFIG).read_text() == wanted
        except OSError:
            return False

    def _load(self, manifest: ModelManifest, folder: Path) -> None:
        write_entry(self.repository, manifest, folder, self.placement, self.cache_folder)
        try:
            self.control.load(manifest.triton_model_name, self.load_timeout_s)
        except ModelFormatError as error:
            remove_entry(self.repository, manifest.triton_model_name)
            if f"{ModelFormatError.reason}: " in str(error):
                raise RefusedVersionError(str(error)) from error
            raise LoadRefusedError(str(error)) from error

    def _warm(self, manifest: ModelManifest) -> None:
        shape = manifest.preprocessing
        noise = np.random.default_rng(0)
        # A model that came up gently has had its largest batch where nobody felt it; one more would be felt.
        sizes = {1} if self.placement.gentle else {1, self.placement.max_batch_size}
        for batch in sorted(sizes):
            images = noise.integers(0, 256, (batch, shape.height_px, shape.width_px, 3), dtype=np.uint8)
            future = self.client.infer(manifest.triton_model_name, images, self.warm_timeout_s)
            _check(future.result(self.warm_timeout_s + 5), manifest, batch)


def _check(result: InferenceResult, manifest: ModelManifest, batch: int) -> None:
    """Refuse answers that are not what the manifest promises.

    Raises:
        RefusedVersionError: Naming what is wrong.
    """
    parts = (result.score, result.probabilities, result.embedding, result.disagreement)
    shapes = tuple(part.shape for part in parts)
    expected = ((batch,), (batch, len(manifest.classes)), (batch, manifest.embedding_size), (batch,))
    if shapes != expected:
        raise RefusedVersionError(f"{manifest.triton_model_name} must answer shapes {expected}, got {shapes}")
    if not all(np.isfinite(part).all() for part in parts):
        raise RefusedVersionError(f"{manifest.triton_model_name} must answer finite numbers, got NaN or infinity")
