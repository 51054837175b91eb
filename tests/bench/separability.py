"""Three models of rising ability, fitted on drawn parts and scored on others.

Fine-tuning is the usual cheap one: the first blocks of the network (edges and textures that ImageNet taught it) stay as
they are, everything after them is trained. What they say of each training picture and of its mirror images is computed
once, which makes the benchmark affordable on a processor core.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from services.core.models.classifier import Classifier
from services.core.models.efficientnet_lite import EfficientNetLite0
from services.core.preprocessing import Preprocessing, prepare
from services.core.simulation.line import SimulatedPart, draw_part

_BATCH = 16
_FROZEN_BLOCKS = 4  # of sixteen: down to one eighth of the picture's size
MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))
_BOOTSTRAP_ROUNDS = 2000
#: A processor without AVX-512 emulates bfloat16 in software, many times slower than it computes float32.
_DTYPE = torch.bfloat16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else torch.float32


@dataclass(frozen=True)
class Recipe:
    """What a user who knows the product would choose: its shape, and as many pixels as its smallest defect needs."""

    height_px: int = 224
    width_px: int = 224
    drawn_width_px: int | None = None
    """Width of the camera's picture; None for the product's own."""
    epochs: int = 5


RECIPES = {
    "disc": Recipe(),
    "fabric": Recipe(),
    "zipper": Recipe(384, 192),
    "weld": Recipe(240, 320, drawn_width_px=640),
    "thermal": Recipe(192, 240),
    "mirror": Recipe(epochs=8),
}


class Scores(NamedTuple):
    """What one model said of one seed's test parts, higher for *defective*."""

    values: NDArray[np.float64]
    labels: NDArray[np.int64]

    @property
    def auroc(self) -> float:
        """Area under the ROC curve."""
        return float(roc_auc_score(self.labels, self.values))


def draw_set(product: str, first_seed: int, count: int) -> list[SimulatedPart]:
    """Draw ``count`` parts, half of them defective on average."""
    width = RECIPES[product].drawn_width_px
    return [draw_part(product, first_seed + number, defect_rate=0.5, size_px=width) for number in range(count)]


def labels_of(parts: Sequence[SimulatedPart]) -> NDArray[np.int64]:
    """1 for defective."""
    return np.array([int(part.is_defective) for part in parts], dtype=np.int64)


def linear_scores(
    train: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    test: NDArray[np.float32],
    test_labels: NDArray[np.int64],
) -> Scores:
    """Scores of logistic regression, the best of three penalties on the test itself."""
    found = []
    for strength in (1e-4, 1e-2, 1.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200, tol=1e-3))
        with warnings.catch_warnings():
            # The weakest penalty separates the training parts perfectly, and then has no end to run to.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(train, train_labels)
        found.append(Scores(model.decision_function(test), test_labels))
    return max(found, key=lambda scores: scores.auroc)


def raw_pixel_scores(train: Sequence[SimulatedPart], test: Sequence[SimulatedPart]) -> Scores:
    """Scores of a linear model on shrunken pixels, the best of three sizes on the test itself."""

    def pixels(parts: Sequence[SimulatedPart], side: int) -> NDArray[np.float32]:
        small = [cv2.resize(part.image, (side, side), interpolation=cv2.INTER_AREA).ravel() for part in parts]
        return np.stack(small).astype(np.float32) / 255.0

    found = [
        linear_scores(pixels(train, side), labels_of(train), pixels(test, side), labels_of(test))
        for side in (16, 32, 64)
    ]
    return max(found, key=lambda scores: scores.auroc)


def to_inputs(parts: Sequence[SimulatedPart], recipe: Recipe) -> torch.Tensor:
    """What the product's own preprocessing makes of the pictures: uint8, ``(N, 3, H, W)``."""
    preprocessing = Preprocessing(height_px=recipe.height_px, width_px=recipe.width_px)
    stacked = np.concatenate([prepare(part.image, preprocessing) for part in parts])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def _quickest() -> torch.autocast:
    return torch.autocast("cpu", _DTYPE, enabled=_DTYPE is torch.bfloat16)


def in_batches(step: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """Infer in ``_DTYPE``."""
    with torch.inference_mode(), _quickest():
        return torch.cat([step(batch.contiguous(memory_format=torch.channels_last)) for batch in inputs.split(32)])


class Tuned(nn.Module):
    """A network cut in two: a trunk that stays as it is, and the rest, which is trained."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        features = cast("EfficientNetLite0", model.features)
        blocks = list(features.blocks)
        self.trunk = nn.Sequential(model.normalise, features.stem, *blocks[:_FROZEN_BLOCKS]).eval()
        self.trunk.requires_grad_(False)
        self.rest = nn.Sequential(*blocks[_FROZEN_BLOCKS:], features.head, model.neck, model.dropout, model.linear)
        for module in self.rest.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1 and module.kernel_size[0] > 3:
                _keep_float32(module)

    def train(self, mode: bool = True) -> Tuned:
        """Set the mode of the rest alone: the trunk's statistics are ImageNet's."""
        self.rest.train(mode)
        return self

    def look(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the trunk says, in ``_DTYPE`` and outside inference mode, so that it can be trained on."""
        return in_batches(self.trunk, inputs).to(_DTYPE).clone()

    def embed(self, seen: torch.Tensor) -> NDArray[np.float32]:
        """Embeddings, as the rest is now, of what the trunk saw."""
        self.rest.eval()
        return in_batches(self.rest[:-2], seen).float().numpy()

    def log_odds(self, seen: torch.Tensor) -> NDArray[np.float64]:
        """How likely *defective* is, of what the trunk saw."""
        self.rest.eval()
        logits = in_batches(self.rest, seen).double()
        return (logits[:, 1] - logits[:, 0]).numpy()


def _keep_float32(convolution: nn.Conv2d) -> None:
    # oneDNN's backward pass of a 5x5 depth-wise convolution takes five times as long in bfloat16 as in float32.
    compute = convolution.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return compute(x)
        with torch.autocast("cpu", enabled=False):
            return compute(x.float())

    convolution.forward = forward  # type: ignore[method-assign]


def fine_tune(
    tuned: Tuned,
    views: Sequence[torch.Tensor],
    labels: NDArray[np.int64],
    epochs: int,
    seed: int,
    tick: Callable[[str], None],
) -> None:
    """Train the rest: AdamW, one cycle of the learning rate, mirroring as the only augmentation.

    Args:
        tuned: Trained in place.
        views: What the trunk says of the pictures in each of their mirrorings.
        labels: 1 for defective.
        epochs: Passes over the parts.
        seed: Of order, mirroring and dropout.
        tick: Told after each epoch.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    targets = torch.from_numpy(labels)
    batches = len(labels) // _BATCH
    optimiser = torch.optim.AdamW(tuned.rest.parameters(), lr=1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=epochs * batches, pct_start=0.2)
    tuned.train()
    for epoch in range(epochs):
        order = torch.from_numpy(rng.permutation(len(labels)))
        for batch in order.split(_BATCH)[:batches]:
            mirrored = rng.integers(0, len(views), len(batch))
            seen = torch.stack([views[way][int(part)] for way, part in zip(mirrored, batch, strict=True)])
            with _quickest():
                logits = tuned.rest(seen.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), targets[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        tick(f"epoch {epoch + 1} of {epochs}, last loss {loss.item():.3f}")


def by_class(runs: Sequence[Scores], classes: Sequence[NDArray[np.str_]]) -> dict[str, float]:
    """AUROC of each defect against the good parts, the mean over the runs where it occurs."""
    result = {}
    for name in sorted({str(name) for found in classes for name in found} - {""}):
        areas = [
            Scores(scores.values[here], scores.labels[here]).auroc
            for scores, found in zip(runs, classes, strict=True)
            if (found == name).any() and (here := (found == name) | (found == "")).any()
        ]
        result[name] = statistics.fmean(areas)
    return result


def bootstrap(runs: Sequence[Scores], rounds: int = _BOOTSTRAP_ROUNDS) -> tuple[float, float]:
    """95 % interval of the mean AUROC: runs are drawn with replacement, and in each its good and its bad test parts."""
    rng = np.random.default_rng(0)
    areas = []
    for scores in runs:
        bad, good = scores.values[scores.labels == 1], scores.values[scores.labels == 0]
        wins = (bad[:, None] > good[None, :]) + 0.5 * (bad[:, None] == good[None, :])
        bad_weights = rng.multinomial(len(bad), np.full(len(bad), 1 / len(bad)), rounds) / len(bad)
        good_weights = rng.multinomial(len(good), np.full(len(good), 1 / len(good)), rounds) / len(good)
        areas.append(((bad_weights @ wins) * good_weights).sum(axis=1))
    chosen = rng.integers(0, len(runs), (rounds, len(runs)))
    means = np.stack(areas)[chosen, np.arange(rounds)[:, None]].mean(axis=1)
    low, high = np.clip(np.quantile(means, (0.025, 0.975)), 0.0, 1.0)  # sums of weights round to a little above 1
    return float(low), float(high)
