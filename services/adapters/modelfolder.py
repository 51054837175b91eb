"""A model version as a folder: written once, verified whenever read.

::

    model.json                    the manifest, read strictly
    weights.safetensors           a network's numbers
    detector/<file>               what a detector is kept as, where the version is one, in place of the weights
    holdout.json                  the frozen hold-out, by part
    reference/<file>              held-out good parts, encoded images
    reference/reference.safetensors   their scores and embeddings
    training/parts.json           the base set: what the alias' first version was fitted and calibrated on, by part
    training/embeddings.safetensors   those parts, then the hold-out's, as the frozen backbone sees them
    checksums.json                SHA-256 and size of everything above

The base set is optional: a version without one serves as any other, and nothing can be learnt from people's answers to
it. Every later version of an alias carries the same one.

Nothing is ever changed in place, nothing is unpickled, and no file that is not listed, or whose bytes are not the
listed ones, is accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from services.core.errors import ConflictError, InvalidInputError, ModelFormatError, NotFoundError
from services.core.identity import validate_id
from services.core.manifest import ModelManifest, load_json, read_strictly

MANIFEST: Final = "model.json"
WEIGHTS: Final = "weights.safetensors"
HOLDOUT: Final = "holdout.json"
CHECKSUMS: Final = "checksums.json"
REFERENCE_DIR: Final = "reference"
REFERENCE: Final = f"{REFERENCE_DIR}/reference.safetensors"
DETECTOR_DIR: Final = "detector"
TRAINING_DIR: Final = "training"
TRAINING_PARTS: Final = f"{TRAINING_DIR}/parts.json"
TRAINING_EMBEDDINGS: Final = f"{TRAINING_DIR}/embeddings.safetensors"
REQUIRED: Final = frozenset({MANIFEST, HOLDOUT, REFERENCE})

_HOLDOUT_SCHEMA: Final = 1
_CHECKSUMS_SCHEMA: Final = 1
_PARTS_SCHEMA: Final = 1
_MAX_FILES: Final = 4096
MAX_FILE_BYTES: Final = 4 * 1024**3
CONTENT_TYPES: Final = {".json": "application/json", ".jpg": "image/jpeg", ".png": "image/png"}


@dataclass(frozen=True, slots=True)
class HoldoutPart:
    """One part of the frozen hold-out.

    Attributes:
        part_id: The part; all of its images are held out.
        product: What it is one of.
        label: Its true class; ``good`` or a kind of fault.
        source: How to get its image again: a drawing seed, a file name, an object key.
        sha256: Digest of its encoded image, or of its pixels where it is drawn.
    """

    part_id: str
    product: str
    label: str
    source: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Holdout:
    """Parts that are never trained on, in any later version of the alias either."""

    parts: tuple[HoldoutPart, ...]
    schema: int = _HOLDOUT_SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Held-out good parts with what the version said of them; drift and explanations are measured against these.

    Attributes:
        images: Encoded images by file name, e.g. ``disc-000123.png``.
        files: Their names, in the order of the arrays' rows.
        scores: Anomaly scores, ``float32``, shape ``(N,)``.
        embeddings: ``float16``, shape ``(N, D)``.
    """

    images: Mapping[str, bytes]
    files: tuple[str, ...]
    scores: NDArray[np.float32]
    embeddings: NDArray[np.float16]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceAnswers:
    """What a version said of its held-out good parts, without their images.

    Attributes:
        scores: Anomaly scores, ``float32``, shape ``(N,)``.
        embeddings: ``float16``, shape ``(N, D)``.
        products: What each part is one of; empty where the version does not tell.
    """

    scores: NDArray[np.float32]
    embeddings: NDArray[np.float16]
    products: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BasePart:
    """One part of the base set.

    Attributes:
        part_id: The part; in one role only, and never in the hold-out.
        product: What it is one of.
        label: Its true class; ``good`` or a kind of fault.
        role: Whether a version is fitted on it, or its operating point is chosen on it.
        source: How to get its image again, as of a :class:`HoldoutPart`.
        sha256: Digest of its encoded image, or of its pixels where it is drawn.
    """

    part_id: str
    product: str
    label: str
    role: Literal["train", "calibration"]
    source: str
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBase:
    """What every version of an alias is trained on besides what people answered.

    Attributes:
        parts: In row order.
        embeddings: ``float32``, shape ``(N + H, D)``: rows of ``parts``, then of the hold-out in its own order, as the
            frozen backbone sees them, whatever became of the backbone of this version.
    """

    parts: tuple[BasePart, ...]
    embeddings: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _PartsFile:
    parts: tuple[BasePart, ...]
    schema: int = _PARTS_SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class ModelVersion:
    """A whole model version in memory, ready to be written.

    Attributes:
        manifest: What it is.
        weights: Of a network; empty for a detector.
        holdout: Parts that are never trained on.
        reference: Held-out good parts.
        detector: What a detector is kept as, by file name; empty for a network.
        training: The base set; None where there is none.
    """

    manifest: ModelManifest
    weights: bytes
    holdout: Holdout
    reference: Reference
    detector: Mapping[str, bytes] = field(default_factory=dict)
    training: TrainingBase | None = None


def write_version(version: ModelVersion, folder: Path) -> None:
    """Write a version as a folder, whole or not at all.

    Args:
        version: What to write.
        folder: Where; must not exist yet.

    Raises:
        ConflictError: If the folder exists: versions are immutable.
        ModelFormatError: If the parts of the version do not fit each other.
    """
    files = _files_of(version)
    with staging_folder(folder) as staging:
        for name, data in files.items():
            write_file(staging / name, data)
        write_file(staging / CHECKSUMS, _checksums_json(files))
        verify_version(staging)
        publish_folder(staging, folder)


def renumber_version(folder: Path, destination: Path, version: int) -> ModelManifest:
    """Write a version anew under another number, where its own was taken before it was stored.

    Args:
        folder: The version; verified first.
        destination: Where; what lies there must be the same version, cut off or whole.
        version: Its number.

    Returns:
        Its manifest.

    Raises:
        ModelFormatError: If the folder is damaged.
    """
    manifest = replace(verify_version(folder), version=version)
    files = {name: read_file(folder, name) for name in listed_files(read_file(folder, CHECKSUMS))}
    files[MANIFEST] = manifest.to_json()
    with staging_folder(destination) as staging:
        for name, data in files.items():
            write_file(staging / name, data)
        write_file(staging / CHECKSUMS, _checksums_json(files))
        verify_version(staging)
        publish_folder(staging, destination, keep_existing=True)
    return manifest


def code_version() -> str:
    """Name this release, for the manifest of a version that it makes; ``unknown`` where it is not installed."""
    try:
        return metadata.version("sightline")
    except metadata.PackageNotFoundError:
        return "unknown"


def verify_version(folder: Path) -> ModelManifest:
    """Check a version's folder byte for byte.

    Args:
        folder: The version.

    Returns:
        Its manifest.

    Raises:
        NotFoundError: If there is no such folder.
        ModelFormatError: If a file is missing, extra, a link, or not the one that was written; the message names it.
    """
    if not folder.is_dir():
        raise NotFoundError(f"a model version must be a folder, got {folder}")
    listed = listed_files(read_file(folder, CHECKSUMS))
    found = set(_walk(folder))
    extra = sorted(found - set(listed) - {CHECKSUMS})
    if extra:
        raise ModelFormatError(f"{CHECKSUMS}: must list every file, got also {', '.join(map(ascii, extra[:3]))}")
    for name, (size, digest) in listed.items():
        if name not in found:
            raise ModelFormatError(f"{name}: is listed in {CHECKSUMS} but missing")
        path = folder / name
        if path.stat().st_size != size:
            raise ModelFormatError(f"{name}: must have {size} bytes, got {path.stat().st_size}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise ModelFormatError(f"{name}: must be the file that was written, got another content")
    return ModelManifest.from_json(read_file(folder, MANIFEST))


def read_weights(folder: Path) -> bytes:
    """Read a version's weights; verify the folder first."""
    return read_file(folder, WEIGHTS)


def read_detector(folder: Path) -> dict[str, bytes]:
    """Read what a version's detector is kept as, by file name; verify the folder first."""
    listed = listed_files(read_file(folder, CHECKSUMS))
    names = sorted(name for name in listed if name.startswith(f"{DETECTOR_DIR}/"))
    return {name.partition("/")[2]: read_file(folder, name) for name in names}


def read_holdout(folder: Path) -> Holdout:
    """Read a version's frozen hold-out.

    Raises:
        ModelFormatError: If the file is not what this release writes.
    """
    return parse_holdout(read_file(folder, HOLDOUT))


def parse_holdout(data: bytes) -> Holdout:
    """Read a frozen hold-out from its file's content.

    Raises:
        ModelFormatError: If it is not what this release writes.
    """
    holdout = read_strictly(Holdout, load_json(data, HOLDOUT), HOLDOUT)
    if holdout.schema != _HOLDOUT_SCHEMA:
        raise ModelFormatError(f"{HOLDOUT}: schema must be {_HOLDOUT_SCHEMA}, got {holdout.schema}")
    return holdout


def read_reference(folder: Path) -> Reference:
    """Read a version's reference parts, images included.

    Raises:
        ModelFormatError: If names, scores and embeddings do not fit each other.
    """
    files, scores, embeddings = parse_reference(read_file(folder, REFERENCE))
    images = {name: read_file(folder, f"{REFERENCE_DIR}/{name}") for name in files}
    reference = Reference(images, files, scores, embeddings)
    _check_reference(reference)
    return reference


def parse_reference(data: bytes) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float16]]:
    """Read names, scores and embeddings of reference parts from their file's content.

    Raises:
        ModelFormatError: If they do not fit each other.
    """
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ModelFormatError(f"{REFERENCE}: must be a safetensors file, got {error}") from error
    # The library read the header as JSON before it gave the arrays out; of bytes it does not give out the metadata.
    header = load_json(data[8 : 8 + int.from_bytes(data[:8], "little")], REFERENCE)
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    names = metadata.get("files", "") if isinstance(metadata, dict) else ""
    files = read_strictly(tuple[str, ...], load_json(str(names).encode(), REFERENCE), f"{REFERENCE}: files")
    if set(arrays) != {"scores", "embeddings"}:
        raise ModelFormatError(f"{REFERENCE}: must hold scores and embeddings, got {', '.join(sorted(arrays))}")
    files = tuple(_safe_name(name) for name in files)
    scores, embeddings = arrays["scores"], arrays["embeddings"]
    if scores.shape != (len(files),) or embeddings.ndim != 2 or len(embeddings) != len(files):
        raise ModelFormatError(
            f"{REFERENCE}: must have a score and an embedding for each of {len(files)} parts, "
            f"got shapes {scores.shape} and {embeddings.shape}"
        )
    return files, scores, embeddings


def read_training(folder: Path) -> TrainingBase | None:
    """Read a version's base set; verify the folder first.

    Returns:
        None where it has none.

    Raises:
        ModelFormatError: If the files are not what this release writes, or do not fit each other or the hold-out.
    """
    if TRAINING_PARTS not in listed_files(read_file(folder, CHECKSUMS)):
        return None
    parts = read_strictly(_PartsFile, load_json(read_file(folder, TRAINING_PARTS), TRAINING_PARTS), TRAINING_PARTS)
    if parts.schema != _PARTS_SCHEMA:
        raise ModelFormatError(f"{TRAINING_PARTS}: schema must be {_PARTS_SCHEMA}, got {parts.schema}")
    try:
        arrays = safetensors.numpy.load(read_file(folder, TRAINING_EMBEDDINGS))
    except (safetensors.SafetensorError, ValueError) as error:
        raise ModelFormatError(f"{TRAINING_EMBEDDINGS}: must be a safetensors file, got {error}") from error
    if set(arrays) != {"embeddings"}:
        raise ModelFormatError(f"{TRAINING_EMBEDDINGS}: must hold embeddings, got {', '.join(sorted(arrays))}")
    base = TrainingBase(parts.parts, arrays["embeddings"])
    _check_training(base, read_holdout(folder))
    return base


def _check_training(base: TrainingBase, holdout: Holdout) -> None:
    rows = len(base.parts) + len(holdout.parts)
    found = base.embeddings
    if found.ndim != 2 or len(found) != rows or found.dtype != np.float32 or not np.isfinite(found).all():
        raise ModelFormatError(
            f"{TRAINING_EMBEDDINGS}: must be finite float32 of shape ({rows}, D), one row a part of the base set "
            f"and of the hold-out, got {found.dtype} of shape {found.shape}"
        )
    sides: dict[str, str] = {part.part_id: "holdout" for part in holdout.parts}
    for part in base.parts:
        if sides.setdefault(part.part_id, part.role) != part.role:
            raise ModelFormatError(
                f"{TRAINING_PARTS}: a part must be on one side only, got {ascii(part.part_id)[:80]} in "
                f"{sides[part.part_id]} and {part.role}"
            )


def _files_of(version: ModelVersion) -> dict[str, bytes]:
    _check_reference(version.reference)
    if version.reference.embeddings.shape[1] != version.manifest.embedding_size:
        raise ModelFormatError(
            f"reference embeddings must have {version.manifest.embedding_size} columns as the manifest says, "
            f"got {version.reference.embeddings.shape[1]}"
        )
    holdout = {
        "schema": version.holdout.schema,
        "parts": [
            {"part_id": p.part_id, "product": p.product, "label": p.label, "source": p.source, "sha256": p.sha256}
            for p in version.holdout.parts
        ],
    }
    files = {
        MANIFEST: version.manifest.to_json(),
        HOLDOUT: (json.dumps(holdout, indent=1, sort_keys=True) + "\n").encode(),
        REFERENCE: safetensors.numpy.save(
            {"scores": version.reference.scores, "embeddings": version.reference.embeddings},
            metadata={"files": json.dumps(list(version.reference.files))},
        ),
    }
    for name, data in version.reference.images.items():
        files[f"{REFERENCE_DIR}/{_safe_name(name)}"] = data
    if version.training is not None:
        files |= _training_files(version.training, version)
    if version.manifest.detector:
        files |= {f"{DETECTOR_DIR}/{_safe_name(name)}": data for name, data in version.detector.items()}
    else:
        files[WEIGHTS] = version.weights
    return files


def _training_files(base: TrainingBase, version: ModelVersion) -> dict[str, bytes]:
    _check_training(base, version.holdout)
    if base.embeddings.shape[1] != version.manifest.embedding_size:
        raise ModelFormatError(
            f"{TRAINING_EMBEDDINGS}: must have {version.manifest.embedding_size} columns as the manifest says, "
            f"got {base.embeddings.shape[1]}"
        )
    parts = json.dumps(asdict(_PartsFile(base.parts)), sort_keys=True, separators=(",", ":")) + "\n"
    # What this release could not read again must not be written.
    load_json(parts.encode(), TRAINING_PARTS)
    return {
        TRAINING_PARTS: parts.encode(),
        TRAINING_EMBEDDINGS: safetensors.numpy.save({"embeddings": np.ascontiguousarray(base.embeddings)}),
    }


def _check_reference(reference: Reference) -> None:
    count = len(reference.files)
    if set(reference.files) != set(reference.images) or len(set(reference.files)) != count:
        raise ModelFormatError("reference files must be the reference images, each once")
    if reference.scores.shape != (count,) or reference.scores.dtype != np.float32:
        raise ModelFormatError(
            f"reference scores must be float32 of shape ({count},), "
            f"got {reference.scores.dtype} of shape {reference.scores.shape}"
        )
    if reference.embeddings.ndim != 2 or len(reference.embeddings) != count or reference.embeddings.dtype != np.float16:
        raise ModelFormatError(
            f"reference embeddings must be float16 of shape ({count}, D), "
            f"got {reference.embeddings.dtype} of shape {reference.embeddings.shape}"
        )


def _checksums_json(files: Mapping[str, bytes]) -> bytes:
    listed = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in sorted(files.items())
    }
    return (json.dumps({"schema": _CHECKSUMS_SCHEMA, "files": listed}, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True, slots=True)
class _Checksum:
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Checksums:
    schema: int
    files: dict[str, _Checksum]


def listed_files(checksums: bytes) -> dict[str, tuple[int, str]]:
    """Read ``checksums.json``: size and digest by file name; every name is safe to join to a folder or a key."""
    read = read_strictly(_Checksums, load_json(checksums, CHECKSUMS), CHECKSUMS)
    if read.schema != _CHECKSUMS_SCHEMA:
        raise ModelFormatError(f"{CHECKSUMS}: schema must be {_CHECKSUMS_SCHEMA}, got {read.schema}")
    if len(read.files) > _MAX_FILES:
        raise ModelFormatError(f"{CHECKSUMS}: must list at most {_MAX_FILES} files, got {len(read.files)}")
    missing = sorted(REQUIRED - set(read.files))
    if missing:
        raise ModelFormatError(f"{CHECKSUMS}: must list {', '.join(missing)}")
    is_detector = any(name.startswith(f"{DETECTOR_DIR}/") for name in read.files)
    if is_detector == (WEIGHTS in read.files):
        raise ModelFormatError(f"{CHECKSUMS}: must list either {WEIGHTS} or files in {DETECTOR_DIR}/")
    if (TRAINING_PARTS in read.files) != (TRAINING_EMBEDDINGS in read.files):
        raise ModelFormatError(f"{CHECKSUMS}: must list both {TRAINING_PARTS} and {TRAINING_EMBEDDINGS} or neither")
    for name, entry in read.files.items():
        if name not in REQUIRED and name not in (WEIGHTS, TRAINING_PARTS, TRAINING_EMBEDDINGS):
            folder, _, file = name.partition("/")
            if folder not in (REFERENCE_DIR, DETECTOR_DIR):
                raise ModelFormatError(f"{CHECKSUMS}: must list only a version's files, got {ascii(name)[:80]}")
            _safe_name(file)
        if not 0 <= entry.bytes <= MAX_FILE_BYTES:
            raise ModelFormatError(f"{CHECKSUMS}: {name} must have 0..{MAX_FILE_BYTES} bytes, got {entry.bytes}")
    return {name: (entry.bytes, entry.sha256) for name, entry in read.files.items()}


def _walk(folder: Path) -> Iterator[str]:
    for directory, names, files in os.walk(folder):
        for name in [*names, *files]:
            path = Path(directory) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ModelFormatError(f"{name!a}: must be a plain file, got a link or a device")
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def check_content(name: str, data: bytes, size: int, digest: str) -> None:
    """Refuse bytes that are not the listed ones; raises ``ModelFormatError``."""
    if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
        raise ModelFormatError(f"{name}: must be the file that was written, got another content")


def check_identity(manifest: ModelManifest, alias: str, version: int) -> None:
    """Refuse a manifest of another alias or version; raises ``ModelFormatError``."""
    if (manifest.alias, manifest.version) != (alias, version):
        raise ModelFormatError(
            f"{MANIFEST}: must be of {alias} version {version}, got {manifest.alias} version {manifest.version}"
        )


def _safe_name(name: str) -> str:
    try:
        return validate_id(name, "file name")
    except InvalidInputError as error:
        raise ModelFormatError(f"{REFERENCE_DIR}: {error}") from error


def read_file(folder: Path, name: str) -> bytes:
    """Read one of a version's files; raises ``ModelFormatError`` where it is missing or a link."""
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise ModelFormatError(f"{name}: must be a plain file, got none")
    return path.read_bytes()


def write_file(path: Path, data: bytes) -> None:
    """Write a file and its folders, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Lend a folder beside ``target``, on its file system; gone at the end whatever happened, unless published."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def publish_folder(staging: Path, folder: Path, *, keep_existing: bool = False) -> None:
    """Give the finished folder its name: the one step after which the version exists."""
    staging.chmod(0o755)
    try:
        staging.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise
        if not keep_existing:
            raise ConflictError(f"a model version is immutable: {folder} exists") from error
    _sync_directory(folder.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
