"""Which method explains where nobody asks for another, and how. The figures are in ``docs/explaining.md``."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.explain.sampling import Estimator, MaskSampling

#: What explains a case if policy names nothing else.
DEFAULT_METHOD: Final = "invrise-soft"

#: What is shown beside it where a network has layers to look into: the one that finds small faults (usual_layer in
#: :mod:`services.core.explain.cam` has the figures).
CAM_METHOD: Final = "hirescam"

#: Grad-CAM itself, as it was published, comes along: it costs one pass, and people know it.
PUBLISHED_CAM_METHOD: Final = "gradcam"

#: Most passes of the default method.
MAX_PASSES: Final = 400

#: The default method ends before that once two halves of its masks agree this far on the hottest tenth.
MIN_STABILITY: Final = 0.85

#: Deviation of the blur that hidden parts show in the default method where there is no good part to show, as a share of
#: the image's shorter side.
SURROUNDINGS_SHARE: Final = 24 / 224

#: Deviation over which its map is smoothed, in cells of the mask.
SMOOTHING_CELLS: Final = 0.35


def mask_sampling(
    method: Estimator,
    *,
    fill: tuple[int, int, int],
    backdrop: NDArray[np.uint8] | None = None,
    temper: float = 1.0,
) -> MaskSampling:
    """Build an explainer of the RISE family as this product runs it.

    ``rise``, ``rise-centred`` and ``invrise`` are as published: independent masks, one colour, nothing smoothed.
    ``invrise-soft`` is everything that measurably helps.

    Args:
        method: Which.
        fill: What hidden pixels show where it is a colour, RGB in 0..255.
        backdrop: What they show in ``invrise-soft``: a good part like the image. Without one, blurred surroundings.
        temper: Which root of the odds ``invrise-soft`` explains, see :func:`services.core.explain.temper.temper_for`.
    """
    if method != "invrise-soft":
        return MaskSampling(method=method, fill=fill)
    return MaskSampling(
        method=method,
        design="balanced",
        fill=fill,
        backdrop=backdrop,
        temper=temper,
        surroundings_share=SURROUNDINGS_SHARE,
        adjusted=True,
        smoothing_cells=SMOOTHING_CELLS,
    )
