"""A model version's folder, each of its files as somebody else may have written it."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.adapters import modelfolder
    from services.core.detectors.detector import DetectorSpec
    from services.core.detectors.header import describe, kept_spec, pack
    from services.core.detectors.scale import ScoreScale
    from services.core.manifest import ModelManifest

NAME = "version_folder"

#: File of the folder and what reads it. New ones go to the end.
FILES: Final[tuple[tuple[str, Callable[[Path], Any]], ...]] = (
    (modelfolder.MANIFEST, lambda folder: ModelManifest.from_json((folder / modelfolder.MANIFEST).read_bytes())),
    (modelfolder.CHECKSUMS, modelfolder.verify_version),
    (modelfolder.HOLDOUT, modelfolder.read_holdout),
    (modelfolder.REFERENCE, modelfolder.read_reference),
    (modelfolder.TRAINING_PARTS, modelfolder.read_training),
    (modelfolder.TRAINING_EMBEDDINGS, modelfolder.read_training),
    ("scale.json", lambda folder: ScoreScale.from_json((folder / "scale.json").read_bytes())),
    ("detector.json", lambda folder: kept_spec({"detector.json": (folder / "detector.json").read_bytes()})),
)


def check(data: bytes) -> None:
    which, body = cut(data, len(FILES))
    name, read = FILES[which]
    folder = _folder()
    before = (folder / name).read_bytes() if (folder / name).exists() else None
    try:
        (folder / name).write_bytes(body)
        value = refused(lambda: read(folder))
        if isinstance(value, ModelManifest | ScoreScale):
            written = value.to_json()
            assert type(value).from_json(written).to_json() == written
    finally:
        if before is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(before)


@cache
def _folder() -> Path:
    """A whole version, in memory where there is such a place; gone with the process."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="sightline-fuzz-", dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, data in _files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@cache
def _files() -> Mapping[str, bytes]:
    """The smallest version that holds: one reference part, one hold-out part, one of the base set."""
    import numpy as np
    import safetensors.numpy

    from tests.support.described_versions import manifest

    size = manifest(1).embedding_size
    part = {"part_id": "part-1", "product": "disc", "label": "good", "source": "", "sha256": "0" * 64}
    base = {"part_id": "part-2", "product": "disc", "label": "good", "source": "", "sha256": "0" * 64}
    files = {
        modelfolder.MANIFEST: manifest(1).to_json(),
        modelfolder.HOLDOUT: json.dumps({"schema": 1, "parts": [part]}).encode(),
        modelfolder.REFERENCE: safetensors.numpy.save(
            {"scores": np.zeros(1, np.float32), "embeddings": np.zeros((1, size), np.float16)},
            metadata={"files": json.dumps(["part-1.png"])},
        ),
        f"{modelfolder.REFERENCE_DIR}/part-1.png": b"no picture is decoded here",
        modelfolder.WEIGHTS: b"no weights are read here",
        modelfolder.TRAINING_PARTS: json.dumps({"parts": [base | {"role": "train"}], "schema": 1}).encode(),
        modelfolder.TRAINING_EMBEDDINGS: safetensors.numpy.save({"embeddings": np.zeros((2, size), np.float32)}),
    }
    listed = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return files | {modelfolder.CHECKSUMS: json.dumps({"schema": 1, "files": listed}).encode()}


def seeds() -> dict[str, bytes]:
    made = {}
    for index, (name, _) in enumerate(FILES):
        if name in _files() and len(_files()[name]) < 20_000:
            made[name] = bytes([index]) + _files()[name]
    scale = ScoreScale(0.5, 0.1, 0.01, 0.95, "average", 20, 0, 0.0)
    header = describe(DetectorSpec("hbos", features="pca5"), (8, 8, 3), 5)
    made["scale"] = bytes([6]) + scale.to_json()
    made["detector"] = bytes([7]) + pack(header, {})["detector.json"]
    return made


if __name__ == "__main__":
    sys.exit(run(NAME, check))
