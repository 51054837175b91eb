"""Tensors between Triton's Python backend and numpy, by DLPack.

Not by ``as_numpy`` and not by the constructor of ``pb_utils.Tensor``: under numpy 2, Triton builds that were compiled
against numpy 1 hand out wrong values by the one and make empty tensors by the other, both without an error.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

_set_capsule_name = ctypes.pythonapi.PyCapsule_SetName
_set_capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
_set_capsule_name.restype = ctypes.c_int

#: What DLPack calls a capsule whose tensor has a new owner. A capsule keeps the pointer, so it must live as long as we.
_USED = ctypes.c_char_p(b"used_dltensor")


def read_tensor(request: Any, name: str) -> NDArray[Any]:
    """Give a request's input as an array over Triton's own memory: not writable, and gone with the request."""
    array: NDArray[Any] = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, name))
    return array


def make_tensor(name: str, array: NDArray[Any]) -> Any:
    """Make an output tensor of an array, which must not be changed afterwards."""
    capsule = np.ascontiguousarray(array).__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # Triton marks a capsule that it has emptied with a name of its own, at which numpy writes a traceback to the log.
    _set_capsule_name(capsule, _USED)
    return tensor
