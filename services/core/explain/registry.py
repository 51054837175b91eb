"""Methods by name, as they are written on the command line, in settings and in requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.core.errors import ExplanationError, InvalidInputError
from services.core.explain.attribution import KNOWN_METHODS, NETWORK_METHODS, OWN_MAP, AttributionMap, Explainer
from services.core.explain.centre import Centre
from services.core.explain.content import Content, OverContent
from services.core.explain.contrast import Contrast
from services.core.explain.defaults import mask_sampling
from services.core.explain.occlusion import Occlusion
from services.core.explain.own_map import OwnMap
from services.core.explain.sampling import ESTIMATORS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from services.core.explain.cam import CamMethod
    from services.core.models.classifier import Classifier


def build_explainer(
    method: str,
    *,
    fill: tuple[int, int, int],
    backdrop: NDArray[np.uint8] | None = None,
    temper: float = 1.0,
    content: Content | None = None,
    own_map: Callable[[NDArray[np.uint8]], AttributionMap | None] | None = None,
    classifier: Classifier | None = None,
    layer: str | None = None,
) -> Explainer:
    """Build the explainer of a name; torch and captum are loaded only for the methods that need them.

    Args:
        method: One of :data:`services.core.explain.attribution.METHODS`.
        fill: What hidden pixels show where it is a colour, RGB in 0..255.
        backdrop: What they show in ``invrise-soft``, see :mod:`services.core.explain.backdrop`.
        temper: Which root of the odds that method explains, see :mod:`services.core.explain.temper`.
        content: Where the picture lies in the input; None where it is all of it. What looks into the network sees the
            whole input either way.
        own_map: Gives the model's own map of an image, for ``anomaly-map``; None where it finds no places.
        classifier: The network, in evaluation mode, for methods that look into it (``gradcam``, ``hirescam``).
        layer: Where those look, see :class:`services.core.explain.cam.ClassActivation`; None takes the method's own
            choice, see :func:`services.core.explain.cam.usual_layer`.

    Raises:
        InvalidInputError: If there is no such method or layer.
        ExplanationError: If the method cannot explain such a model: ``needs_the_network`` where it is not given one,
            ``no_conv_layers`` where the network has none.
    """
    if method in NETWORK_METHODS:
        return _class_activation(method, classifier, layer)
    if method == OWN_MAP:
        return OwnMap(own_map if own_map is not None else lambda _: None)
    if content is None or content.is_whole:
        return _asking(method, fill, backdrop, temper)
    return OverContent(_asking(method, fill, None if backdrop is None else content.crop(backdrop), temper), content)


def _asking(method: str, fill: tuple[int, int, int], backdrop: NDArray[np.uint8] | None, temper: float) -> Explainer:
    """What needs nothing of the model but its answers."""
    for estimator in ESTIMATORS:
        if method == estimator:
            return mask_sampling(estimator, fill=fill, backdrop=backdrop, temper=temper)
    if method == "occlusion":
        return Occlusion(fill=fill)
    if method == "contrast":
        return Contrast()
    if method == "centre":
        return Centre()
    if method == "lime":
        from services.core.explain.lime import Lime  # noqa: PLC0415 - loads torch and captum

        return Lime(fill=fill)
    raise InvalidInputError(f"method must be one of {', '.join(KNOWN_METHODS)}, got {method!r}")


def _class_activation(method: str, classifier: Classifier | None, layer: str | None) -> Explainer:
    if classifier is None:
        raise ExplanationError(
            f"{method} looks into the network, got a model that only answers", reason="needs_the_network"
        )
    from services.core.explain.cam import ClassActivation, usual_layer  # noqa: PLC0415 - loads torch

    chosen: CamMethod = "gradcam" if method == "gradcam" else "hirescam"
    return ClassActivation(classifier, chosen, layer or usual_layer(classifier, chosen))
