"""The classifier that an experiment explains: fitted on its own leak-free split, or loaded from a version's folder."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from services.experiments.engine import Engine, compile_predict  # isort: skip - OpenVINO must come before torch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.adapters.modelfolder import read_reference, read_weights, verify_version
from services.core.errors import InvalidInputError, UnavailableError
from services.core.explain.attribution import Predict
from services.core.explain.backdrop import GoodParts
from services.core.imaging import ImageLimits, decode
from services.core.models.classifier import Classifier
from services.core.models.factory import ARCHITECTURES, create_model
from services.core.models.pretrained import Weights
from services.core.models.serving import Precision, build_model
from services.core.models.state import load_state, save_state
from services.core.preprocessing import Preprocessing, prepare
from services.core.training.finetune import LabelledImages, TrainingSettings, train
from services.core.training.head import fit_head, install_head
from services.experiments.parts import Part

OFFLINE: Final = "efficientnet-lite0"
"""The network whose weights come with an installed package."""

_BACKDROPS: Final = 200
"""Most good parts that a backdrop is chosen from: as many as a model version keeps."""

_HALF: Final = 0.5
_SCRATCH: Final = "from scratch"


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How the classifier of an experiment comes about.

    Attributes:
        side_px: Rows and columns of its input.
        epochs: Passes of fine-tuning all layers; 0 fits the last layer alone on the frozen features.
        learning_rate: Peak of the fine-tuning.
        flips: Whether images are mirrored at random.
        batch_size: Of the fine-tuning.
        engine: What runs the passes of the explanations.
        precision: Of those passes.
        threads: CPU threads.
    """

    side_px: int = 224
    epochs: int = 6
    learning_rate: float = 5e-4
    flips: bool = False
    batch_size: int = 16
    engine: Engine = "auto"
    precision: Precision = "float32"
    threads: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A classifier ready to be explained.

    Attributes:
        name: As it is called in the table.
        classifier: The network itself, for methods that look inside.
        predict: The same network, fast.
        preprocessing: From a picture to its input.
        origin: Where its weights come from, in words for the report.
        good_parts: Good parts that it passes and that are not tested on, to show in place of hidden parts.
    """

    name: str
    classifier: Classifier
    predict: Predict
    preprocessing: Preprocessing
    origin: str
    good_parts: GoodParts | None = None

    def backdrop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """The good part that looks most like a prepared image ``(H, W, 3)``; None where there is none."""
        return None if self.good_parts is None else self.good_parts.backdrop(image)

    @property
    def fill(self) -> tuple[int, int, int]:
        """What a hidden pixel shows: the network's own zero, rounded."""
        red, green, blue = (round(value) for value in self.classifier.normalisation.mean)
        return red, green, blue

    def scores(self, parts: Sequence[Part]) -> NDArray[np.float64]:
        """Anomaly scores ``1 - P(good)``, shape ``(N,)``."""
        rows = [self.predict(prepare(part.image, self.preprocessing))[:, 1:].sum(axis=1).max() for part in parts]
        return np.array(rows, dtype=np.float64)


def resolve_model(name: str) -> str:
    """Give a network's own name for the way papers write it: ``VGG-16`` is ``vgg16``.

    Raises:
        InvalidInputError: If there is no such network, and no folder of that name.
    """
    for known in ARCHITECTURES:
        if name.lower().replace("-", "").replace("_", "") == known.replace("-", ""):
            return known
    if Path(name).is_dir():
        return name
    raise InvalidInputError(
        f"a model must be one of {', '.join(ARCHITECTURES)} or the folder of a model version, got {name!r}"
    )


def fit_or_load(
    name: str,
    parts: Sequence[Part],
    sets: dict[str, NDArray[np.intp]],
    settings: FitSettings,
    seed: int,
    *,
    cache: Path | None = None,
    progress: Callable[[float, str], None] = lambda _share, _what: None,
) -> Fitted:
    """Make a classifier: good against defective.

    Args:
        name: From :func:`resolve_model`.
        parts: All parts.
        sets: Their split; only ``train`` and ``validation`` are looked at.
        settings: How.
        seed: Of weights, order and mirrors.
        cache: Folder for fitted weights; the same data, settings and seed are then fitted once.
        progress: Told share and step.

    Returns:
        The classifier.

    Raises:
        InvalidInputError: If a version's folder holds a model that cuts pictures into tiles.
        ModelFormatError: If a version's folder is damaged.
    """
    if name not in ARCHITECTURES:
        return _loaded(Path(name), settings)
    torch.set_num_threads(settings.threads)
    preprocessing = Preprocessing(height_px=settings.side_px, width_px=settings.side_px)
    model, origin = _start(name, seed)
    kept = None if cache is None else cache / f"{name}-{_digest(parts, sets, settings, seed)}.safetensors"
    if kept is not None and kept.is_file():
        load_state(model, kept.read_bytes())
    else:
        _fit(model, origin, parts, sets, preprocessing, settings, seed, progress)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            unfinished = kept.with_suffix(".part")
            unfinished.write_bytes(save_state(model))
            unfinished.replace(kept)
    good = [parts[row] for row in sets["train"] if not parts[row].defective]
    how = f"{settings.epochs} epochs over all layers" if settings.epochs else "last layer fitted"
    return ready(name, model, preprocessing, f"{origin}, {how}", settings, [part.image for part in good])


def _start(name: str, seed: int) -> tuple[Classifier, str]:
    if name == OFFLINE:
        return create_model(name, 2, "offline", seed=seed), "ImageNet weights"
    wanted: Weights = "none" if name == "customnet" else "imagenet"
    try:
        model = create_model(name, 2, wanted, seed=seed)
    except UnavailableError:
        return create_model(name, 2, "none", seed=seed), f"{_SCRATCH} (ImageNet weights could not be had)"
    return model, "ImageNet weights" if wanted == "imagenet" else f"{_SCRATCH} (it has no pre-trained weights)"


def _fit(
    model: Classifier,
    origin: str,
    parts: Sequence[Part],
    sets: dict[str, NDArray[np.intp]],
    preprocessing: Preprocessing,
    settings: FitSettings,
    seed: int,
    progress: Callable[[float, str], None],
) -> None:
    data = {name: _labelled([parts[row] for row in sets[name]], preprocessing) for name in ("train", "validation")}
    pretrained = not origin.startswith(_SCRATCH)
    if settings.epochs == 0:
        if not pretrained:
            raise InvalidInputError(f"a network from scratch must be trained for at least 1 epoch, got 0 for {origin}")
        progress(0.0, "fitting the last layer")
        install_head(model, fit_head(_embeddings(model, data["train"].images), data["train"].labels, 2))
        return
    _follow_quickly(model)
    training = TrainingSettings(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        flips=settings.flips,
        seed=seed,
        precision="bfloat16" if settings.precision == "bfloat16" else "float32",
    )
    train(
        model,
        data["train"],
        training,
        validation=data["validation"],
        on_epoch=lambda epoch: progress(
            epoch.epoch / settings.epochs, f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.3f}"
        ),
    )


def _follow_quickly(model: Classifier) -> None:
    """Let batch norm's running figures keep up with training on a few hundred pictures.

    EfficientNet's momentum of 0.01 needs hundreds of steps to follow the weights; until then validation, which chooses
    the best epoch, sees another network.
    """
    for module in model.features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1


@torch.inference_mode()
def _embeddings(model: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    rows = [
        model.embed(torch.from_numpy(images[start : start + 32]).permute(0, 3, 1, 2)).numpy()
        for start in range(0, len(images), 32)
    ]
    return np.concatenate(rows)


def _labelled(parts: Sequence[Part], preprocessing: Preprocessing) -> LabelledImages:
    images = np.concatenate([prepare(part.image, preprocessing) for part in parts])
    return LabelledImages(images, np.array([int(part.defective) for part in parts]))


def _loaded(folder: Path, settings: FitSettings) -> Fitted:
    manifest = verify_version(folder)
    if manifest.preprocessing.mode == "tiles":
        raise InvalidInputError(f"the model must take whole pictures, got one that cuts tiles in {folder}")
    if manifest.preprocessing.height_px != manifest.preprocessing.width_px:
        raise InvalidInputError(f"the model's input must be square, got {manifest.preprocessing}")
    model = build_model(manifest, read_weights(folder))
    images = [decode(data, ImageLimits()) for data in read_reference(folder).images.values()]
    origin = f"version of {manifest.alias}"
    return ready(manifest.architecture, model, manifest.preprocessing, origin, settings, images)


def ready(
    name: str,
    model: Classifier,
    preprocessing: Preprocessing,
    origin: str,
    settings: FitSettings,
    good: Sequence[NDArray[np.uint8]],
) -> Fitted:
    """Make a fitted network ready to be explained.

    Args:
        name: As it is called in the table.
        model: The network.
        preprocessing: From a picture to its input.
        origin: Where its weights come from.
        settings: Engine, precision and threads.
        good: Pictures of good parts that are not tested on; those that the network passes stand in for hidden parts.
    """
    model.eval()
    fast = compile_predict(
        copy.deepcopy(model), preprocessing.height_px, settings.engine, settings.precision, settings.threads
    )
    chosen = [good[row] for row in np.linspace(0, len(good) - 1, min(_BACKDROPS, len(good))).round().astype(int)]
    prepared = np.concatenate([prepare(image, preprocessing) for image in chosen]) if chosen else None
    good_parts = None if prepared is None else _passed(fast, prepared)
    return Fitted(name, model, fast, preprocessing, origin, good_parts)


def _passed(predict: Predict, images: NDArray[np.uint8]) -> GoodParts | None:
    """The good parts among some that the network calls good."""
    good = np.concatenate([predict(images[start : start + 16])[:, 0] for start in range(0, len(images), 16)]) > _HALF
    passed = images[good]
    return GoodParts.of(passed, lambda row: passed[row]) if len(passed) else None


def _digest(parts: Sequence[Part], sets: dict[str, NDArray[np.intp]], settings: FitSettings, seed: int) -> str:
    """Names what was fitted: the pixels it saw, and how."""
    digest = hashlib.sha256()
    for name in ("train", "validation"):
        for row in sets[name]:
            digest.update(parts[row].image.tobytes() + bytes([parts[row].defective]))
    how = {key: value for key, value in asdict(settings).items() if key not in ("engine", "threads")}
    digest.update(json.dumps([how, seed], sort_keys=True).encode())
    return digest.hexdigest()[:16]
