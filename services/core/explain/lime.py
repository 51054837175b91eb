"""LIME: a linear model of how the answer depends on which patches of the image are shown (Ribeiro et al. 2016).

Captum draws the samples, paints them, weighs them by their likeness to the whole image and fits the linear model. What
is set here:

- **The penalty.** Captum's default Lasso (``alpha`` 0.01) is larger than what hiding a patch changes of most answers
  and gives maps that are zero everywhere. Here ``alpha`` is a share of the answers' own spread, so that it means the
  same for a model that is sure and for one that is not.
- **A flat map is a failure**, not an explanation: where no patch counts there is an error with the reason ``flat_map``.
- **Samples add up**: they are asked in batches and the fit is made over all so far, so a map is there early, and two
  fits over every other sample tell how stable it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnLasso
from captum._utils.models.model import Model
from captum.attr import Lime as CaptumLime
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from services.core.errors import ExplanationError
from services.core.explain.attribution import Attribution, Budget, Predict, dice, hottest, target_values
from services.core.explain.superpixels import superpixels

_ROUNDING: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Lime:
    """The explainer of the method ``lime``.

    Attributes:
        across: Patches along each side of the image, see :func:`services.core.explain.superpixels.superpixels`.
        penalty: Of the Lasso, as a share of the standard deviation of the answers.
        kernel_width: How far from the whole image a sample still counts, as a cosine distance.
        fill: What hidden pixels show: a colour, RGB in 0..255.
        refine_every: Passes between two maps that are shown on the way.
    """

    across: int = 8
    penalty: float = 0.01
    kernel_width: float = 0.25
    fill: tuple[int, int, int] = (124, 116, 104)
    refine_every: int = 128
    method: str = "lime"

    def explain(
        self, image: NDArray[np.uint8], target: int, predict: Predict, *, seed: int, budget: Budget
    ) -> Iterator[Attribution]:
        """See :class:`services.core.explain.attribution.Explainer`.

        Raises:
            ExplanationError: If no patch counts (``flat_map``), or the model answers NaN (``nan_scores``).
        """
        patches = superpixels(image, min(self.across, *image.shape[:2]))
        samples = _Samples()
        library = self._library(samples, predict, target, seed)
        shown_at = 0
        while True:
            some = min(budget.batch_size, budget.max_passes - samples.count)
            self._ask(library, image, patches, some)
            late, done = budget.out_of_time(), samples.count >= budget.max_passes
            if not (late or done) and samples.count - shown_at < self.refine_every:
                continue
            shown_at = samples.count
            step = self._read(samples, patches, late=late and not done)
            stable = budget.min_stability is not None and step.stability >= budget.min_stability
            final = late or done or stable
            if not _is_flat(step.values):
                yield replace(step, final=final, partial=step.partial and final and not stable)
            elif final:
                raise ExplanationError(
                    f"some patch of the image must count, got none after {samples.count} passes", "flat_map"
                )
            if final:
                return

    def _library(self, samples: _Samples, predict: Predict, target: int, seed: int) -> CaptumLime:
        random = torch.Generator().manual_seed(seed % 2**63)

        def ask(images: Tensor) -> Tensor:
            return torch.from_numpy(target_values(predict(images.numpy()), target))

        def draw(_: Tensor, **sizes: Any) -> Tensor:
            return torch.bernoulli(torch.full((1, sizes["num_interp_features"]), 0.5), generator=random)

        def weigh(_: Tensor, __: Tensor, shown: Tensor, **___: Any) -> Tensor:
            # The cosine of 0-1 vectors with all ones is the root of the share of ones.
            distance = 1.0 - math.sqrt(float(shown.mean()))
            return torch.tensor([math.exp(-((distance / self.kernel_width) ** 2) / 2)])

        return CaptumLime(ask, interpretable_model=samples, similarity_func=weigh, perturb_func=draw)

    def _ask(self, library: CaptumLime, image: NDArray[np.uint8], patches: NDArray[np.intp], count: int) -> None:
        pixels = torch.from_numpy(np.ascontiguousarray(image))[None]
        with torch.no_grad():
            library.attribute(
                pixels,
                baselines=torch.tensor(self.fill, dtype=torch.uint8).expand_as(pixels),
                feature_mask=torch.from_numpy(patches)[None, ..., None],
                n_samples=count,
                perturbations_per_eval=count,
                return_input_shape=False,
            )

    def _read(self, samples: _Samples, patches: NDArray[np.intp], *, late: bool) -> Attribution:
        halves = [hottest(samples.fitted(self.penalty, start, 2)[patches]) for start in (0, 1)]
        values = samples.fitted(self.penalty, 0, 1)[patches]
        return Attribution(self.method, values, samples.count, dice(*halves), final=False, partial=late)


@dataclass(slots=True, eq=False)
class _Samples(Model):
    """Stands where Captum wants a model fitted; keeps what it is given, so that a fit can be over everything so far."""

    shown: list[Tensor] = field(default_factory=list)
    answers: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(batch) for batch in self.answers)

    def fit(self, train_data: DataLoader[Any], **_: object) -> None:
        # Its rows are there already; going through the loader would draw from torch's global generator.
        shown, answers, weights = cast("TensorDataset", train_data.dataset).tensors
        self.shown.append(shown)
        self.answers.append(answers)
        self.weights.append(weights)

    def representation(self) -> Tensor:
        return torch.zeros(1)

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x))

    def fitted(self, penalty: float, start: int, step: int) -> NDArray[np.float32]:
        """What showing each patch adds to the answer, by every ``step``-th sample from ``start`` on."""
        chosen = slice(start, None, step)
        shown, answers = torch.cat(self.shown)[chosen], torch.cat(self.answers)[chosen]
        spread = float(answers.std(correction=0)) if len(answers) else 0.0
        # Answers that differ by rounding alone say nothing of places.
        if spread <= _ROUNDING:
            return np.zeros(self.shown[0].shape[1], dtype=np.float32)
        lasso = SkLearnLasso(alpha=penalty * spread)
        # One batch that is there already: a loader would take it apart row by row.
        batch = (shown, answers, torch.cat(self.weights)[chosen])
        # Captum puts the fit into a fresh torch layer, which draws numbers that it then overwrites.
        with torch.random.fork_rng(devices=[]):
            lasso.fit([batch])
        return np.asarray(lasso.representation().numpy().ravel(), dtype=np.float32)


def _is_flat(values: NDArray[np.float32]) -> bool:
    return float(np.ptp(values)) == 0.0
