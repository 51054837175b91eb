"""Model versions in a store, whole and small: what shows them reads nothing but their manifests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from services.adapters.modelfolder import Holdout, HoldoutPart, ModelVersion, Reference, write_version
from services.adapters.modelstore import ModelStore
from services.adapters.ports import ObjectStore
from services.core.manifest import Calibration, Lineage, Metric, ModelManifest, Normalisation
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint

CREATED_NS = 1_790_000_000_000_000_000
DAY_NS = 86_400_000_000_000


def manifest(version: int, alias: str = "default", **changes: Any) -> ModelManifest:
    """A manifest as a fit writes it; later versions are a little better."""
    better = 0.01 * version
    made = ModelManifest(
        alias=alias,
        version=version,
        architecture="efficientnet-lite0",
        classes=("good", "scratch", "dent", "stain"),
        preprocessing=Preprocessing(),
        normalisation=Normalisation((127.5,) * 3, (127.5,) * 3),
        embedding_size=8,
        operating_point=OperatingPoint(0.62 - better, 0.55 - better, 0.68 - better),
        calibration=Calibration("escape_rate", 0.1, 0.95, "clopper-pearson", 240, 240, 0.02, 0.079, 0.0, 0.05, 0.25),
        lineage=Lineage(
            source="simulation" if version == 1 else "reviews",
            description="simulated discs" if version == 1 else "simulated discs and what people said in May",
            seed=7,
            n_train=600 + 40 * version,
            n_calibration=240,
            n_holdout=480,
            data_sha256="a" * 64,
            parent=f"{alias}-v{version - 1}" if version > 1 else "",
            backbone_weights="offline",
        ),
        metrics={
            "auroc": Metric(0.94 + better, 0.92 + better, min(1.0, 0.96 + better), 480),
            "escape_rate": Metric(0.12 - better, 0.08 - better, 0.16 - better, 240),
            "false_reject_rate": Metric(0.02, 0.0, 0.04, 240),
            "review_rate_good": Metric(0.08 - better, 0.05 - better, 0.11 - better, 240),
        },
        code_version="0.1.0",
        created_at_ns=CREATED_NS + version * DAY_NS,
    )
    return replace(made, **changes)


def put_version(
    store: ObjectStore, folder: Path, version: int, alias: str = "default", *, n_weights: int = 50, **changes: Any
) -> ModelManifest:
    """Put a version into a store.

    Args:
        store: The bucket.
        folder: Where it may be written first.
        version: Its number.
        alias: Its alias.
        n_weights: How many numbers it has, 4 bytes each.
        changes: Fields of its manifest.
    """
    files = ("disc-000.png",)
    rng = np.random.default_rng(version)
    made = ModelVersion(
        manifest=manifest(version, alias, **changes),
        weights=safetensors.numpy.save({"w": rng.normal(size=n_weights).astype(np.float32)}),
        holdout=Holdout((HoldoutPart("p1", "disc", "good", "7", "a" * 64),)),
        reference=Reference(
            images={name: rng.bytes(40) for name in files},
            files=files,
            scores=rng.random(1).astype(np.float32),
            embeddings=rng.normal(size=(1, 8)).astype(np.float16),
        ),
    )
    write_version(made, folder / alias / str(version))
    return ModelStore(store).upload(folder / alias / str(version))
