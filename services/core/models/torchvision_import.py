"""The one place that imports torchvision.

Its compiled part needs CUDA libraries. Beside a CPU-only torch it does not load, and then the import fails because
two operators that no classifier uses are unknown. Declaring them, and nothing more, makes the rest work.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# Keeps the declarations alive: they vanish with the object.
_LIBRARIES: list[torch.library.Library] = []


def torchvision_models() -> ModuleType:
    """Import ``torchvision.models``, declaring its missing operators first where its compiled part did not load."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SIGNATURE}")  # type: ignore[no-untyped-call]
    _LIBRARIES.append(library)
    return importlib.import_module("torchvision.models")
