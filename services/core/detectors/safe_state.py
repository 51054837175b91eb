"""Fitted scikit-learn and PyOD objects to bytes and back, without pickle.

A model's folder may come from anywhere, so nothing that it says of itself is believed. The format is skops (a zip of
one JSON tree and plain arrays), and before skops sees a file,

- its size is bounded, and so is what it unpacks to: members are stored, never compressed, so a file cannot unpack to
  more than it has bytes, and an array's header cannot ask for more memory than the member holds;
- every type that the tree names must stand in a list that this module keeps **for that kind of object**. The list that
  skops offers to read out of the file is never asked for, and neither is skops' own list of what it trusts, which names
  far more than a fitted detector consists of.

Afterwards the indices and counts inside of search trees and support vector machines, which compiled code follows
unchecked, are checked.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import skops.io
from numpy.typing import NDArray
from sklearn.neighbors import KDTree
from sklearn.svm import OneClassSVM
from sklearn.tree._tree import Tree

from services.core.errors import ModelFormatError

#: Most bytes of one file.
MAX_STATE_BYTES: Final = 4 * 1024**3
_MAX_TREE_BYTES: Final = 256 * 1024**2
_MAX_MEMBERS: Final = 100_000
_MAX_DEPTH: Final = 100
_TREE: Final = "schema.json"

_PLAIN: Final = frozenset(
    {
        ("DictNode", "builtins.dict"),
        ("JsonNode", "builtins.str"),
        ("ListNode", "builtins.list"),
        ("NdArrayNode", "numpy.float32"),
        ("NdArrayNode", "numpy.float64"),
        ("NdArrayNode", "numpy.int64"),
        ("NdArrayNode", "numpy.ndarray"),
        ("TupleNode", "builtins.tuple"),
        ("TypeNode", "builtins.str"),
    }
)
_KD_TREE: Final = ("sklearn.metrics._dist_metrics.EuclideanDistance64", "sklearn.neighbors._kd_tree.KDTree")
_LOF: Final = ("pyod.models.lof.LOF", "sklearn.neighbors._lof.LocalOutlierFactor", *_KD_TREE)
_KNN: Final = ("pyod.models.knn.KNN", "sklearn.neighbors._unsupervised.NearestNeighbors", *_KD_TREE)
_PCA: Final = ("sklearn.decomposition._pca.PCA", "sklearn.preprocessing._data.StandardScaler")

#: What each kind of object consists of, its own type first; found by taking fitted ones apart.
ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "features": (
        "sklearn.pipeline.Pipeline",
        *_PCA,
        "sklearn.decomposition._kernel_pca.KernelPCA",
        "sklearn.preprocessing._data.KernelCenterer",
        "sklearn.kernel_approximation.Nystroem",
    ),
    "abod": ("pyod.models.abod.ABOD", "sklearn.neighbors._unsupervised.NearestNeighbors", *_KD_TREE),
    "cblof": ("pyod.models.cblof.CBLOF", "sklearn.cluster._kmeans.KMeans"),
    "feature-bagging": ("pyod.models.feature_bagging.FeatureBagging", *_LOF),
    "hbos": ("pyod.models.hbos.HBOS",),
    "iforest": (
        "pyod.models.iforest.IForest",
        "sklearn.ensemble._iforest.IsolationForest",
        "sklearn.tree._classes.ExtraTreeRegressor",
        "sklearn.tree._tree.Tree",
    ),
    "knn": _KNN,
    "average-knn": _KNN,
    "lof": _LOF,
    "ocsvm": ("pyod.models.ocsvm.OCSVM", "sklearn.svm._classes.OneClassSVM"),
    "pca": ("pyod.models.pca.PCA", *_PCA),
    "lscp": ("pyod.models.lscp.LSCP", *_LOF),
    "inne": ("pyod.models.inne.INNE",),
    "gmm": ("pyod.models.gmm.GMM", "sklearn.mixture._gaussian_mixture.GaussianMixture"),
    "kde": ("pyod.models.kde.KDE", "sklearn.neighbors._kde.KernelDensity", *_KD_TREE),
}

#: What skops and the constructors it calls raise on a tree that does not fit together.
_BROKEN: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    # Nested without end, not implemented, and a member that is encrypted.
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


def dump_state(fitted: object, kind: str) -> bytes:
    """Write a fitted object; the same object gives the same bytes at any time.

    Args:
        fitted: Of the type that the kind begins with.
        kind: One of :data:`ALLOWED`.

    Raises:
        ModelFormatError: If it could not be read back, because it consists of something that is not allowed.
    """
    data = _without_clock(skops.io.dumps(fitted, compression=zipfile.ZIP_STORED))
    _check_archive(data, kind, kind)
    return data


def load_state(data: bytes, kind: str, name: str) -> Any:
    """Read a fitted object.

    Args:
        data: What :func:`dump_state` gave, or what somebody claims it did.
        kind: One of :data:`ALLOWED`.
        name: The file's name, for the error message.

    Raises:
        ModelFormatError: If the file is too large, damaged, or holds anything but such an object.
    """
    _check_archive(data, kind, name)
    try:
        fitted = skops.io.loads(data, trusted=list(ALLOWED[kind]))
    except _BROKEN as error:
        raise ModelFormatError(f"{name}: must hold a fitted {kind} that fits together, got {error}") from error
    given = f"{type(fitted).__module__}.{type(fitted).__qualname__}"
    if given != ALLOWED[kind][0]:
        raise ModelFormatError(f"{name}: must hold a {ALLOWED[kind][0]}, got a {given}")
    for part in _compiled(fitted):
        if not _holds(part):
            raise ModelFormatError(
                f"{name}: a {type(part).__name__} must point at what it holds only, got one that points elsewhere"
            )
    return fitted


def _without_clock(data: bytes) -> bytes:
    """Number objects by their order, where skops writes the time of day and addresses in memory."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as given, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as written:
        tree = json.loads(given.read(_TREE))
        numbers: dict[int, int] = {}
        names: dict[str, str] = {}
        waiting: list[object] = [tree]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                if "__id__" in node:
                    node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
                if node.get("__loader__") == "NdArrayNode" and "file" in node:
                    node["file"] = names.setdefault(node["file"], f"{len(names) + 1}.npy")
                waiting.extend(node.values())
            elif isinstance(node, list):
                waiting.extend(node)
        for name, number in names.items():
            written.writestr(zipfile.ZipInfo(number), given.read(name))
        written.writestr(zipfile.ZipInfo(_TREE), json.dumps(tree, indent=1))
    return buffer.getvalue()


def _check_archive(data: bytes, kind: str, name: str) -> None:
    if len(data) > MAX_STATE_BYTES:
        raise ModelFormatError(f"{name}: must have at most {MAX_STATE_BYTES} bytes, got {len(data)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_members(members, len(data), name)
            tree = json.loads(archive.read(_TREE))
            types = set(_types(tree, name))
            shapes = {one.filename: _check_array(archive, one, name) for one in members if one.filename != _TREE}
            whole = _search_tree_nodes_hold(tree, shapes)
    except _BROKEN as error:
        raise ModelFormatError(f"{name}: must be a whole archive of arrays, got {error}") from error
    allowed = _PLAIN | {("TreeNode" if one.endswith(".Tree") else "ObjectNode", one) for one in ALLOWED[kind]}
    foreign = sorted(f"{kind_of_node} {given}" for kind_of_node, given in types - allowed)
    if not whole:
        raise ModelFormatError(f"{name}: a search tree must be whole and as its kind is kept, got one that is not")
    if foreign:
        raise ModelFormatError(f"{name}: must hold only what a fitted {kind} consists of, got {', '.join(foreign[:3])}")


def _check_members(members: list[zipfile.ZipInfo], size: int, name: str) -> None:
    names = [member.filename for member in members]
    if len(names) > _MAX_MEMBERS or len(set(names)) != len(names) or _TREE not in names:
        raise ModelFormatError(
            f"{name}: must hold {_TREE} and at most {_MAX_MEMBERS} arrays, each once, got {len(names)} members"
        )
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ModelFormatError(f"{name}: members must be stored uncompressed, got {member.filename} compressed")
        if member.filename == _TREE and member.file_size > _MAX_TREE_BYTES:
            raise ModelFormatError(f"{name}: {_TREE} must have at most {_MAX_TREE_BYTES} bytes, got {member.file_size}")
    total = sum(member.file_size for member in members)
    if total > size:
        raise ModelFormatError(f"{name}: members must fit into the file's {size} bytes, got {total} in all")


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> tuple[int, ...]:
    """Let an array through only if it is plain and as long as its header says; gives its shape."""
    if not member.filename.endswith(".npy"):
        raise ModelFormatError(f"{name}: must hold arrays beside {_TREE}, got {ascii(member.filename)[:80]}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        stated = file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
    if dtype.hasobject or stated != member.file_size:
        raise ModelFormatError(
            f"{name}: {member.filename} must hold the array that its header states, got {member.file_size} bytes for "
            f"{dtype} {shape}"
        )
    return tuple(shape)


def _types(tree: object, name: str) -> Iterator[tuple[str, str]]:
    """Walk the JSON tree for every type that it names."""
    waiting: list[tuple[object, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ModelFormatError(f"{name}: {_TREE} must be nested at most {_MAX_DEPTH} deep, got more")
        if isinstance(node, dict):
            if "__loader__" in node or "__class__" in node or "__module__" in node:
                yield str(node.get("__loader__")), f"{node.get('__module__')}.{node.get('__class__')}"
            waiting.extend((value, depth + 1) for value in node.values())
        elif isinstance(node, list):
            waiting.extend((value, depth + 1) for value in node)


def _search_tree_nodes_hold(tree: object, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Tell whether what compiled code takes over without a look has the form that it takes for granted.

    A tuple that is too short, or a count beyond an array, would be read past its end while it is loaded.

    Args:
        tree: The JSON tree, not nested too deep.
        shapes: Of the arrays, by file name.

    Raises:
        LookupError, TypeError, ValueError: If a node lacks what every one has.
    """
    # skops takes whatever it loaded first under a number, so all nodes of a number must be alike: as far as leaves and
    # kinds go for every node, and in all of it for what is taken over without a look.
    numbered: dict[Any, list[Mapping[str, Any]]] = {}
    sealed: set[Any] = set()
    for node in _nodes(tree):
        if "__id__" in node:
            numbered.setdefault(node["__id__"], []).append(node)
        kind = node.get("__class__")
        if kind in _TUPLES:
            if not _is_whole(node, _TUPLES[kind]):
                return False
            sealed.add(node["content"]["__id__"])
        elif kind == "Tree":
            if not _is_whole_decision_tree(node, shapes):
                return False
            sealed |= {node["content"]["__id__"], node["__reduce__"]["args"]["__id__"]}
    return all(
        all(one == nodes[0] for one in nodes)
        if number in sealed
        else len({_outline(one, shapes) for one in nodes}) == 1
        for number, nodes in numbered.items()
    )


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _outline(node: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[object, ...]:
    """What a node is, without what lies below it."""
    loader = node["__loader__"]
    of_it: object = ""
    if loader == "JsonNode":
        of_it = str(node["content"])
    elif loader == _ARRAY and node["type"] == "numpy":
        of_it = shapes[node["file"]]
    return (loader, node["__module__"], node["__class__"], of_it)


_ARRAY: Final = "NdArrayNode"
_VALUE: Final = "JsonNode"
# In the order in which scikit-learn keeps them.
_KD_TREE_PARTS: Final = (*[_ARRAY] * 4, *[_VALUE] * 7, "ObjectNode", _VALUE)
_DISTANCE_PARTS: Final = (_VALUE, _ARRAY, _ARRAY)
_TUPLES: Final = {"KDTree": _KD_TREE_PARTS, "EuclideanDistance64": _DISTANCE_PARTS}
_DECISION_TREE_PARTS: Final = {"max_depth": _VALUE, "node_count": _VALUE, "nodes": _ARRAY, "values": _ARRAY}


def _is_whole(node: Mapping[str, Any], parts: tuple[str, ...]) -> bool:
    content = node["content"]
    return content["__loader__"] == "TupleNode" and tuple(_loader(one) for one in content["content"]) == parts


def _is_whole_decision_tree(node: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    arguments, content = node["__reduce__"]["args"], node["content"]
    if arguments["__loader__"] != "TupleNode" or content["__loader__"] != "DictNode":
        return False
    given, parts = arguments["content"], content["content"]
    if tuple(_loader(one) for one in given) != (_VALUE, _ARRAY, _VALUE):
        return False
    if {key: _loader(one) for key, one in parts.items()} != _DECISION_TREE_PARTS:
        return False
    n_outputs, node_count = json.loads(given[2]["content"]), json.loads(parts["node_count"]["content"])
    return bool(
        n_outputs >= 1
        and shapes[given[1]["file"]] == (n_outputs,)
        and node_count >= 1
        and shapes[parts["nodes"]["file"]] == (node_count,)
    )


def _loader(node: Mapping[str, Any]) -> str:
    loader = node["__loader__"]
    # An array may be kept as JSON too, and then has no file whose shape is known.
    return "" if loader == _ARRAY and node["type"] != "numpy" else str(loader)


def _compiled(fitted: object) -> Iterator[Any]:
    """Find what compiled code follows without looking where it leads."""
    waiting, seen = [fitted], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, np.ndarray | str | bytes):
            continue
        seen.add(id(one))
        if isinstance(one, KDTree | Tree | OneClassSVM):
            yield one
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
        elif hasattr(one, "__dict__"):
            waiting.extend(vars(one).values())


def _holds(part: Any) -> bool:
    try:
        if isinstance(part, OneClassSVM):
            return _machine_holds(part)
        return _kd_tree_holds(part) if isinstance(part, KDTree) else _decision_tree_holds(part)
    except _BROKEN:
        # A file may name one and leave out what is in it.
        return False


def _machine_holds(machine: Any) -> bool:
    vectors, inner = machine.support_vectors_, vars(machine)
    count = len(vectors)
    # libsvm reads as many coefficients as there are vectors, and one intercept.
    return bool(
        vectors.shape == (count, machine.n_features_in_)
        and count > 0
        and inner["_sparse"] is False
        and machine.support_.shape == (count,)
        and inner["_dual_coef_"].shape == machine.dual_coef_.shape == (1, count)
        and inner["_intercept_"].shape == machine.intercept_.shape == (1,)
        and inner["_n_support"].tolist() == [count, count]
        and len(inner["_probA"]) == len(inner["_probB"]) == 0
    )


def _kd_tree_holds(tree: Any) -> bool:
    data, order, nodes, bounds = (np.asarray(part) for part in tree.get_arrays())
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    return bool(
        len(nodes) == int(tree.__getstate__()[6])
        # The children of node i are 2i + 1 and 2i + 2, so whatever has none must say so.
        and len(nodes) % 2 == 1
        and nodes["is_leaf"][len(nodes) // 2 :].all()
        and bounds.shape == (2, len(nodes), data.shape[1])
        and _within(order, len(data))
        and len(order) == len(data)
        and _within(starts, len(data) + 1)
        and _within(ends, len(data) + 1)
    )


def _decision_tree_holds(tree: Any) -> bool:
    left, right = np.asarray(tree.children_left), np.asarray(tree.children_right)
    inner = left != -1
    # Children come after their parent, so that following them must end.
    numbers = np.flatnonzero(inner)
    return bool(
        (inner == (right != -1)).all()
        and (left[inner] > numbers).all()
        and (right[inner] > numbers).all()
        and _within(left[inner], tree.node_count)
        and _within(right[inner], tree.node_count)
        and _within(np.asarray(tree.feature)[inner], tree.n_features)
    )


def _within(values: NDArray[Any], end: int) -> bool:
    return bool(((values >= 0) & (values < end)).all())
