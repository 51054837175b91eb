"""What an export of cases holds: which cases have a label, where each file lies, and how annotations are written.

The folder layouts are those that ``services.adapters.datasets`` reads. COCO is the format for object detection as
cocodataset.org/#format-data has it: a segmentation is run lengths, uncompressed, over the mask's columns one after the
other, beginning with the zeros; a box is x, y, width, height; an area is pixels.
"""

from __future__ import annotations

import csv
import datetime
import enum
import hashlib
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.errors import InvalidInputError
from services.core.review import (
    AreaPoint,
    CaseState,
    QueuedCase,
    Review,
    case_state,
    settled_verdict,
    standing_reviews,
)
from services.core.types import ImageRef, Verdict

#: Class of a defective part that nobody named, as ``services.adapters.datasets`` has it.
UNNAMED_CLASS: Final = "defect"
#: Class of a good part in a table.
GOOD_CLASS: Final = "good"
#: Runs of a mask that are written; a drawing has some hundreds. More is noise that would not fit into memory as text.
MAX_RUNS: Final = 200_000
#: Suffixes of pictures that readers of the layouts take.
PICTURE_SUFFIXES: Final = frozenset({"bmp", "jpg", "png", "tif"})

_TEST_SHARE: Final = 5
_STEM_CHARACTERS: Final = 64
_FOLDER_CHARACTERS: Final = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_PLAIN_FOLDER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z", re.ASCII)
# "good" means no defect; the others are devices on Windows, whatever their suffix.
_RESERVED = re.compile(r"(?:good|con|prn|aux|nul|com[0-9]|lpt[0-9])\Z", re.ASCII)


class Layout(enum.Enum):
    """How an archive is laid out."""

    COCO = "coco"
    LABELS = "labels"
    MVTEC = "mvtec"
    TWO_FOLDERS = "two-folders"


class Labels(enum.Enum):
    """Whose word a label may be."""

    SETTLED = "settled"
    """What people settled on."""
    SETTLED_ELSE_MODEL = "settled-else-model"
    """That, and the model's verdict where nobody has answered."""


class LeftOut(enum.Enum):
    """Why a case is not in an archive."""

    OPEN = "open"
    """Nobody has answered it."""
    DISPUTED = "disputed"
    """People's answers differ."""
    NOT_SURE = "not_sure"
    """Nobody who answered was sure."""
    UNDECIDED = "undecided"
    """Nobody has answered it, and the model asked."""
    UNKNOWN = "unknown"
    """It was named, and there is no such case."""
    UNREADABLE = "image_unreadable"
    """No program can read its picture."""
    MISSING = "image_missing"
    """Its picture, or a mask of it, is gone from the record."""
    DAMAGED = "image_damaged"
    """Its picture, or a mask of it, is not what was kept."""
    TOO_FINE = "mask_too_fine"
    """Its mask is noise: it has more runs than :data:`MAX_RUNS`."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a part is, and by whose word."""

    defect: bool
    defect_class: str
    """Empty for a good part."""
    by_people: bool
    """False where it is the model's word."""
    masks: tuple[ImageRef, ...] = ()
    """Drawings of the answers that stand; the defect is where any of them is."""
    areas: tuple[tuple[AreaPoint, ...], ...] = ()
    """Areas of interest of those answers."""
    reviewers: tuple[str, ...] = ()
    newest_ns: int = 0
    """When the last answer that stands was taken; 0 = none."""


def label_of(case: QueuedCase, said: Sequence[Review], labels: Labels) -> Label | LeftOut:
    """Say what a part is, or why nothing can be said.

    Args:
        case: The case.
        said: Everything that was said of it.
        labels: Whose word counts.

    Returns:
        The label. A defect's class is the one named last by an answer that stands, else the model's where the model
        did not pass the part, else :data:`UNNAMED_CLASS`.
    """
    given = case.inspection.verdict
    state, settled = case_state(said, given)
    if state is CaseState.DISPUTED:
        return LeftOut.DISPUTED
    if state is CaseState.OPEN:
        if labels is not Labels.SETTLED_ELSE_MODEL:
            return LeftOut.OPEN
        if given is Verdict.REVIEW:
            return LeftOut.UNDECIDED
        defect = given is Verdict.FAIL
        return Label(defect, (case.inspection.defect_class.strip() or UNNAMED_CLASS) if defect else "", by_people=False)
    if settled is None:
        return LeftOut.NOT_SURE
    standing = standing_reviews(said)
    defect = settled is Verdict.FAIL
    saying_so = [one for one in standing if settled_verdict(one, given) is settled]
    return Label(
        defect=defect,
        defect_class=_class_of(case, saying_so) if defect else "",
        by_people=True,
        masks=tuple(one.mask_ref for one in saying_so if one.mask_ref is not None) if defect else (),
        areas=tuple(one.area for one in standing if one.area),
        reviewers=tuple(sorted({one.reviewer for one in standing})),
        newest_ns=max(one.reviewed_at_ns for one in standing),
    )


def _class_of(case: QueuedCase, saying_so: Sequence[Review]) -> str:
    named = [one.defect_class.strip() for one in saying_so if one.defect_class.strip()]
    by_model = case.inspection.defect_class.strip() if case.inspection.verdict is not Verdict.PASS else ""
    return named[-1] if named else by_model or UNNAMED_CLASS


# ---- names


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a case's files lie in an archive."""

    image: str
    mask: str
    """Where its mask would lie."""


def paths_of(layout: Layout, case: QueuedCase, label: Label) -> Paths:
    """Say where a case's files lie; no two cases share a path, also where capitals do not count.

    Args:
        layout: The layout.
        case: The case; its picture is one that can be read.
        label: What it is.
    """
    stem = stem_of(case)
    name = f"{stem}.{picture_suffix(case.image_ref)}"
    if layout is Layout.MVTEC:
        folder = folder_of_class(label.defect_class) if label.defect else GOOD_CLASS
        split = "test" if label.defect or in_test(case.inspection.part_id) else "train"
        return Paths(f"{split}/{folder}/{name}", f"ground_truth/{folder}/{stem}_mask.png")
    if layout is Layout.TWO_FOLDERS:
        return Paths(f"{'def' if label.defect else 'ok'}/{name}", f"masks/{stem}.png")
    return Paths(f"images/{name}", f"masks/{stem}.png")


def folders_of(layout: Layout) -> tuple[str, ...]:
    """Folders that a layout must have, even where nothing lies in them."""
    return {
        Layout.COCO: ("images/",),
        Layout.LABELS: ("images/",),
        Layout.MVTEC: ("train/good/", "test/"),
        Layout.TWO_FOLDERS: ("ok/", "def/"),
    }[layout]


def table_of(layout: Layout) -> str:
    """Name of the table of cases; only the layout that is told by ``labels.csv`` may have one of that name."""
    return "labels.csv" if layout is Layout.LABELS else "cases.csv"


def stem_of(case: QueuedCase) -> str:
    """A file's name without suffix: the part as far as it can be in a name, and the case, which tells it apart."""
    readable = _NOT_IN_NAMES.sub("_", case.inspection.part_id)[:_STEM_CHARACTERS].lstrip("._-")
    return f"{readable or 'part'}_{case.case_id}"


def picture_suffix(ref: ImageRef) -> str:
    """The suffix of a picture in the record, which has it from the picture's content."""
    return ref.key.rpartition(".")[2]


def folder_of_class(name: str) -> str:
    """Turn a class's name into that of a folder.

    A plain lower-case name stays as it is. Any other becomes one, followed by eight hex digits of its digest, so that
    two classes never share a folder and none is taken for the good parts.
    """
    if _PLAIN_FOLDER.match(name) and not _RESERVED.match(name):
        return name
    readable = _NOT_IN_NAMES.sub("_", name).lower().replace(".", "_").strip("_-")[: _FOLDER_CHARACTERS - 9]
    return f"{readable or 'class'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def in_test(part_id: str) -> bool:
    """Whether the pictures of a good part go to ``test/good``: a fifth of the parts, all pictures of one together."""
    return int(hashlib.sha256(part_id.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16) % _TEST_SHARE == 0


# ---- tables

_COLUMNS: Final = (
    *("file", "defect", "class", "group", "source", "mask", "model_verdict", "score", "kind", "sampling_probability"),
    *("line_id", "camera_id", "product", "captured_at", "alias", "model_version", "case_id", "frame_id"),
)


def table_head(*, reviewers: bool) -> bytes:
    """The first line of the table of cases."""
    return _line([*_COLUMNS, *(["reviewers"] if reviewers else [])])


def table_row(file: str, mask: str, case: QueuedCase, label: Label, *, reviewers: bool) -> bytes:
    """A case's line in the table.

    Args:
        file: What the picture is called there.
        mask: Its mask's path; empty without one.
        case: The case.
        label: What it is.
        reviewers: Whether those who answered are named.
    """
    seen = case.inspection
    row: list[object] = [
        *(file, int(label.defect), label.defect_class or GOOD_CLASS, seen.part_id, _source(label), mask),
        *(seen.verdict.value, "" if math.isnan(seen.score) else repr(seen.score), case.kind.value),
        *(repr(case.sampling_probability), seen.line_id, seen.camera_id, seen.product),
        *(moment(seen.captured_at_ns), seen.alias, seen.model_version, case.case_id, seen.frame_id),
    ]
    return _line([*row, *(["; ".join(label.reviewers)] if reviewers else [])])


def _line(cells: Sequence[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


def _source(label: Label) -> str:
    return "people" if label.by_people else "model"


def moment(at_ns: int) -> str:
    """A time as ISO 8601 in UTC, to the microsecond; empty for 0."""
    if not at_ns:
        return ""
    whole_s, rest_ns = divmod(at_ns, 1_000_000_000)
    at = datetime.datetime.fromtimestamp(whole_s, tz=datetime.UTC) + datetime.timedelta(microseconds=rest_ns // 1_000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


# ---- COCO


def coco_image(image_id: int, file_name: str, case: QueuedCase, label: Label, *, reviewers: bool) -> dict[str, Any]:
    """A picture as COCO lists it; what COCO has no field for is beside, under ``sightline``.

    Args:
        image_id: Its number in the archive.
        file_name: Its name within ``images/``.
        case: The case. Width and height are those of the picture as people see it, turned as its EXIF says.
        label: What it is.
        reviewers: Whether those who answered are named.
    """
    seen = case.inspection
    own: dict[str, Any] = {
        "case_id": case.case_id,
        "frame_id": seen.frame_id,
        "group": seen.part_id,
        "defect": label.defect,
        "class": label.defect_class or GOOD_CLASS,
        "source": _source(label),
        "model_verdict": seen.verdict.value,
        "model": f"{seen.alias} {seen.model_version}",
        "line_id": seen.line_id,
        "camera_id": seen.camera_id,
        "product": seen.product,
        "kind": case.kind.value,
        "sampling_probability": case.sampling_probability,
        "areas": [[[point.x_px, point.y_px] for point in area] for area in label.areas],
    }
    if reviewers:
        own["reviewers"] = list(label.reviewers)
    return {
        "id": image_id,
        "file_name": file_name,
        "width": case.image_width_px,
        "height": case.image_height_px,
        "date_captured": moment(seen.captured_at_ns),
        "license": 0,
        "sightline": own,
    }


def coco_annotation(annotation_id: int, image_id: int, category_id: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Where the defect is, as COCO annotates it.

    Args:
        annotation_id: Its number in the archive.
        image_id: Of its picture.
        category_id: Of its class.
        mask: Shape ``(H, W)``; at least one pixel.

    Raises:
        InvalidInputError: For an empty mask, and for one of more than :data:`MAX_RUNS` runs.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise InvalidInputError("an annotation must have a mask with at least one pixel, got none")
    left, top = int(columns[0]), int(rows[0])
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"counts": encode_rle(mask), "size": [int(mask.shape[0]), int(mask.shape[1])]},
        "area": int(np.count_nonzero(mask)),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "iscrowd": 0,
    }


def encode_rle(mask: NDArray[np.bool_]) -> list[int]:
    """Write a mask as COCO's uncompressed run lengths: along the columns, zeros first.

    Args:
        mask: Shape ``(H, W)``.

    Returns:
        Lengths of runs of zeros and ones in turn; the first is 0 where the mask begins with a one.

    Raises:
        InvalidInputError: If there are more than :data:`MAX_RUNS` runs.

    Example:
        >>> encode_rle(np.array([[True, False], [True, True]]))
        [0, 2, 1, 1]
    """
    flat = mask.ravel(order="F")
    if not flat.size:
        return []
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if starts.size >= MAX_RUNS:
        raise InvalidInputError(f"a mask must have at most {MAX_RUNS} runs, got {starts.size + 1}")
    runs: list[int] = np.diff(np.concatenate(([0], starts, [flat.size]))).tolist()
    return [0, *runs] if flat[0] else runs
