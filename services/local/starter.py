"""The model that a fresh line begins with: fitted on simulated parts, in under a minute, on a CPU.

A frozen EfficientNet-Lite0 with its ImageNet weights, mean and maximum of a middle layer beside its deepest features
(small faults are gone from the deepest mean), and one linear layer fitted on parts drawn for the purpose. The operating
point is calibrated on parts that the layer was not fitted on, and the figures in the manifest come from a third set,
the frozen hold-out. Pictures take the way that a camera's take: encoded as JPEG, decoded, prepared.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import (
    BasePart,
    Holdout,
    HoldoutPart,
    ModelVersion,
    Reference,
    TrainingBase,
    code_version,
    write_version,
)
from services.core.calibration import Promise, calibrate, parts_needed
from services.core.errors import InvalidInputError
from services.core.evaluation.report import evaluate
from services.core.evaluation.splits import split_by_group
from services.core.imaging import ImageLimits, decode
from services.core.manifest import GOOD, Lineage, Metric, ModelManifest
from services.core.models import create_model
from services.core.models.classifier import Classifier
from services.core.models.compiled import convert
from services.core.models.serving import ServingModule
from services.core.models.state import save_state
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.drawing import Drawing
from services.core.simulation.line import defect_classes
from services.core.training.head import LinearHead, fit_head, install_head
from services.core.types import OperatingPoint
from services.serving.backend.engine import DEFAULT_PRECISION
from services.serving.backend.openvino_engine import Network

ProgressReport = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and what is being done."""

#: Products of the default cameras.
PRODUCTS: Final = ("disc", "fabric")
DEFAULT_N_PER_CLASS: Final = 600
#: At most one defective part in ten passes, and at most one good part in fifty fails; what is between is for a person.
PROMISE: Final = Promise("escape_rate", 0.10, other_target=0.02, confidence=0.95)

# The parts of the starter model come from seeds that no demo camera reaches, so the wall shows it only new parts.
_FIRST_SEED: Final = 700_000_000
_VIEWS: Final = 2
_ARCHITECTURE: Final = "efficientnet-lite0"
_OPTIONS: Final = {"taps": "10"}
_PREPROCESSING: Final = Preprocessing()
_SHARES: Final = {"train": 0.60, "calibration": 0.20, "holdout": 0.20}
_ROLES: Final[tuple[Literal["train", "calibration"], ...]] = ("train", "calibration")
_REFERENCE_PARTS: Final = 200
_CHUNK: Final = 16
_RESAMPLES: Final = 500


@dataclass(frozen=True, slots=True, eq=False)
class _Embedded:
    """All parts, as the frozen network sees them."""

    orders: tuple[Drawing, ...]
    embeddings: NDArray[np.float32]
    digests: tuple[str, ...]

    @property
    def defective(self) -> NDArray[np.bool_]:
        return np.array([order.defect is not None for order in self.orders])


def fit_starter(
    destination: Path,
    products: Sequence[str] = PRODUCTS,
    n_per_class: int = DEFAULT_N_PER_CLASS,
    seed: int = 0,
    progress: ProgressReport = lambda _share, _what: None,
    *,
    alias: str = "default",
    version: int = 1,
    promise: Promise = PROMISE,
) -> ModelManifest:
    """Fit the starter model and write it as a whole model version.

    Args:
        destination: Folder of the version; must not exist yet.
        products: Products of the simulated line that it must know.
        n_per_class: Good parts, and as many defective ones, to draw of each product.
        seed: Which parts are drawn, and how they are split.
        progress: Told how far it is.
        alias: Alias of the version.
        version: Its number.
        promise: What the operating point must keep; it says how many parts it takes.

    Returns:
        The version's manifest, with the figures measured on its hold-out.

    Raises:
        InvalidInputError: If a product is not known, or the parts are too few to calibrate on.
        ConflictError: If the folder exists.
        NotFoundError: If the package with the backbone's weights is not installed.
    """
    _check_numbers(len(products) * n_per_class, promise)
    progress(0.0, "loading the backbone")
    classes = (GOOD, *sorted({name for product in products for name in defect_classes(product)}))
    orders = _orders(products, n_per_class, seed)
    model = create_model(_ARCHITECTURE, len(classes), "offline", options=_OPTIONS, seed=seed)
    data = _embed(_backbone(seed), orders, lambda share: progress(0.1 + 0.8 * share, "drawing and embedding parts"))
    sets = split_by_group([o.part_id for o in orders], [f"{o.product}.{o.label}" for o in orders], _SHARES, seed)
    progress(0.90, "fitting the last layer")
    labels = np.array([classes.index(order.label) for order in orders])
    head = fit_head(data.embeddings[sets["train"]], labels[sets["train"]], len(classes))
    install_head(model, head)
    progress(0.95, "calibrating and measuring")
    manifest = _manifest(data, sets, head, model, classes, promise, seed, (alias, version))
    result = ModelVersion(
        manifest, save_state(model), _holdout(data, sets), _reference(data, sets, head), training=_base(data, sets)
    )
    write_version(result, destination)
    progress(1.0, "done")
    return manifest


def _backbone(seed: int) -> Network:
    """The frozen network as it is served on a CPU, same engine and precision: the threshold is cut on served scores."""
    # A network of its own to serve from: making one ready to serve changes it. Its last layer is not asked.
    module = ServingModule(create_model(_ARCHITECTURE, 2, "offline", options=_OPTIONS, seed=seed), precision="float32")
    graph = convert(module, _PREPROCESSING.height_px, _PREPROCESSING.width_px)
    return Network(graph, DEFAULT_PRECISION, max(1, (os.cpu_count() or 1) // 2))


def _check_numbers(parts: int, promise: Promise) -> None:
    """Say before any work is done that there will be too few parts to calibrate on."""
    targets = [target for target in (promise.target, promise.other_target) if target]
    needed = max(parts_needed(target, promise.confidence) for target in targets)
    least = math.ceil(needed / _SHARES["calibration"])
    if parts < least:
        raise InvalidInputError(
            f"the promise takes at least {least} parts of each class over all products, got {parts}"
        )


def _orders(products: Sequence[str], n_per_class: int, seed: int) -> tuple[Drawing, ...]:
    orders = []
    for product in products:
        faults = defect_classes(product)
        for index in range(n_per_class):
            # A part is one seed, and each seed is one part: good and defective ones are never the same casting.
            first = _FIRST_SEED + seed * 1_000_000 + 2 * index
            orders.append(Drawing(product, first, None, index % _VIEWS))
            orders.append(Drawing(product, first + 1, faults[index % len(faults)], (index // len(faults)) % _VIEWS))
    return tuple(orders)


def _draw(orders: Sequence[Drawing]) -> tuple[NDArray[np.uint8], list[str]]:
    """Draw parts and bring them to the network's input; runs in a process of its own."""
    cv2.setNumThreads(1)
    inputs, digests = [], []
    for order in orders:
        encoded = order.picture()
        inputs.append(prepare(decode(encoded, ImageLimits()), _PREPROCESSING)[0])
        digests.append(hashlib.sha256(encoded).hexdigest())
    return np.stack(inputs), digests


def _embed(backbone: Network, orders: tuple[Drawing, ...], progress: Callable[[float], None]) -> _Embedded:
    embeddings: list[NDArray[np.float32]] = []
    digests: list[str] = []
    for inputs, names in _drawn(orders):
        embeddings.append(backbone(inputs).embeddings)
        digests.extend(names)
        progress(len(digests) / len(orders))
    return _Embedded(orders, np.concatenate(embeddings), tuple(digests))


def _drawn(orders: tuple[Drawing, ...]) -> Iterator[tuple[NDArray[np.uint8], list[str]]]:
    chunks = [orders[start : start + _CHUNK] for start in range(0, len(orders), _CHUNK)]
    workers = max(1, (os.cpu_count() or 1) // 2)
    # Not forked: the threads of this process do not survive that.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        yield from pool.map(_draw, chunks)


def _manifest(
    data: _Embedded,
    sets: dict[str, NDArray[np.intp]],
    head: LinearHead,
    model: Classifier,
    classes: tuple[str, ...],
    promise: Promise,
    seed: int,
    name: tuple[str, int],
) -> ModelManifest:
    scores, defective, chosen = head.scores(data.embeddings), data.defective, sets["calibration"]
    good, bad = chosen[~defective[chosen]], chosen[defective[chosen]]
    point, calibration = calibrate(scores[good], scores[bad], promise)
    products = sorted({order.product for order in data.orders})
    return ModelManifest(
        alias=name[0],
        version=name[1],
        architecture=_ARCHITECTURE,
        architecture_options=dict(_OPTIONS),
        classes=classes,
        preprocessing=_PREPROCESSING,
        normalisation=model.normalisation,
        embedding_size=model.embedding_size,
        operating_point=point,
        calibration=calibration,
        lineage=Lineage(
            source="simulation",
            description=f"simulated parts ({', '.join(products)}); frozen backbone, linear layer",
            seed=seed,
            n_train=len(sets["train"]),
            n_calibration=len(chosen),
            n_holdout=len(sets["holdout"]),
            data_sha256=_digest(data),
            backbone_weights="offline",
        ),
        metrics=_figures(data, scores, sets["holdout"], point, seed),
        code_version=code_version(),
        created_at_ns=time.time_ns(),
    )


def _figures(
    data: _Embedded, scores: NDArray[np.float64], held_out: NDArray[np.intp], point: OperatingPoint, seed: int
) -> dict[str, Metric]:
    """Measure the hold-out as a whole and product by product."""
    products = np.array([order.product for order in data.orders])[held_out]
    figures: dict[str, Metric] = {}
    for product in ("", *sorted(set(products.tolist()))):
        rows = held_out[products == product] if product else held_out
        parts = [data.orders[row].part_id for row in rows]
        measured = evaluate(scores[rows], data.defective[rows], parts, point, seed, _RESAMPLES)
        figures |= {f"{name}.{product}" if product else name: value for name, value in measured.items()}
    return figures


def _holdout(data: _Embedded, sets: dict[str, NDArray[np.intp]]) -> Holdout:
    return Holdout(
        tuple(
            HoldoutPart(
                part_id=data.orders[row].part_id,
                product=data.orders[row].product,
                label=data.orders[row].label,
                source=data.orders[row].source,
                sha256=data.digests[row],
            )
            for row in sets["holdout"]
        )
    )


def _base(data: _Embedded, sets: dict[str, NDArray[np.intp]]) -> TrainingBase:
    """What later versions are trained on besides answers: all embeddings are there already."""
    parts: list[BasePart] = []
    for role in _ROLES:
        for row in sets[role]:
            order = data.orders[row]
            parts.append(BasePart(order.part_id, order.product, order.label, role, order.source, data.digests[row]))
    rows = np.concatenate([*(sets[role] for role in _ROLES), sets["holdout"]])
    return TrainingBase(tuple(parts), data.embeddings[rows])


def _reference(data: _Embedded, sets: dict[str, NDArray[np.intp]], head: LinearHead) -> Reference:
    good = [row for row in sets["holdout"] if data.orders[row].defect is None]
    # Evenly over the rows, so that every product has its share.
    count = min(_REFERENCE_PARTS, len(good))
    rows = [good[index * len(good) // count] for index in range(count)]
    files = tuple(f"{data.orders[row].part_id}.jpg" for row in rows)
    return Reference(
        images={file: data.orders[row].picture() for file, row in zip(files, rows, strict=True)},
        files=files,
        scores=head.scores(data.embeddings[rows]).astype(np.float32),
        embeddings=data.embeddings[rows].astype(np.float16),
    )


def _digest(data: _Embedded) -> str:
    state = hashlib.sha256()
    for order, digest in sorted(zip((o.part_id for o in data.orders), data.digests, strict=True)):
        state.update(f"{order} {digest}\n".encode())
    return state.hexdigest()
