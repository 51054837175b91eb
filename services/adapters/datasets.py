"""Labelled images on disk: three layouts are read, and what the simulated line draws is written.

1. ``labels.csv`` beside ``images/`` and optional ``masks/``: columns ``file`` (with or without suffix) and ``defect``
   (1 or 0), optional ``class``, optional ``group`` or ``item``; in any order, others are ignored.
2. MVTec AD's own: ``train/good``, ``test/<type>``, ``ground_truth/<type>/<stem>_mask.png``.
3. Two folders: ``ok*`` or ``good``, and ``def*``.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.core.errors import ConflictError, InvalidInputError, NotFoundError
from services.core.simulation.line import SimulatedPart

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"})
"""Suffixes taken for images, lower case."""
UNNAMED_CLASS: Final = "defect"
"""Class of a defective image whose layout does not name one."""

_LABELS = "labels.csv"
_COLUMNS = ("file", "defect", "class", "group", "seed", "product")
_YES = frozenset({"1", "true", "yes"})
_NO = frozenset({"0", "false", "no"})
_SHOWN = 5  # faults of a kind that a message lists


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image on disk, and what is known about it."""

    path: Path
    defect: bool
    defect_class: str
    """Empty for a good part; ``"defect"`` where the layout names no class."""
    group: str
    """What a split must keep together; unique to the image where the layout says nothing."""
    mask_path: Path | None = None
    """A picture whose non-zero pixels are the defect."""
    split: str = ""
    """``train`` or ``test`` where the layout fixes it, else empty."""


def read_labelled_folder(root: Path) -> tuple[LabelledImage, ...]:
    """Read a folder in whichever of the three layouts it has.

    Args:
        root: The folder; see the module for the layouts.

    Returns:
        The images, in a fixed order.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: The folder has none of the layouts, holds no image, or its labels contradict its files.
    """
    if not root.is_dir():
        raise NotFoundError(f"a labelled folder must exist, got {root}")
    if (root / _LABELS).is_file():
        images = tuple(_read_labels_csv(root))
    elif (root / "test").is_dir() and (root / "train" / "good").is_dir():
        images = tuple(_read_mvtec(root))
    else:
        images = tuple(_read_two_folders(root))
    if not images:
        raise InvalidInputError(f"a labelled folder must hold at least one image, got none in {root}")
    return images


def read_plain_folder(root: Path) -> tuple[LabelledImage, ...]:
    """Read the pictures that lie directly in a folder, as parts of which no defect is known.

    Args:
        root: The folder.

    Returns:
        The images, sorted by name; each is a part of its own; hidden files are left out.

    Raises:
        NotFoundError: There is no such folder.
    """
    if not root.is_dir():
        raise NotFoundError(f"a folder of pictures must exist, got {root}")
    return tuple(LabelledImage(path, False, "", path.stem) for path in _images(root))


def has_labels(root: Path) -> bool:
    """Whether a folder is laid out as a labelled one, rather than holding pictures and nothing else.

    Raises:
        NotFoundError: There is no such folder.
    """
    return (root / _LABELS).is_file() or not read_plain_folder(root)


def write_labelled_folder(parts: Iterable[SimulatedPart], root: Path, *, suffix: str = ".png") -> int:
    """Write simulated parts in the first layout, one after the other as they are drawn.

    Several views of one part share its group. ``labels.csv`` is written last, so that a folder that was cut off
    half-way is not taken for a whole one.

    Args:
        parts: What to write; consumed lazily.
        root: Folder to make; it must not hold a ``labels.csv`` yet.
        suffix: ``.png`` (exact pixels) or ``.jpg``.

    Returns:
        Number of images written.

    Raises:
        ConflictError: The folder holds labels already.
        InvalidInputError: The suffix is not one of the two.
    """
    if suffix not in {".png", ".jpg"}:
        raise InvalidInputError(f"suffix must be .png or .jpg, got {suffix!r}")
    if (root / _LABELS).exists():
        raise ConflictError(f"{_LABELS} must not exist yet, got {root / _LABELS}")
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    seen: dict[str, int] = {}
    rows: list[tuple[object, ...]] = []
    for part in parts:
        group = f"{part.product}-{part.seed:08d}"
        seen[group] = seen.get(group, 0) + 1
        stem = group if seen[group] == 1 else f"{group}-{seen[group]}"
        _write_picture(root / "images" / f"{stem}{suffix}", part.image[..., ::-1])
        if part.is_defective:
            _write_picture(root / "masks" / f"{stem}.png", part.mask.astype(np.uint8) * np.uint8(255))
        row = (f"{stem}{suffix}", int(part.is_defective), part.defect_class or "good", group, part.seed, part.product)
        rows.append(row)
    write_labels(rows, root)
    return len(rows)


def write_labels(rows: Iterable[Sequence[object]], root: Path) -> None:
    """Write the labels of a folder in the first layout, whole or not at all.

    Args:
        rows: ``file``, ``defect`` (1 or 0), ``class``, ``group``, ``seed``, ``product`` of each image.
        root: The folder.
    """
    unfinished = root / f"{_LABELS}.part"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(rows)
    unfinished.replace(root / _LABELS)


def read_parts_folder(root: Path) -> tuple[LabelledImage, ...]:
    """Read a labelled folder, or a plain one, every picture of which is taken for a good part.

    Args:
        root: The folder.

    Returns:
        The images, in a fixed order.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: It holds no picture, or its labels contradict its files.
    """
    return read_labelled_folder(root) if has_labels(root) else read_plain_folder(root)


def read_good_folder(root: Path) -> tuple[LabelledImage, ...]:
    """Read the good parts alone of what :func:`read_parts_folder` reads."""
    return tuple(one for one in read_parts_folder(root) if not one.defect)


def walk_pictures(root: Path, skip: Path | None = None) -> Iterator[Path]:
    """Every picture below a folder, folder by folder, each in the order of names; what is hidden is left out.

    Args:
        root: The folder.
        skip: A folder in it that is left out too.

    Raises:
        NotFoundError: There is no such folder.
    """
    if not root.is_dir():
        raise NotFoundError(f"a folder of pictures must exist, got {root}")
    for folder, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith(".") and Path(folder) / name != skip)
        yield from _images(Path(folder))


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(path.suffix, picture)
    if not done:
        raise InvalidInputError(f"a picture must be encodable as {path.suffix}, got shape {picture.shape}")
    path.write_bytes(encoded.tobytes())


def _images(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name; hidden ones left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


# ---------------------------------------------------------------------------- layout 1


def _read_labels_csv(root: Path) -> Iterator[LabelledImage]:
    folder = root / "images"
    if not folder.is_dir():
        raise InvalidInputError(f"{_LABELS} must lie beside a folder images/, got none in {root}")
    by_name, by_stem = _index(folder)
    masks = {path.stem: path for path in _images(root / "masks")} if (root / "masks").is_dir() else {}
    faults: list[str] = []
    taken: dict[Path, int] = {}
    found: list[LabelledImage] = []
    for line, row in _rows(root / _LABELS):
        try:
            image = _labelled(row, by_name, by_stem, masks)
        except InvalidInputError as error:
            faults.append(f"line {line}: {error}")
            continue
        if image.path in taken:
            faults.append(f"line {line}: {image.path.name} must be listed once, got it on line {taken[image.path]} too")
        taken[image.path] = line
        found.append(image)
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise InvalidInputError(f"{root / _LABELS} must fit its images, got {'; '.join(faults[:_SHOWN])}{more}")
    yield from found


def _index(folder: Path) -> tuple[dict[str, Path], dict[str, list[Path]]]:
    by_name: dict[str, Path] = {}
    by_stem: dict[str, list[Path]] = {}
    for path in _images(folder):
        by_name[path.name] = path
        by_stem.setdefault(path.stem, []).append(path)
    return by_name, by_stem


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers and cells by lower-case header name; empty lines left out."""
    # utf-8-sig: spreadsheets like to put a byte order mark first.
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} must be UTF-8 text, got {error}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip().lower() for name in next(reader, [])]
    missing = [name for name in ("file", "defect") if name not in header]
    if missing:
        raise InvalidInputError(f"{path} must have the columns file and defect, got {', '.join(header) or 'no header'}")
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=False))


def _labelled(
    row: dict[str, str], by_name: dict[str, Path], by_stem: dict[str, list[Path]], masks: dict[str, Path]
) -> LabelledImage:
    path = _resolve(row.get("file", ""), by_name, by_stem)
    verdict = row.get("defect", "").lower()
    if verdict not in _YES | _NO:
        raise InvalidInputError(f"defect must be 0 or 1, got {row.get('defect', '')!r}")
    defect = verdict in _YES
    return LabelledImage(
        path=path,
        defect=defect,
        defect_class=(row.get("class") or UNNAMED_CLASS) if defect else "",
        group=row.get("group") or row.get("item") or path.stem,
        mask_path=masks.get(path.stem),
    )


def _resolve(name: str, by_name: dict[str, Path], by_stem: dict[str, list[Path]]) -> Path:
    if name in by_name:
        return by_name[name]
    candidates = by_stem.get(name, [])
    if not candidates:
        raise InvalidInputError(f"file must name an image in images/, got {name!r}")
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates)
        raise InvalidInputError(f"file must name one image, got {name!r}, which may be {names}")
    return candidates[0]


# ---------------------------------------------------------------------------- layouts 2 and 3


def _read_mvtec(root: Path) -> Iterator[LabelledImage]:
    for path in _images(root / "train" / "good"):
        yield LabelledImage(path, False, "", f"train/good/{path.stem}", split="train")
    for folder in sorted(path for path in (root / "test").iterdir() if path.is_dir()):
        defect = folder.name != "good"
        for path in _images(folder):
            mask = root / "ground_truth" / folder.name / f"{path.stem}_mask.png"
            yield LabelledImage(
                path=path,
                defect=defect,
                defect_class=folder.name if defect else "",
                group=f"test/{folder.name}/{path.stem}",
                mask_path=mask if defect and mask.is_file() else None,
                split="test",
            )


def _read_two_folders(root: Path) -> Iterator[LabelledImage]:
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    good = [path for path in folders if path.name.lower() == "good" or path.name.lower().startswith("ok")]
    bad = [path for path in folders if path.name.lower().startswith("def")]
    if not good or not bad:
        names = ", ".join(path.name for path in folders) or "no folder"
        raise InvalidInputError(
            f"a labelled folder must hold labels.csv and images/, or train/good and test/, or two folders ok*/ (good/) "
            f"and def*/ (defect/), got {names} in {root}"
        )
    for folder, defect in [(path, False) for path in good] + [(path, True) for path in bad]:
        for path in _images(folder):
            group = f"{folder.name}/{path.stem}"
            yield LabelledImage(path, defect, UNNAMED_CLASS if defect else "", group)
