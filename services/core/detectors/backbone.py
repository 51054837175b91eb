"""The network whose pooled embedding is a feature: built once, kept with the detector, asked about one image at a time.

One image at a time, because convolutions add up in an order that depends on how many images they are given: an image's
embedding differed in a batch from the one it had alone. A batch gains nothing on a CPU, see
:class:`services.core.detectors.patch_features.PatchFeatures`.
"""

from __future__ import annotations

from typing import Final, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from services.core.detectors.detector import DetectorSpec, Images
from services.core.errors import InvalidInputError
from services.core.manifest import OptionValue
from services.core.models.classifier import Classifier
from services.core.models.factory import create_model, usual_weights
from services.core.models.pretrained import Weights
from services.core.models.serving import fold_batch_norm
from services.core.models.state import load_state, save_state

#: Options of a specification that go to the backbone, not to the detector.
BACKBONE_OPTIONS: Final = ("backbone_weights", "backbone_taps")


class Backbone:
    """A frozen network; batch norm folded, with the channels of a place side by side in memory.

    Args:
        network: In evaluation mode; it is changed.
    """

    def __init__(self, network: Classifier) -> None:
        self._state = save_state(network)
        fold_batch_norm(network.features)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def create(cls, spec: DetectorSpec) -> Backbone:
        """Build the backbone of a specification.

        Its option ``backbone_weights`` says where the weights come from (as for the model factory; by default those
        that come with a package for efficientnet-lite0, none for customnet, torchvision's for all others);
        ``backbone_taps`` which blocks of efficientnet-lite0 join the embedding.
        """
        weights = str(spec.options.get("backbone_weights", usual_weights(spec.backbone)))
        if weights not in get_args(Weights):
            raise InvalidInputError(f"backbone_weights must be one of {', '.join(get_args(Weights))}, got {weights!r}")
        return cls(create_model(spec.backbone, 2, cast("Weights", weights), options=_taps(spec), seed=spec.seed))

    @classmethod
    def load(cls, spec: DetectorSpec, data: bytes) -> Backbone:
        """Build it with the weights that a detector was kept with; nothing is fetched.

        Raises:
            ModelFormatError: If they are not those of such a network.
        """
        network = create_model(spec.backbone, 2, "none", options=_taps(spec), seed=spec.seed)
        load_state(network, data)
        return cls(network)

    def save(self) -> bytes:
        """Write the weights, a safetensors file."""
        return self._state

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Give the embeddings of images, shape ``(N, D)``."""
        rows = np.empty((len(images), self._network.embedding_size), np.float32)
        with torch.inference_mode():
            for row, image in enumerate(images):
                pixels = torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)
                rows[row] = self._network.embed(pixels)[0].numpy()
        return rows


def _taps(spec: DetectorSpec) -> dict[str, OptionValue]:
    return {"taps": spec.options["backbone_taps"]} if "backbone_taps" in spec.options else {}
