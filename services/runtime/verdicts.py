"""The records of verdicts, cases and embeddings, for all who say one: the detector, and who searches an archive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.adapters import codec
from services.adapters.ports import Headers
from services.core import topics
from services.core.identity import case_id
from services.core.types import Case, CaseKind, FrameEmbedding, ImageRef, Inspection
from services.runtime.outbox import Output

_NO_EMBEDDING = np.empty(0, np.float16)
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def verdict_output(inspection: Inspection, headers: Headers = ()) -> Output:
    """The record of a verdict."""
    return Output(topics.VERDICTS, inspection.part_id.encode(), codec.encode_inspection(inspection), headers)


def case_output(
    inspection: Inspection,
    kind: CaseKind,
    *,
    sampling_probability: float = 1.0,
    embedding: NDArray[np.floating] | None = None,
    image: bytes | None = None,
    image_ref: ImageRef | None = None,
    headers: Headers = (),
) -> Output:
    """The record of a case.

    Args:
        inspection: The verdict that made it one.
        kind: Why it is worth a look.
        sampling_probability: With which frames like it become cases, in ``(0, 1]``.
        embedding: Input of the model's last layer, shape ``(D,)``; None where no model saw the image.
        image: The encoded image; exactly one of this and ``image_ref`` is set.
        image_ref: Where it lies.
        headers: Of the record.

    Raises:
        InvalidInputError: If none or both places of the image are set.
    """
    case = Case(
        case_id=case_id(inspection.frame_id, inspection.alias, inspection.model_version),
        kind=kind,
        inspection=inspection,
        sampling_probability=sampling_probability,
        embedding=_NO_EMBEDDING if embedding is None else _half(embedding),
        image=image,
        image_ref=image_ref,
    )
    return Output(topics.CASES, inspection.camera_id.encode(), codec.encode_case(case), headers)


def embedding_output(inspection: Inspection, embedding: NDArray[np.floating], headers: Headers = ()) -> Output:
    """The record of what the model saw in a frame that became no case.

    Args:
        inspection: The verdict.
        embedding: Input of the model's last layer, shape ``(D,)``.
        headers: Of the record.
    """
    value = codec.encode_frame_embedding(FrameEmbedding(inspection, _half(embedding)))
    return Output(topics.EMBEDDINGS, inspection.camera_id.encode(), value, headers)


def likeliest_defect(classes: Sequence[str], probabilities: NDArray[np.floating]) -> str:
    """The most probable class other than good; empty of a model that knows only good.

    Args:
        classes: Of the model, the good one first.
        probabilities: Of each class, shape ``(C,)``.
    """
    if len(classes) < 2 or len(probabilities) != len(classes):
        return ""
    return classes[1 + int(np.argmax(probabilities[1:]))]


def _half(embedding: NDArray[np.floating]) -> NDArray[np.float16]:
    # Past the range of a half float lies infinity, with which no distance can be computed.
    return np.asarray(np.clip(embedding, -_FLOAT16_MAX, _FLOAT16_MAX), dtype=np.float16)
