"""Where a training gets pictures, drawings and maps from."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from services.adapters.caserecord import CaseRecord
from services.adapters.modelfolder import BasePart, HoldoutPart
from services.adapters.ports import ObjectStore
from services.core.errors import InvalidInputError, NotFoundError
from services.core.imaging import ImageLimits
from services.core.review_mask import MAX_MASK_BYTES
from services.core.simulation.drawing import drawing_from, is_drawn

#: Pictures of parts that are neither drawn nor answered, by digest, as the record keeps pictures.
BASE_PREFIX: Final = "record/images/"


class AnsweredPictures(Protocol):
    """What people answered, as it lies on record."""

    def image(self, key: str, sha256: str) -> bytes:
        """Give a picture.

        Raises:
            NotFoundError: If nothing lies there.
            InvalidInputError: If it is another picture.
            UnavailableError: If the record does not answer.
        """
        ...

    def mask(self, key: str) -> bytes:
        """Give a drawing, a PNG of its picture's size; raises as :meth:`image` does."""
        ...

    def heat(self, case_id: str, method: str) -> NDArray[np.float32] | None:
        """Give the map of a case by one method, over its whole picture; None where there is none.

        Raises:
            InvalidInputError: If the case cannot be read.
            UnavailableError: If the record does not answer.
        """
        ...

    def base_image(self, sha256: str) -> bytes:
        """Give a picture of the base set or the hold-out that cannot be drawn again; raises as :meth:`image` does."""
        ...


class RecordedPictures:
    """The record in the object store.

    Args:
        store: Where it lies.
        limits: Of pictures.
    """

    def __init__(self, store: ObjectStore, limits: ImageLimits | None = None) -> None:
        self._store = store
        self._record = CaseRecord(store)
        self._limits = limits or ImageLimits()

    def image(self, key: str, sha256: str) -> bytes:
        """See :class:`AnsweredPictures`."""
        image = self._store.get(key, max_bytes=self._limits.max_bytes)
        found = hashlib.sha256(image).hexdigest()
        if found != sha256:
            raise InvalidInputError(f"{key} must hold the picture of the SHA-256 {sha256}, got one of {found}")
        return image

    def mask(self, key: str) -> bytes:
        """See :class:`AnsweredPictures`."""
        return self._store.get(key, max_bytes=MAX_MASK_BYTES)

    def heat(self, case_id: str, method: str) -> NDArray[np.float32] | None:
        """See :class:`AnsweredPictures`."""
        try:
            explained = self._record.case(case_id)
        except NotFoundError:
            return None
        found = next((one for one in explained.explanations if one.method == method and one.map.size), None)
        return None if found is None else found.map.astype(np.float32)

    def base_image(self, sha256: str) -> bytes:
        """See :class:`AnsweredPictures`."""
        for suffix in ("jpg", "png", "bmp", "tif"):
            try:
                return self.image(f"{BASE_PREFIX}{sha256[:2]}/{sha256}.{suffix}", sha256)
            except NotFoundError:
                continue
        raise NotFoundError(f"a picture of the base set must lie in the record, got none of the SHA-256 {sha256}")


def part_picture(part: BasePart | HoldoutPart, pictures: AnsweredPictures) -> tuple[bytes, NDArray[np.bool_] | None]:
    """Get a part of the base set or the hold-out again.

    Args:
        part: Which.
        pictures: Where what cannot be drawn lies.

    Returns:
        Its encoded picture, and its defect's pixels where they are known (of a drawn part).

    Raises:
        NotFoundError: If it is neither drawn nor on record.
        InvalidInputError: If it comes out as another picture than it was.
    """
    if not is_drawn(part.source):
        return pictures.base_image(part.sha256), None
    drawing = drawing_from(part.source, part.label)
    drawn = drawing.part()
    image = drawing.encoded(drawn)
    found = hashlib.sha256(image).hexdigest()
    if found != part.sha256:
        raise InvalidInputError(
            f"{part.part_id} must be drawn as the picture of the SHA-256 {part.sha256}, got one of {found}: "
            "this release draws another part, fit the first version anew"
        )
    return image, drawn.mask
