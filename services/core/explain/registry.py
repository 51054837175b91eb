"""Methods by name, as they are written on the command line, in settings and in requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.core.errors import InvalidInputError
from services.core.explain.attribution import METHODS, Explainer
from services.core.explain.centre import Centre
from services.core.explain.contrast import Contrast
from services.core.explain.occlusion import Occlusion
from services.core.explain.sampling import ESTIMATORS, MaskSampling

if TYPE_CHECKING:
    from services.core.models.classifier import Classifier


def build_explainer(
    method: str,
    *,
    fill: tuple[int, int, int],
    classifier: Classifier | None = None,  # noqa: ARG001
) -> Explainer:
    """Build the explainer of a name.

    Args:
        method: One of :data:`services.core.explain.attribution.METHODS`.
        fill: What hidden pixels show: a colour, RGB in 0..255.
        classifier: The network, for methods that look into it.

    Raises:
        InvalidInputError: If there is no such method.
    """
    for estimator in ESTIMATORS:
        if method == estimator:
            return MaskSampling(method=estimator, fill=fill)
    if method == "occlusion":
        return Occlusion(fill=fill)
    if method == "contrast":
        return Contrast()
    if method == "centre":
        return Centre()
    raise InvalidInputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
