"""A fitted detector's file: a zip of one JSON tree and plain arrays, from whoever may write into the bucket."""

from __future__ import annotations

import io
import sys
import zipfile
from functools import cache

from tests.fuzz.harness import cut, instrumented, refused, run

with instrumented(__name__):
    from services.core.detectors.safe_state import ALLOWED, load_state

NAME = "detector_state"
_KINDS = ("hbos", "knn", "iforest", "features")
_TREE = "schema.json"


def check(data: bytes) -> None:
    """The whole file for an even first byte; for an odd one the tree of a file whose arrays are right."""
    way, body = cut(data, 2 * len(_KINDS))
    kind = _KINDS[way // 2]
    fitted = refused(lambda: load_state(body if way % 2 == 0 else _with_tree(kind, body), kind, "state"))
    if fitted is not None:
        assert f"{type(fitted).__module__}.{type(fitted).__qualname__}" == ALLOWED[kind][0]


def _with_tree(kind: str, tree: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_state(kind))) as given, zipfile.ZipFile(buffer, "w") as written:
        for name in given.namelist():
            written.writestr(zipfile.ZipInfo(name), tree if name == _TREE else given.read(name))
    return buffer.getvalue()


@cache
def _state(kind: str) -> bytes:
    import numpy as np
    from pyod.models.hbos import HBOS
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from services.core.detectors.safe_state import dump_state

    rows = np.random.default_rng(0).normal(size=(12, 2))
    made = {
        "hbos": lambda: HBOS(n_bins=3).fit(rows),
        "knn": lambda: KNN(n_neighbors=2).fit(rows),
        "iforest": lambda: IForest(n_estimators=1, random_state=0).fit(rows),
        "features": lambda: make_pipeline(StandardScaler(), PCA(1)).fit(rows),
    }
    return dump_state(made[kind](), kind)


def seeds() -> dict[str, bytes]:
    made = {}
    for index, kind in enumerate(_KINDS):
        with zipfile.ZipFile(io.BytesIO(_state(kind))) as archive:
            made[f"{kind}-tree"] = bytes([2 * index + 1]) + archive.read(_TREE)
        if len(_state(kind)) < 30_000:
            made[kind] = bytes([2 * index]) + _state(kind)
    return made


if __name__ == "__main__":
    sys.exit(run(NAME, check))
