"""Real model versions for tests: a whole folder, as a trainer would write it, of any architecture."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from services.adapters.modelfolder import Holdout, HoldoutPart, ModelVersion, Reference, write_version
from services.core.imaging import encode_png
from services.core.manifest import Calibration, Lineage, Metric, ModelManifest
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model
from services.core.models.state import save_state
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint


def write_model_version(
    folder: Path,
    *,
    alias: str = "default",
    version: int = 1,
    architecture: str = "customnet",
    size_px: int = 64,
    seed: int = 0,
    weights: str = "none",
    parts: int = 1,
) -> ModelManifest:
    """Write one version; its network is drawn from ``seed`` and not trained, its reference parts are noise."""
    model = create_model(architecture, 2, weights, seed=seed)  # type: ignore[arg-type]
    _spread_scores(model, size_px)
    manifest = _manifest(model, alias, version, architecture, size_px)
    version_folder(folder, manifest, model, parts)
    return manifest


def _spread_scores(model: Classifier, size_px: int) -> None:
    """Scale the last layer so that scores differ from image to image; untrained, it says the same to everything."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(32, 3, size_px, size_px, generator=generator) * 255
    with torch.no_grad():
        logits = model.linear(model.embed(noise * torch.linspace(0.1, 1.0, 32).view(-1, 1, 1, 1)))
        scale = 2 / float((logits[:, 1] - logits[:, 0]).std())
        model.linear.weight.mul_(scale)
        model.linear.bias.sub_(logits.mean(dim=0)).mul_(scale)


def version_folder(folder: Path, manifest: ModelManifest, model: Classifier, parts: int = 1) -> None:
    """Write the folder of a network with its manifest; each reference part is noise, from dark to bright."""
    rng = np.random.default_rng(0)
    size = manifest.preprocessing
    images = {
        f"part-{number}.png": encode_png(
            (rng.uniform(0, 255, (size.height_px, size.width_px, 3)) * gain).astype(np.uint8)
        )
        for number, gain in enumerate(np.linspace(0.1, 1.0, parts), start=1)
    }
    part = HoldoutPart("part-1", "disc", "good", "seed:1", hashlib.sha256(images["part-1.png"]).hexdigest())
    reference = Reference(
        images=images,
        files=tuple(images),
        scores=np.full(parts, 0.1, np.float32),
        embeddings=rng.standard_normal((parts, manifest.embedding_size)).astype(np.float16),
    )
    write_version(ModelVersion(manifest, save_state(model), Holdout((part,)), reference), folder)


def _manifest(model: Classifier, alias: str, version: int, architecture: str, size_px: int) -> ModelManifest:
    return ModelManifest(
        alias=alias,
        version=version,
        architecture=architecture,
        classes=("good", "defect"),
        preprocessing=Preprocessing(height_px=size_px, width_px=size_px),
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=OperatingPoint(0.5, 0.4, 0.6),
        calibration=Calibration("escape_rate", 0.01, 0.0, "none", 1, 1, 0.0, 0.0, 0.0, 0.0, 0.0),
        lineage=Lineage("test", "not trained", 0, 0, 0, 1, "0" * 64),
        metrics={"auroc": Metric(0.5, 0.5, 0.5, 1)},
        code_version="0",
        created_at_ns=1,
    )
