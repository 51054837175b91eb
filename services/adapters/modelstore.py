"""Model versions in an object store: uploaded once, installed whole, verified at both ends.

A version's files lie under ``models/<alias>/<version>/``; see :mod:`services.adapters.modelfolder` for what they are.
``checksums.json`` is uploaded last: a version without it does not exist yet, so an upload that was cut off is invisible
and may simply be repeated.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from services.adapters.modelfolder import (
    CHECKSUMS,
    CONTENT_TYPES,
    HOLDOUT,
    MANIFEST,
    MAX_FILE_BYTES,
    REFERENCE,
    REFERENCE_DIR,
    ReferenceAnswers,
    check_content,
    check_identity,
    listed_files,
    parse_holdout,
    parse_reference,
    publish_folder,
    read_file,
    staging_folder,
    verify_version,
    write_file,
)
from services.adapters.ports import ObjectStore
from services.core.errors import ConflictError, InvalidInputError, ModelFormatError, NotFoundError
from services.core.manifest import ModelManifest, validate_alias


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """What the store knows of a version without its files."""

    manifest: ModelManifest
    size_bytes: int
    """Of all its files."""


class ModelStore:
    """Model versions in an object store, under ``models/<alias>/<version>/``.

    Args:
        store: The bucket.
        prefix: First part of every key.
    """

    def __init__(self, store: ObjectStore, prefix: str = "models") -> None:
        self._store = store
        self._prefix = prefix

    def upload(self, folder: Path) -> ModelManifest:
        """Put a version into the store.

        Uploading the same version again is allowed and does nothing; ``checksums.json`` goes last, so that a version
        whose upload was cut off is not visible and can be uploaded again.

        Args:
            folder: The version; verified first.

        Returns:
            Its manifest.

        Raises:
            ModelFormatError: If the folder is damaged.
            ConflictError: If the store holds another version of the same alias and number.
            UnavailableError: If the store does not answer.
        """
        manifest = verify_version(folder)
        checksums = read_file(folder, CHECKSUMS)
        key = self._key(manifest.alias, manifest.version, CHECKSUMS)
        if self._store.exists(key):
            self._refuse_other(key, checksums, manifest)
            return manifest
        for name in listed_files(checksums):
            self._store.put(
                self._key(manifest.alias, manifest.version, name),
                read_file(folder, name),
                content_type=CONTENT_TYPES.get(Path(name).suffix, "application/octet-stream"),
            )
        try:
            self._store.put_new(key, checksums, content_type="application/json")
        except ConflictError:
            self._refuse_other(key, checksums, manifest)
        return manifest

    def install(self, alias: str, version: int, root: Path) -> Path:
        """Bring a version to the local disk, whole or not at all.

        Args:
            alias: Model alias.
            version: Its number.
            root: Folder of installed versions; the version goes to ``<root>/<alias>/<version>``.

        Returns:
            The version's folder. One that is there already and intact is kept; a damaged one is replaced.

        Raises:
            NotFoundError: If the store has no such version.
            ModelFormatError: If what the store holds is not what was uploaded, or not this alias and version.
            UnavailableError: If the store does not answer.
        """
        folder = root / validate_alias(alias) / str(_positive(version))
        if folder.is_dir():
            try:
                return self._checked(folder, alias, version)
            except ModelFormatError:
                shutil.rmtree(folder)
        checksums = self._get(alias, version, CHECKSUMS, MAX_FILE_BYTES)
        with staging_folder(folder) as staging:
            for name, (size, _) in listed_files(checksums).items():
                write_file(staging / name, self._get(alias, version, name, size))
            write_file(staging / CHECKSUMS, checksums)
            self._checked(staging, alias, version)
            publish_folder(staging, folder, keep_existing=True)
        return folder

    def versions(self, alias: str) -> tuple[int, ...]:
        """List the complete versions of an alias, ascending."""
        found = []
        for stat in self._store.list(f"{self._prefix}/{validate_alias(alias)}/"):
            parts = stat.key[len(self._prefix) + 1 :].split("/")
            if len(parts) == 3 and parts[2] == CHECKSUMS and parts[1].isdecimal():
                found.append(int(parts[1]))
        return tuple(sorted(found))

    def aliases(self) -> tuple[str, ...]:
        """List the aliases that have a complete version, in order of their names."""
        found = set()
        for stat in self._store.list(f"{self._prefix}/"):
            parts = stat.key[len(self._prefix) + 1 :].split("/")
            if len(parts) == 3 and parts[2] == CHECKSUMS:
                found.add(parts[0])
        return tuple(sorted(found))

    def manifest(self, alias: str, version: int) -> ModelManifest:
        """Read a version's manifest from the store; see :meth:`describe`."""
        return self.describe(alias, version).manifest

    def describe(self, alias: str, version: int) -> StoredVersion:
        """Read a version's manifest from the store, checked against its checksums, and the size of the version.

        Raises:
            NotFoundError: If the store has no such version.
            ModelFormatError: If it is damaged.
            UnavailableError: If the store does not answer.
        """
        listed = listed_files(self._get(alias, version, CHECKSUMS, MAX_FILE_BYTES))
        size, digest = listed[MANIFEST]
        data = self._get(alias, version, MANIFEST, size)
        check_content(MANIFEST, data, size, digest)
        manifest = ModelManifest.from_json(data)
        check_identity(manifest, alias, version)
        return StoredVersion(manifest, sum(each for each, _ in listed.values()))

    def reference_images(self, alias: str, version: int, most: int) -> list[bytes]:
        """Read some of a version's reference parts from the store, each checked against the checksums.

        Args:
            alias: Model alias.
            version: Its number.
            most: Images to read; fewer where the version has fewer. They are spread evenly over all, and the same
                at each call.

        Returns:
            Encoded images of held-out good parts.

        Raises:
            NotFoundError: If the store has no such version.
            ModelFormatError: If it is damaged.
            UnavailableError: If the store does not answer.
        """
        listed = listed_files(self._get(alias, version, CHECKSUMS, MAX_FILE_BYTES))
        names = sorted(name for name in listed if name.startswith(f"{REFERENCE_DIR}/") and name != REFERENCE)
        count = min(max(0, most), len(names))
        images = []
        for name in (names[index * len(names) // count] for index in range(count)):
            size, digest = listed[name]
            data = self._get(alias, version, name, size)
            check_content(name, data, size, digest)
            images.append(data)
        return images

    def reference(self, alias: str, version: int) -> ReferenceAnswers:
        """Read what a version said of its held-out good parts, without their images, checked against the checksums.

        Args:
            alias: Model alias.
            version: Its number.

        Raises:
            NotFoundError: If the store has no such version.
            ModelFormatError: If it is damaged.
            UnavailableError: If the store does not answer.
        """
        listed = listed_files(self._get(alias, version, CHECKSUMS, MAX_FILE_BYTES))
        content = {}
        for name in (REFERENCE, HOLDOUT):
            size, digest = listed[name]
            content[name] = self._get(alias, version, name, size)
            check_content(name, content[name], size, digest)
        files, scores, embeddings = parse_reference(content[REFERENCE])
        parts = parse_holdout(content[HOLDOUT]).parts
        by_name = {part.part_id: part.product for part in parts}
        by_digest = {part.sha256: part.product for part in parts}
        digests = (listed.get(f"{REFERENCE_DIR}/{name}", (0, ""))[1] for name in files)
        products = tuple(
            by_name.get(name.rpartition(".")[0]) or by_digest.get(digest, "")
            for name, digest in zip(files, digests, strict=True)
        )
        return ReferenceAnswers(scores, embeddings, products)

    def _checked(self, folder: Path, alias: str, version: int) -> Path:
        check_identity(verify_version(folder), alias, version)
        return folder

    def _refuse_other(self, key: str, checksums: bytes, manifest: ModelManifest) -> None:
        if self._store.get(key) != checksums:
            raise ConflictError(
                f"a model version is immutable: the store holds another {manifest.alias} version {manifest.version}"
            )

    def _get(self, alias: str, version: int, name: str, max_bytes: int) -> bytes:
        key = self._key(alias, version, name)
        try:
            return self._store.get(key, max_bytes=max_bytes)
        except NotFoundError as error:
            if name == CHECKSUMS:
                raise NotFoundError(f"the store must hold {alias} version {version}, got nothing complete") from error
            raise ModelFormatError(f"{name}: is listed in {CHECKSUMS} but missing from the store") from error
        except InvalidInputError as error:
            raise ModelFormatError(f"{name}: must have the listed size, got more") from error

    def _key(self, alias: str, version: int, name: str) -> str:
        return f"{self._prefix}/{validate_alias(alias)}/{_positive(version)}/{name}"


def _positive(version: int) -> int:
    if version < 1:
        raise InvalidInputError(f"version must be at least 1, got {version}")
    return version
