from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from services.adapters.memory import MemoryObjectStore
from services.adapters.modelfolder import (
    CHECKSUMS,
    HOLDOUT,
    MANIFEST,
    REFERENCE,
    TRAINING_EMBEDDINGS,
    WEIGHTS,
    BasePart,
    Holdout,
    HoldoutPart,
    ModelVersion,
    Reference,
    TrainingBase,
    read_holdout,
    read_reference,
    read_training,
    read_weights,
    verify_version,
    write_version,
)
from services.adapters.modelstore import ModelStore
from services.core.errors import (
    ConflictError,
    InvalidInputError,
    ModelFormatError,
    NotFoundError,
    SightlineError,
    UnavailableError,
)
from services.core.manifest import Calibration, Lineage, ModelManifest, Normalisation
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint


def a_version(number: int = 1, alias: str = "default", *, seed: int = 0) -> ModelVersion:
    rng = np.random.default_rng(seed)
    files = tuple(f"disc-{index:03d}.png" for index in range(5))
    return ModelVersion(
        manifest=ModelManifest(
            alias=alias,
            version=number,
            architecture="customnet",
            classes=("good", "defect"),
            preprocessing=Preprocessing(),
            normalisation=Normalisation((127.5,) * 3, (127.5,) * 3),
            embedding_size=8,
            operating_point=OperatingPoint(0.5, 0.4, 0.6),
            calibration=Calibration("escape_rate", 0.05, 0.95, "clopper-pearson", 99, 99, 0.0, 0.0, 0.0, 0.0, 0.0),
            lineage=Lineage("simulation", "", seed, 1, 1, 1, "0" * 64),
            metrics={},
            code_version="0.1.0",
            created_at_ns=1,
        ),
        weights=safetensors.numpy.save({"w": rng.normal(size=50).astype(np.float32)}),
        holdout=Holdout(
            (HoldoutPart("p1", "disc", "good", "7", "a" * 64), HoldoutPart("p2", "disc", "crack", "8", "b" * 64))
        ),
        reference=Reference(
            images={name: rng.bytes(40) for name in files},
            files=files,
            scores=rng.random(5).astype(np.float32),
            embeddings=rng.normal(size=(5, 8)).astype(np.float16),
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_version(a_version(), tmp_path / "made" / "1")
    return tmp_path / "made" / "1"


@pytest.fixture
def objects() -> MemoryObjectStore:
    return MemoryObjectStore()


def keys(objects: MemoryObjectStore) -> list[str]:
    return sorted(stat.key for stat in objects.list(""))


def relist(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the list of checksums itself, as someone would who tampers with care."""
    tree = json.loads((folder / CHECKSUMS).read_bytes())
    change(tree)
    (folder / CHECKSUMS).write_text(json.dumps(tree))


def test_a_version_comes_back_as_it_was_written(folder: Path) -> None:
    version = a_version()
    assert verify_version(folder) == version.manifest
    assert read_weights(folder) == version.weights
    assert read_holdout(folder) == version.holdout
    reference = read_reference(folder)
    assert reference.files == version.reference.files
    assert reference.images == version.reference.images
    assert np.array_equal(reference.scores, version.reference.scores)
    assert np.array_equal(reference.embeddings, version.reference.embeddings)


def test_equal_versions_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    write_version(a_version(), tmp_path / "again")
    assert (tmp_path / "again" / CHECKSUMS).read_bytes() == (folder / CHECKSUMS).read_bytes()


def test_a_version_is_never_overwritten(folder: Path) -> None:
    before = (folder / CHECKSUMS).read_bytes()
    with pytest.raises(ConflictError, match="immutable"):
        write_version(a_version(seed=1), folder)
    assert (folder / CHECKSUMS).read_bytes() == before


def test_a_version_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    version = a_version()
    wrong = dataclasses.replace(version, reference=dataclasses.replace(version.reference, files=("../escape.png",) * 5))
    with pytest.raises(ModelFormatError):
        write_version(wrong, tmp_path / "v" / "1")
    assert not (tmp_path / "v" / "1").exists()
    assert not any(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, HOLDOUT, REFERENCE, "reference/disc-003.png"])
def test_one_changed_byte_in_any_file_is_found_and_the_file_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModelFormatError, match=name):
        verify_version(folder)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, HOLDOUT, REFERENCE, CHECKSUMS, "reference/disc-003.png"])
def test_a_missing_or_shortened_file_is_found_and_named(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-5])
    with pytest.raises(ModelFormatError, match=name):
        verify_version(folder)
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=name):
        verify_version(folder)


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(ModelFormatError, match=r"got also 'model\.pkl'"):
        verify_version(folder)


def test_a_link_in_the_place_of_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(outside)
    with pytest.raises(ModelFormatError, match="link"):
        verify_version(folder)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "reference/../../evil", "reference/", "reference/a/b", "reference/.x", "a\\b", "x"],
)
def test_a_list_that_names_files_elsewhere_is_refused(folder: Path, name: str) -> None:
    relist(folder, lambda tree: tree["files"].update({name: {"bytes": 1, "sha256": "0" * 64}}))
    with pytest.raises(ModelFormatError):
        verify_version(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.update(schema=2),
        lambda tree: tree.update(note="hello"),
        lambda tree: tree["files"].pop(WEIGHTS),
        lambda tree: tree["files"][WEIGHTS].pop("sha256"),
        lambda tree: tree["files"][WEIGHTS].update(bytes="12"),
        lambda tree: tree["files"][WEIGHTS].update(bytes=-1),
        lambda tree: tree["files"].update({f"reference/{i}": {"bytes": 0, "sha256": ""} for i in range(5000)}),
    ],
)
def test_a_list_of_another_form_is_refused(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    relist(folder, change)
    with pytest.raises(ModelFormatError, match="checksums"):
        verify_version(folder)


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="must be a folder"):
        verify_version(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": ("a.png",)}, "each once"),
        ({"scores": np.zeros(4, np.float32)}, "scores must be float32 of shape"),
        ({"scores": np.zeros(5)}, "scores must be float32 of shape"),
        ({"embeddings": np.zeros((4, 8), np.float16)}, "embeddings must be float16 of shape"),
        ({"embeddings": np.zeros((5, 9), np.float16)}, "embeddings must have 8 columns"),
    ],
)
def test_reference_parts_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    version = a_version()
    wrong = dataclasses.replace(version, reference=dataclasses.replace(version.reference, **change))
    with pytest.raises(ModelFormatError, match=message):
        write_version(wrong, tmp_path / "v")


def test_what_is_uploaded_can_be_installed_elsewhere_byte_for_byte(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore
) -> None:
    store = ModelStore(objects)
    assert store.upload(folder) == a_version().manifest
    assert "models/default/1/reference/disc-000.png" in keys(objects)
    installed = store.install("default", 1, tmp_path / "installed")
    assert installed == tmp_path / "installed" / "default" / "1"
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert (installed / path.relative_to(folder)).read_bytes() == path.read_bytes()
    assert store.manifest("default", 1) == a_version().manifest


def test_versions_and_aliases_are_listed_once_they_are_complete(tmp_path: Path, objects: MemoryObjectStore) -> None:
    store = ModelStore(objects)
    for alias, number in (("default", 10), ("default", 2), ("weld", 1)):
        write_version(a_version(number, alias), tmp_path / alias / str(number))
        store.upload(tmp_path / alias / str(number))
    objects.put("models/default/3/model.json", b"{}")
    objects.put("models/default/2/derived/drift/abc/checksums.json", b"{}")
    assert store.versions("default") == (2, 10)
    assert store.versions("other") == ()
    assert store.aliases() == ("default", "weld")


def test_uploading_the_same_version_twice_changes_nothing(folder: Path, objects: MemoryObjectStore) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    puts = objects.puts
    store.upload(folder)
    assert objects.puts == puts


def test_another_version_under_the_same_number_is_a_conflict(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore
) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    write_version(a_version(seed=1), tmp_path / "other")
    with pytest.raises(ConflictError, match="immutable"):
        store.upload(tmp_path / "other")
    assert store.install("default", 1, tmp_path / "in").is_dir()


def test_an_upload_that_was_cut_off_is_invisible_and_can_be_repeated(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore
) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    objects.delete([f"models/default/1/{CHECKSUMS}", f"models/default/1/{WEIGHTS}"])
    assert store.versions("default") == ()
    with pytest.raises(NotFoundError, match="nothing complete"):
        store.install("default", 1, tmp_path / "in")
    store.upload(folder)
    assert store.install("default", 1, tmp_path / "in").is_dir()


def test_a_damaged_folder_is_not_uploaded(folder: Path, objects: MemoryObjectStore) -> None:
    (folder / WEIGHTS).write_bytes(b"x")
    with pytest.raises(ModelFormatError, match=WEIGHTS):
        ModelStore(objects).upload(folder)
    assert keys(objects) == []


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS, "reference/disc-001.png"])
@pytest.mark.parametrize("damage", ["changed", "longer", "missing"])
def test_what_was_tampered_with_in_the_store_is_never_installed(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore, name: str, damage: str
) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    key = f"models/default/1/{name}"
    data = objects.get(key)
    if damage == "missing":
        objects.delete([key])
    else:
        objects.put(key, data + b"x" if damage == "longer" else bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ModelFormatError, match=name):
        store.install("default", 1, tmp_path / "in")
    assert [path for path in (tmp_path / "in").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "in" / "default" / "1").exists()
    if name == MANIFEST:
        with pytest.raises(ModelFormatError, match=MANIFEST):
            store.manifest("default", 1)


def test_a_version_copied_under_another_number_is_refused(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore
) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    for key in keys(objects):
        objects.put(key.replace("/1/", "/2/", 1), objects.get(key))
    with pytest.raises(ModelFormatError, match="must be of default version 2, got default version 1"):
        store.install("default", 2, tmp_path / "in")


def test_an_installed_version_is_kept_and_a_damaged_one_replaced(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore
) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    installed = store.install("default", 1, tmp_path / "in")
    inode = installed.stat().st_ino
    assert store.install("default", 1, tmp_path / "in").stat().st_ino == inode
    (installed / WEIGHTS).write_bytes(b"damaged by a full disk")
    assert store.install("default", 1, tmp_path / "in") == installed
    assert hashlib.sha256((installed / WEIGHTS).read_bytes()).digest() == hashlib.sha256(read_weights(folder)).digest()


@pytest.mark.parametrize(("alias", "version"), [("../up", 1), ("a/b", 1), ("default", 0), ("default", -1), ("", 1)])
def test_path_tricks_in_alias_or_version_are_refused(
    tmp_path: Path, objects: MemoryObjectStore, alias: str, version: int
) -> None:
    with pytest.raises(InvalidInputError):
        ModelStore(objects).install(alias, version, tmp_path)
    with pytest.raises(InvalidInputError):
        ModelStore(objects).manifest(alias, version)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_is_unavailable_and_leaves_nothing_half_installed(
    folder: Path, tmp_path: Path, objects: MemoryObjectStore
) -> None:
    store = ModelStore(objects)
    store.upload(folder)
    objects.unavailable = True
    for call in (lambda: store.upload(folder), lambda: store.install("default", 1, tmp_path / "in")):
        with pytest.raises(UnavailableError) as caught:
            call()
        assert isinstance(caught.value, SightlineError)
        assert caught.value.retriable
    assert not (tmp_path / "in" / "default" / "1").exists()


# ---- the base set


def a_base(version: ModelVersion) -> TrainingBase:
    parts = (
        BasePart("t1", "disc", "good", "train", "disc/1/0", "c" * 64),
        BasePart("t2", "disc", "dent", "train", "disc/2/0", "d" * 64),
        BasePart("c1", "disc", "good", "calibration", "disc/3/0", "e" * 64),
    )
    rng = np.random.default_rng(9)
    rows = len(parts) + len(version.holdout.parts)
    return TrainingBase(parts, rng.normal(size=(rows, 8)).astype(np.float32))


def test_a_base_set_travels_through_the_store_and_back(tmp_path: Path) -> None:
    version = a_version()
    base = a_base(version)
    write_version(dataclasses.replace(version, training=base), tmp_path / "made" / "1")
    store = ModelStore(MemoryObjectStore())
    store.upload(tmp_path / "made" / "1")
    read = read_training(store.install("default", 1, tmp_path / "installed"))
    assert read is not None
    assert read.parts == base.parts
    assert (read.embeddings == base.embeddings).all()
    files = [path for path in (tmp_path / "made" / "1").rglob("*") if path.is_file() and path.name != CHECKSUMS]
    whole = sum(path.stat().st_size for path in files)
    assert store.describe("default", 1).size_bytes == whole
    # Those are reference parts only.
    assert len(store.reference_images("default", 1, 100)) == 5


def test_a_version_without_a_base_set_is_whole_all_the_same(folder: Path) -> None:
    assert read_training(folder) is None


def test_a_base_set_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    version = a_version()
    base = a_base(version)
    held_out = dataclasses.replace(base.parts[0], part_id="p1")
    wrong = {
        r"must be finite float32 of shape \(5, D\)": dataclasses.replace(base, embeddings=base.embeddings[:4]),
        "must have 8 columns": dataclasses.replace(base, embeddings=base.embeddings[:, :7]),
        "one side only, got 'p1' in holdout and train": dataclasses.replace(base, parts=(held_out, *base.parts[1:])),
        "one side only, got 't1' in train and calibration": dataclasses.replace(
            base, parts=(*base.parts[:2], dataclasses.replace(base.parts[2], part_id="t1"))
        ),
    }
    for message, bad in wrong.items():
        with pytest.raises(ModelFormatError, match=message):
            write_version(dataclasses.replace(version, training=bad), tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_half_a_base_set_is_refused(tmp_path: Path) -> None:
    version = a_version()
    folder = tmp_path / "1"
    write_version(dataclasses.replace(version, training=a_base(version)), folder)
    listed = json.loads((folder / CHECKSUMS).read_bytes())
    del listed["files"][TRAINING_EMBEDDINGS]
    (folder / CHECKSUMS).write_text(json.dumps(listed))
    (folder / TRAINING_EMBEDDINGS).unlink()
    with pytest.raises(ModelFormatError, match="must list both"):
        verify_version(folder)
