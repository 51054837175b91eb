"""What a detector is kept as: whole, its own, and never more than it says."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import skops.io
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.kde import KDE
from pyod.models.ocsvm import OCSVM
from sklearn.linear_model import LinearRegression

from services.core.detectors.catalogue import fit_detector, load_detector
from services.core.detectors.detector import PYOD_DETECTORS, DetectorSpec, Files
from services.core.detectors.safe_state import ALLOWED, _kd_tree_holds, dump_state, load_state
from services.core.errors import ModelFormatError
from tests.unit.core.detectors.toys import SHAPE, good_parts

PARTS = good_parts(20, seed=0)
SPEC = DetectorSpec("hbos", features="pca5")


def files() -> dict[str, bytes]:
    return fit_detector(PARTS, SPEC).files()


def resigned(changed: Files) -> dict[str, bytes]:
    """Give tampered files the digests that go with them, as whoever tampers with them would."""
    header = json.loads(changed["detector.json"])
    header["sha256"] = {n: hashlib.sha256(d).hexdigest() for n, d in changed.items() if n != "detector.json"}
    return {**changed, "detector.json": json.dumps(header).encode()}


def repacked(data: bytes, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def state() -> bytes:
    return dump_state(HBOS().fit(np.random.default_rng(0).normal(size=(20, 3))), "hbos")


@pytest.mark.parametrize("name", PYOD_DETECTORS)
def test_a_changed_byte_is_found(name: str) -> None:
    spec = DetectorSpec(name, features="raw")
    kept = fit_detector(PARTS, spec).files()
    for file in sorted(set(kept) - {"detector.json"}):
        data = bytearray(kept[file])
        data[len(data) // 2] ^= 1
        with pytest.raises(ModelFormatError, match=f"{file}: must have the SHA-256"):
            load_detector(spec, SHAPE, {**kept, file: bytes(data)})


@pytest.mark.parametrize("name", PYOD_DETECTORS)
def test_a_file_that_ends_early_is_refused_even_with_a_digest_that_fits(name: str) -> None:
    spec = DetectorSpec(name, features="raw")
    kept = fit_detector(PARTS, spec).files()
    for file in sorted(set(kept) - {"detector.json"}):
        with pytest.raises(ModelFormatError, match=file):
            load_detector(spec, SHAPE, resigned({**kept, file: kept[file][: len(kept[file]) // 2]}))


@pytest.mark.parametrize("name", sorted(set(PYOD_DETECTORS) - {"lmdd"}))
def test_a_fitted_object_of_a_foreign_type_is_refused(name: str) -> None:
    spec = DetectorSpec(name, features="raw")
    kept = fit_detector(PARTS, spec).files()
    foreign = skops.io.dumps(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]))
    with pytest.raises(
        ModelFormatError, match=f"what a fitted {name} consists of, got ObjectNode sklearn.linear_model"
    ):
        load_detector(spec, SHAPE, resigned({**kept, "detector.skops": foreign}))


def test_another_detector_s_state_is_refused() -> None:
    kde = dump_state(KDE().fit(np.random.default_rng(0).normal(size=(20, 3))), "kde")
    with pytest.raises(ModelFormatError, match=r"consists of, got ObjectNode pyod.models.kde.KDE"):
        load_state(kde, "hbos", "detector.skops")


def test_a_part_of_the_right_object_in_its_place_is_refused() -> None:
    tree = skops.io.dumps(KDE().fit(np.random.default_rng(0).normal(size=(20, 3))).kde_)
    with pytest.raises(ModelFormatError, match=r"must hold a pyod.models.kde.KDE, got a sklearn"):
        load_state(tree, "kde", "detector.skops")


def test_a_function_that_skops_itself_would_trust_is_refused() -> None:
    smuggled = skops.io.dumps({"run": np.exp})
    assert skops.io.get_untrusted_types(data=smuggled) == []
    with pytest.raises(ModelFormatError, match="consists of, got"):
        load_state(smuggled, "hbos", "detector.skops")


def test_what_could_not_be_read_back_is_not_written() -> None:
    detector = HBOS().fit(np.random.default_rng(0).normal(size=(20, 3)))
    detector.extra = LinearRegression()
    with pytest.raises(ModelFormatError, match=r"consists of, got ObjectNode sklearn.linear_model"):
        dump_state(detector, "hbos")


def test_a_compressed_member_is_refused_before_it_is_unpacked() -> None:
    def grow(members: dict[str, bytes]) -> None:
        members["bomb.npy"] = bytes(50_000_000)

    bomb = repacked(state(), grow, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(ModelFormatError, match="must be stored uncompressed, got"):
        load_state(bomb, "hbos", "detector.skops")


def test_an_array_that_claims_more_than_it_holds_is_refused() -> None:
    def claim(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith(".npy"))
        buffer = io.BytesIO()
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(buffer, header)
        members[name] = buffer.getvalue() + bytes(80)

    with pytest.raises(ModelFormatError, match="must hold the array that its header states"):
        load_state(repacked(state(), claim), "hbos", "detector.skops")


def test_an_array_of_python_objects_is_refused() -> None:
    def pickle_it(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith(".npy"))
        buffer = io.BytesIO()
        np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        members[name] = buffer.getvalue()

    with pytest.raises(ModelFormatError, match="must hold the array that its header states"):
        load_state(repacked(state(), pickle_it), "hbos", "detector.skops")


def test_a_member_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelFormatError, match=r"must hold arrays beside schema.json, got 'run.py'"):
        load_state(repacked(state(), lambda members: members.update({"run.py": b"1"})), "hbos", "detector.skops")


@pytest.mark.parametrize("data", [b"", b"PK", b"no archive at all"])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"detector.skops: must be a whole archive"):
        load_state(data, "hbos", "detector.skops")


def test_a_tree_nested_without_end_is_refused() -> None:
    def nest(members: dict[str, bytes]) -> None:
        members["schema.json"] = b'{"a":' * 200 + b"1" + b"}" * 200

    with pytest.raises(ModelFormatError, match="nested at most 100 deep"):
        load_state(repacked(state(), nest), "hbos", "detector.skops")


def test_a_search_tree_that_points_outside_of_itself_is_refused() -> None:
    class Broken:
        def __init__(self, tree: object, order: np.ndarray) -> None:
            data, _, nodes, bounds = (np.asarray(part) for part in tree.get_arrays())  # type: ignore[attr-defined]
            self.arrays, self.state = (data, order, nodes, bounds), tree.__getstate__()  # type: ignore[call-arg]

        def get_arrays(self) -> object:
            return self.arrays

        def __getstate__(self) -> object:
            return self.state

    tree = KDE().fit(np.random.default_rng(0).normal(size=(20, 3))).kde_.tree_
    assert _kd_tree_holds(tree)
    assert _kd_tree_holds(Broken(tree, np.arange(20)))
    assert not _kd_tree_holds(Broken(tree, np.arange(20) + 1_000_000))


def test_a_forest_whose_trees_point_outside_of_themselves_is_refused() -> None:
    spec = DetectorSpec("iforest", features="raw", options={"n_estimators": 3})
    kept = fit_detector(PARTS, spec).files()

    def misdirect(members: dict[str, bytes]) -> None:
        for name, content in members.items():
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(content))
                if array.dtype.names and "left_child" in array.dtype.names:
                    array["left_child"][0] = 10**6
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    members[name] = buffer.getvalue()

    tampered = {**kept, "detector.skops": repacked(kept["detector.skops"], misdirect)}
    with pytest.raises(ModelFormatError, match="a Tree must point at what it holds only"):
        load_detector(spec, SHAPE, resigned(tampered))


@pytest.mark.parametrize("kind", sorted(ALLOWED))
def test_the_list_of_what_is_allowed_names_its_own_type_first_and_nothing_that_runs_code(kind: str) -> None:
    assert ALLOWED[kind][0].startswith(("pyod.models.", "sklearn.pipeline."))
    assert all(name.split(".")[0] in ("pyod", "sklearn") for name in ALLOWED[kind])


def test_files_of_another_specification_or_shape_are_refused() -> None:
    kept = files()
    with pytest.raises(
        ModelFormatError, match=r"detector.json: must be of SpecRecord\(detector='hbos', features='pca6'"
    ):
        load_detector(DetectorSpec("hbos", features="pca6"), SHAPE, kept)
    with pytest.raises(ModelFormatError, match=r"image_shape must be \(6, 6, 3\), got \(12, 12, 3\)"):
        load_detector(SPEC, (6, 6, 3), kept)


def test_missing_and_unknown_files_are_refused() -> None:
    kept = files()
    with pytest.raises(ModelFormatError, match=r"must have detector.json, got no files"):
        load_detector(SPEC, SHAPE, {})
    with pytest.raises(ModelFormatError, match=r"files beside detector.json must be"):
        load_detector(SPEC, SHAPE, {name: data for name, data in kept.items() if name != "features.skops"})
    with pytest.raises(ModelFormatError, match=r"got detector.json, detector.skops, extra, features.skops"):
        load_detector(SPEC, SHAPE, {**kept, "extra": b""})


def test_a_header_of_another_schema_is_refused() -> None:
    kept = files()
    header = json.loads(kept["detector.json"]) | {"schema": 9}
    with pytest.raises(ModelFormatError, match="schema must be 2, got 9"):
        load_detector(SPEC, SHAPE, {**kept, "detector.json": json.dumps(header).encode()})


def test_features_and_a_detector_that_do_not_go_together_are_refused() -> None:
    kept, other = files(), fit_detector(PARTS, DetectorSpec("hbos", features="pca9")).files()
    with pytest.raises(ModelFormatError, match=r"must go together|must be 9|finite score"):
        load_detector(SPEC, SHAPE, resigned({**kept, "features.skops": other["features.skops"]}))
    knn, spec = fit_detector(PARTS, DetectorSpec("knn", features="pca5")).files(), DetectorSpec("knn", features="pca5")
    wrong = fit_detector(PARTS, DetectorSpec("knn", features="pca9")).files()["detector.skops"]
    with pytest.raises(ModelFormatError, match="must go together"):
        load_detector(spec, SHAPE, resigned({**knn, "detector.skops": wrong}))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"other": np.zeros((4, 5))}, "must hold one float64 array, reference, of at least two rows, got other"),
        ({"reference": np.zeros((4, 5), np.float32)}, r"got reference with float32 \(4, 5\)"),
        ({"reference": np.zeros((1, 5))}, r"got reference with float64 \(1, 5\)"),
        ({"reference": np.full((4, 5), np.nan)}, "reference must be finite"),
        ({"reference": np.zeros((4, 6))}, "must go together"),
    ],
)
def test_a_reference_set_that_is_none_is_refused(arrays: dict[str, np.ndarray], message: str) -> None:
    spec = DetectorSpec("lmdd", features="pca5")
    kept = fit_detector(PARTS, spec).files()
    with pytest.raises(ModelFormatError, match=message):
        load_detector(spec, SHAPE, resigned({**kept, "detector.safetensors": safetensors.numpy.save(arrays)}))


@pytest.mark.parametrize(("kind", "named"), [("kde", "KDTree"), ("iforest", "Tree")])
@pytest.mark.parametrize("empty", ["null", "{}", "[]", '""', "[1, 2, 3]"])
def test_a_search_tree_that_is_named_and_left_empty_is_refused(kind: str, named: str, empty: str) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    fitted = KDE().fit(rows) if kind == "kde" else IForest(n_estimators=1, random_state=0).fit(rows)

    def leave_empty(members: dict[str, bytes]) -> None:
        tree = json.loads(members["schema.json"])
        waiting, emptied = [tree], 0
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict) and node.get("__class__") == named:
                plain = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True}
                node["content"] = plain | {"content": empty, "__id__": 99_999}
                emptied += 1
            waiting.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        assert emptied
        members["schema.json"] = json.dumps(tree).encode()

    with pytest.raises(ModelFormatError, match="must be whole"):
        load_state(repacked(dump_state(fitted, kind), leave_empty), kind, "detector.skops")


def changed_nodes(kind: str, named: str, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A fitted detector whose file says something else of each node of a class."""
    rows = np.random.default_rng(0).normal(size=(90, 3))
    fitted = KDE().fit(rows) if kind == "kde" else IForest(n_estimators=1, random_state=0).fit(rows)

    def edit(members: dict[str, bytes]) -> None:
        tree = json.loads(members["schema.json"])
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict) and node.get("__class__") == named:
                change(node)
            waiting.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        members["schema.json"] = json.dumps(tree).encode()

    return repacked(dump_state(fitted, kind), edit)


@pytest.mark.parametrize("kind", ["kde", "iforest"])
def test_what_is_hidden_behind_a_number_that_was_there_before_is_refused(kind: str) -> None:
    named, holder = ("KDTree", "KernelDensity") if kind == "kde" else ("Tree", "ExtraTreeRegressor")
    numbers = []
    changed_nodes(kind, named, lambda node: numbers.append(node["content"]["__id__"]))

    def hide(node: dict[str, Any]) -> None:
        # skops takes what it loaded first under a number, whatever stands there later.
        attributes = node["content"]["content"]
        decoy = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []}
        first = next(iter(attributes))
        attributes[first] = decoy | {"__id__": numbers[0]}

    with pytest.raises(ModelFormatError, match="must be whole"):
        load_state(changed_nodes(kind, holder, hide), kind, "detector.skops")


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["content"]["content"]["node_count"].update(content="1000000", __id__=99_999),
        lambda node: node["content"]["content"]["node_count"].update(content="0", __id__=99_999),
        lambda node: node["__reduce__"]["args"]["content"][2].update(content="1000000", __id__=99_999),
        lambda node: node["__reduce__"]["args"]["content"].pop(),
        lambda node: node["content"]["content"].pop("values"),
        lambda node: node["content"]["content"]["nodes"].update(type="json", __id__=99_999),
    ],
)
def test_a_decision_tree_that_counts_beyond_its_arrays_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(ModelFormatError, match="must be whole"):
        load_state(changed_nodes("iforest", "Tree", change), "iforest", "detector.skops")


def test_a_search_tree_whose_last_nodes_claim_children_is_refused() -> None:
    tree = KDE(leaf_size=5).fit(np.random.default_rng(0).normal(size=(90, 3))).kde_.tree_
    assert _kd_tree_holds(tree)
    data, order, nodes, bounds = (np.array(part) for part in tree.get_arrays())
    nodes["is_leaf"][-1] = 0

    class Childless:
        def get_arrays(self) -> tuple[Any, ...]:
            return data, order, nodes, bounds

        def __getstate__(self) -> tuple[Any, ...]:
            return tuple(tree.__getstate__())

    assert not _kd_tree_holds(Childless())


def test_a_member_that_says_it_is_encrypted_is_refused() -> None:
    data = bytearray(state())
    # The lowest bit of the flags, in the central directory's entry of the first array.
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ModelFormatError, match=r"must be a whole archive of arrays, got .* is encrypted"):
        load_state(bytes(data), "hbos", "detector.skops")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_dual_coef_", np.ones((1, 1))),
        ("_intercept_", np.zeros(0)),
        ("_n_support", np.array([1_000_000, 0], np.int32)),
        ("support_vectors_", np.zeros((0, 3))),
        ("support_", np.zeros(1, np.int32)),
        ("_probA", np.zeros(1)),
        ("_sparse", True),
    ],
)
def test_a_support_vector_machine_whose_counts_do_not_fit_is_refused(attribute: str, value: Any) -> None:
    fitted = OCSVM().fit(np.random.default_rng(0).normal(size=(40, 3)))
    assert load_state(dump_state(fitted, "ocsvm"), "ocsvm", "detector.skops")
    setattr(fitted.detector_, attribute, value)
    with pytest.raises(ModelFormatError, match="a OneClassSVM must point at what it holds only"):
        load_state(dump_state(fitted, "ocsvm"), "ocsvm", "detector.skops")
