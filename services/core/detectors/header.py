"""``detector.json``: what a kept detector is, and the strict reading of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Final

from services.core.detectors.detector import DetectorSpec, Files
from services.core.errors import InvalidInputError, ModelFormatError
from services.core.manifest import OptionValue, load_json, read_strictly

HEADER: Final = "detector.json"
SCHEMA: Final = 2
"""2: the patches of an image fade towards its border."""


@dataclass(frozen=True, slots=True)
class SpecRecord:
    """A :class:`DetectorSpec` as plain JSON values."""

    detector: str
    features: str
    backbone: str
    seed: int
    options: dict[str, OptionValue]


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a kept detector.

    Attributes:
        spec: What it is.
        image_shape: ``(H, W, 3)`` of the images that it takes.
        channels: Channels of the pixels that it compares; 0 where it compares what a network makes of them.
        components: Principal components that there were; 0 without PCA.
        embedding_size: Length of what it compares.
        sha256: Digest of each of its other files, in lower-case hex: a damaged file is found before it is read.
        schema: Version of this layout.
    """

    spec: SpecRecord
    image_shape: tuple[int, ...]
    channels: int
    components: int
    embedding_size: int
    sha256: dict[str, str]
    schema: int = SCHEMA


def pack(header: Header, files: Files) -> dict[str, bytes]:
    """Put a header beside the files that it describes."""
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    values = dataclasses.asdict(dataclasses.replace(header, sha256=digests))
    text = json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return {HEADER: text.encode(), **files}


def describe(
    spec: DetectorSpec,
    image_shape: tuple[int, int, int],
    embedding_size: int,
    *,
    channels: int = 0,
    components: int = 0,
) -> Header:
    """Make the header of a fitted detector; :func:`pack` adds the digests. See :class:`Header` for the arguments."""
    return Header(_record(spec), image_shape, channels, components, embedding_size, {})


def kept_spec(files: Files) -> DetectorSpec:
    """Tell what a kept detector is by its header alone; :func:`unpack` checks the rest.

    Raises:
        ModelFormatError: If the header is missing or not what this release writes.
    """
    return _spec(_read(files).spec)


def unpack(spec: DetectorSpec, image_shape: tuple[int, int, int], files: Files) -> Header:
    """Read the header, and check that it is of the detector that is asked for and that its files are whole.

    Raises:
        ModelFormatError: If a file is missing, unknown or damaged, or the detector is another one.
    """
    header = _read(files)
    if _spec(header.spec) != DetectorSpec(**dataclasses.asdict(_record(spec))):
        raise ModelFormatError(f"{HEADER}: must be of {_record(spec)}, got {header.spec}")
    if header.image_shape != tuple(image_shape):
        raise ModelFormatError(f"{HEADER}: image_shape must be {tuple(image_shape)}, got {header.image_shape}")
    if set(files) - {HEADER} != set(header.sha256):
        raise ModelFormatError(
            f"files beside {HEADER} must be {', '.join(sorted(header.sha256))}, got {', '.join(sorted(set(files)))}"
        )
    for name, digest in sorted(header.sha256.items()):
        given = hashlib.sha256(files[name]).hexdigest()
        if given != digest:
            raise ModelFormatError(f"{name}: must have the SHA-256 that {HEADER} states, {digest}, got {given}")
    return header


def _read(files: Files) -> Header:
    if HEADER not in files:
        raise ModelFormatError(f"a detector must have {HEADER}, got {', '.join(sorted(files)) or 'no files'}")
    values = load_json(files[HEADER], HEADER)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        given = values.get("schema") if isinstance(values, dict) else type(values).__name__
        raise ModelFormatError(f"{HEADER}: schema must be {SCHEMA}, got {given!r}: fit the detector again")
    return read_strictly(Header, values, HEADER)


def _record(spec: DetectorSpec) -> SpecRecord:
    return SpecRecord(spec.detector, spec.features, spec.backbone, spec.seed, dict(spec.options))


def _spec(record: SpecRecord) -> DetectorSpec:
    try:
        return DetectorSpec(**dataclasses.asdict(record))
    except InvalidInputError as error:
        raise ModelFormatError(f"spec: {error}") from error
