"""A model version as an ONNX file, for whoever runs it elsewhere: checked against torch, with its manifest inside.

The file takes ``IMAGE`` (``uint8``, ``(B, H, W, 3)``, prepared as the manifest's preprocessing says) and gives
``SCORE``, ``PROBABILITIES`` and ``EMBEDDING``, as Triton does. It is written only if it gives the same verdicts.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from services.adapters.modelfolder import verify_version
from services.core.decision import decide
from services.core.errors import ConflictError, InvalidInputError
from services.core.manifest import DETECTOR_PREFIX
from services.serving.backend.engine import EngineRequest, EngineUnavailableError
from services.serving.backend.frames import LEAST_FRAMES, comparison_frames
from services.serving.backend.onnx_engine import OnnxEngine, exported
from services.serving.backend.torch_engine import TorchEngine

#: Where the manifest lies among the file's properties.
MANIFEST_PROPERTY: Final = "sightline.manifest"
#: Verdicts that must be the same: rounding may turn one of a thousand that lies on the threshold.
LEAST_EQUAL: Final = 0.999
_BATCH: Final = 16


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """How the file compares with torch.

    Attributes:
        frames: Frames that both scored: the version's reference parts and variants of them.
        equal: Share of them with the same verdict.
        score_difference: Largest difference of two scores.
        size_bytes: Of the file.
    """

    frames: int
    equal: float
    score_difference: float
    size_bytes: int


def export_onnx(
    folder: Path,
    out: Path,
    precision: str = "float32",
    *,
    frames: int = LEAST_FRAMES,
    threads: int | None = None,
    progress: Callable[[float, str], None] = lambda _share, _what: None,
) -> ExportCheck:
    """Write a version as an ONNX file.

    Args:
        folder: The version's folder.
        out: The file, ending in ``.onnx``; what lies there already is not replaced.
        precision: Of the features, ``float32`` or ``float16``.
        frames: Fewest frames on which it is compared, ``>= 1``.
        threads: Of the comparison; every core's without it.
        progress: Told share and step.

    Returns:
        How it compares.

    Raises:
        InvalidInputError: If the version is no network, or the name or precision is not one of these.
        ConflictError: If something lies there already.
        EngineUnavailableError: If it cannot be exported, or says something else than torch.
    """
    if out.suffix != ".onnx":
        raise InvalidInputError(f"an ONNX file must end in .onnx, got {out.name!r}")
    if precision not in {"float32", "float16"}:
        raise InvalidInputError(f"precision must be float32 or float16, got {precision!r}")
    if out.exists():
        raise ConflictError(f"a file that is exported must not be there yet, got {out}")
    manifest = verify_version(folder)
    if manifest.architecture.startswith(DETECTOR_PREFIX):
        raise InvalidInputError(f"only a network can be exported to ONNX, got {manifest.architecture}")
    with tempfile.TemporaryDirectory(prefix="sightline-export-") as temporary:
        progress(0.0, "exporting")
        graph = exported(folder, Path(temporary), precision)
        request = EngineRequest(
            folder, precision=precision, threads=threads or os.cpu_count() or 1, cache=Path(temporary)
        )
        theirs, ours = OnnxEngine(request, "CPU"), TorchEngine(EngineRequest(folder, threads=request.threads))
        point = manifest.operating_point
        total, equal, difference = 0, 0, 0.0
        drawn = comparison_frames(folder, manifest, frames)
        while rows := list(itertools.islice(drawn, _BATCH)):
            batch = np.stack(rows)
            given, wanted = theirs(batch).scores, ours(batch).scores
            pairs = zip(given.tolist(), wanted.tolist(), strict=True)
            equal += sum(decide(a, point).verdict is decide(b, point).verdict for a, b in pairs)
            difference = max(difference, float(np.abs(given - wanted).max()))
            total += len(rows)
            progress(min(1.0, total / frames), f"comparing verdicts: {equal} of {total} equal")
        if equal < LEAST_EQUAL * total:
            raise EngineUnavailableError(
                f"an exported network must give the same verdicts on {LEAST_EQUAL:.1%} of frames, "
                f"got {equal} of {total} equal and scores up to {difference:.4f} apart"
            )
        model = onnx.load(graph)
        entry = model.metadata_props.add()
        entry.key, entry.value = MANIFEST_PROPERTY, manifest.to_json().decode()
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = out.with_name(f".{out.name}.part")
        try:
            onnx.save(model, beside)
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
    return ExportCheck(total, equal / total, difference, out.stat().st_size)
