"""RISE of xaitk-saliency, asked for as many passes as ours; needs that package, which the product does not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from smqtk_classifier.interfaces.classify_image import ClassifyImage
from xaitk_saliency.impls.gen_image_classifier_blackbox_sal.rise import RISEStack

from services.core.explain.attribution import Predict


class _Classifier(ClassifyImage):  # type: ignore[misc]
    """Our engine as that package asks for it, in batches of our size."""

    def __init__(self, predict: Predict, batch: int) -> None:
        self._predict, self._batch = predict, batch

    def get_labels(self) -> Sequence[Hashable]:
        """Names of the classes."""
        return ["good", "bad"]

    def classify_images(self, img_iter: Iterable[NDArray[np.uint8]]) -> Iterator[dict[Hashable, float]]:
        """Probabilities of images, one by one."""
        images = iter(img_iter)
        while some := list(islice(images, self._batch)):
            for row in self._predict(np.stack(some)):
                yield dict(zip(self.get_labels(), row.tolist(), strict=True))

    def get_config(self) -> dict[str, Any]:
        """Nothing that could be stored."""
        return {}


def peer(
    image: NDArray[np.uint8], predict: Predict, passes: int, batch: int, fill: tuple[int, int, int]
) -> Callable[[], object]:
    """Its RISE with eight cells a side, in this thread alone."""

    def explain() -> object:
        # Masks are drawn when it is made, so that is part of the price.
        method = RISEStack(n=passes, s=8, p1=0.5, seed=0, threads=0)
        method.fill = list(fill)
        return method.generate(image, _Classifier(predict, batch))

    return explain
