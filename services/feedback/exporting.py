"""Makes an archive of cases while it is read: pictures, masks, labels, and a manifest that says what was left out.

However many cases there are, what is in memory is a few pictures, and the beginnings of the tables that come last.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.caserecord import CaseRecord
from services.adapters.exportorder import ExportOrder, ExportPiece
from services.adapters.ports import CaseFilter, CaseIndex, QueueOrder
from services.adapters.zipstream import PIECE_BYTES, Spool, ZipStream
from services.core.errors import InvalidInputError, NotFoundError
from services.core.export_layout import (
    PICTURE_SUFFIXES,
    Label,
    Labels,
    Layout,
    LeftOut,
    coco_annotation,
    coco_image,
    folder_of_class,
    folders_of,
    label_of,
    moment,
    paths_of,
    picture_suffix,
    table_head,
    table_of,
    table_row,
)
from services.core.review import CaseState, QueuedCase
from services.core.review_mask import encode_mask, join_drawings
from services.runtime import metrics

#: Version of what an archive holds; a reader may rely on it.
FORMAT_VERSION: Final = 1

_PAGE: Final = 200
#: Classes of one archive. They wait in memory for its end.
_MAX_CLASSES: Final = 10_000
_EXAMPLES: Final = 20
#: What is ready is handed on after this time, also where it fills no piece.
_HAND_ON_S: Final = 0.5
_PACKED_BADLY: Final = frozenset({"bmp", "tif"})


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A case with all that is written of it."""

    case: QueuedCase
    label: Label
    image: bytes
    mask: NDArray[np.bool_] | None
    mask_png: bytes
    annotation: dict[str, Any] | None
    """Where the layout has annotations; its numbers are filled in when it is written."""


class Exporter:
    """Makes archives. Thread-safe: each has its own state.

    Args:
        index: The cases, and what was said of them.
        record: Pictures and masks.
        readers: Pictures of one archive that are read ahead.
        spool_bytes: What one of the tables that come last keeps in memory.
    """

    def __init__(self, index: CaseIndex, record: CaseRecord, *, readers: int, spool_bytes: int) -> None:
        self._index = index
        self._record = record
        self._readers = readers
        self._spool_bytes = spool_bytes

    def export(self, order: ExportOrder, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[ExportPiece]:
        """Make one archive; closing the iterator ends the work.

        Args:
            order: What it holds.
            is_wanted: Asked at each case; where it says no, the work ends, and what was given is no archive.

        Yields:
            Its bytes, in order.

        Raises:
            UnavailableError: While the record or the index is away. What was given till then is no archive.
            InvalidInputError: When it would have too many classes.
        """
        archive = _Archive(order, self._spool_bytes)
        pool = ThreadPoolExecutor(self._readers, thread_name_prefix="export")
        try:
            expected = self._plan(order, archive)
            yield from _handed_on(self._bytes(order, archive, pool, is_wanted), archive, expected)
        finally:
            # Not waited for: whoever cancels is not kept until a slow store has answered.
            pool.shutdown(wait=False, cancel_futures=True)
            archive.close()

    def _plan(self, order: ExportOrder, archive: _Archive) -> int:
        """Count what is to be done, and what need not even be looked at."""
        if order.case_ids:
            return len(set(order.case_ids))
        stats = self._index.stats(order.where)
        cases = {CaseState.OPEN: stats.open, CaseState.REVIEWED: stats.reviewed, CaseState.DISPUTED: stats.disputed}
        read = _states(order)
        wanted = [order.where.state] if order.where.state else list(CaseState)
        for state, why in ((CaseState.OPEN, LeftOut.OPEN), (CaseState.DISPUTED, LeftOut.DISPUTED)):
            if state in wanted and state not in read:
                archive.leave_out_counted(why, cases[state])
        return sum(cases[state] for state in read)

    def _bytes(
        self, order: ExportOrder, archive: _Archive, pool: ThreadPoolExecutor, is_wanted: Callable[[], bool]
    ) -> Iterator[bytes]:
        yield from archive.begin()
        for loaded in self._ahead(order, pool):
            if not is_wanted():
                return
            if isinstance(loaded, _Loaded):
                yield from archive.add(loaded)
                metrics.FEEDBACK_EXPORTED_CASES.inc()
            else:
                archive.leave_out(*loaded)
                # What is ready is handed on meanwhile.
                yield b""
        yield from archive.end()

    def _ahead(self, order: ExportOrder, pool: ThreadPoolExecutor) -> Iterator[_Loaded | tuple[LeftOut, str]]:
        """Load cases a little ahead of their being written, and give them in their order."""
        waiting: deque[tuple[str, Future[_Loaded | LeftOut]]] = deque()
        for case in self._cases(order):
            if isinstance(case, str):
                waiting.append((case, _done(LeftOut.UNKNOWN)))
            else:
                waiting.append((case.case_id, pool.submit(self._load, case, order)))
            while len(waiting) > self._readers:
                yield _named(*waiting.popleft())
        while waiting:
            yield _named(*waiting.popleft())

    def _cases(self, order: ExportOrder) -> Iterator[QueuedCase | str]:
        """Cases in the order of their capture; of one that is named and not known, its id."""
        if order.case_ids:
            for case_id in sorted(set(order.case_ids)):
                try:
                    yield self._index.find_case(case_id)
                except NotFoundError:
                    yield case_id
            return
        where, token = _read_filter(order), ""
        while where is not None:
            page = self._index.list_cases(where, QueueOrder.OLDEST, limit=_PAGE, token=token, now_ns=0)
            yield from page.cases
            token = page.next_token
            if not token:
                return

    def _load(self, case: QueuedCase, order: ExportOrder) -> _Loaded | LeftOut:
        said = () if case.state is CaseState.OPEN else self._index.reviews_of(case.case_id)
        label = label_of(case, said, order.labels)
        if isinstance(label, LeftOut):
            return label
        if picture_suffix(case.image_ref) not in PICTURE_SUFFIXES or not case.image_width_px:
            return LeftOut.UNREADABLE
        try:
            image = self._record.image(case.image_ref)
            drawings = [self._record.mask(ref) for ref in label.masks]
            mask = join_drawings(drawings, case.image_width_px, case.image_height_px) if drawings else None
        except NotFoundError:
            return LeftOut.MISSING
        except InvalidInputError:
            return LeftOut.DAMAGED
        annotation = None
        if order.layout is Layout.COCO and mask is not None:
            try:
                annotation = coco_annotation(0, 0, 0, mask)
            except InvalidInputError:
                return LeftOut.TOO_FINE
        png = b"" if mask is None else drawings[0] if len(drawings) == 1 else encode_mask(mask)
        return _Loaded(case, label, image, mask, png, annotation)


class _Archive:
    """One archive on its way."""

    def __init__(self, order: ExportOrder, spool_bytes: int) -> None:
        self._order = order
        self._zip = ZipStream(spool_bytes)
        self._table = Spool(spool_bytes)
        self._images = Spool(spool_bytes)
        self._annotations = Spool(spool_bytes)
        self._files = Spool(spool_bytes)
        self._categories: dict[str, int] = {}
        self._images_count = self._annotations_count = 0
        self._counts: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._newest_ns = 0
        self.done = 0

    def close(self) -> None:
        for spool in (self._zip, self._table, self._images, self._annotations, self._files):
            spool.close()

    def leave_out(self, why: LeftOut, case_id: str) -> None:
        self.done += 1
        self._left_out[why.value] += 1
        examples = self._examples.setdefault(why.value, [])
        if len(examples) < _EXAMPLES:
            examples.append(case_id)

    def leave_out_counted(self, why: LeftOut, cases: int) -> None:
        if cases:
            self._left_out[why.value] += cases

    def begin(self) -> Iterator[bytes]:
        for folder in folders_of(self._order.layout):
            yield from self._zip.folder(folder)
        if self._order.layout is not Layout.COCO:
            self._table.write(table_head(reviewers=self._order.reviewers))

    def add(self, loaded: _Loaded) -> Iterator[bytes]:
        case, label, layout = loaded.case, loaded.label, self._order.layout
        paths = paths_of(layout, case, label)
        yield from self._file(paths.image, loaded.image, compress=picture_suffix(case.image_ref) in _PACKED_BADLY)
        if loaded.mask_png:
            yield from self._file(paths.mask, loaded.mask_png, compress=False)
        if label.defect:
            self._category(label.defect_class)
        name = paths.image.rpartition("/")[2]
        if layout is Layout.COCO:
            self._annotate(name, loaded)
        else:
            file = name if layout is Layout.LABELS else paths.image
            mask = paths.mask if loaded.mask_png else ""
            self._table.write(table_row(file, mask, case, label, reviewers=self._order.reviewers))
        self._counts["defective" if label.defect else "good"] += 1
        self._counts["label_by_people" if label.by_people else "label_by_model"] += 1
        self._counts["with_mask"] += bool(loaded.mask_png)
        self._newest_ns = max(self._newest_ns, case.explained_at_ns, label.newest_ns)
        self.done += 1

    def end(self) -> Iterator[bytes]:
        layout = self._order.layout
        if layout is Layout.COCO:
            yield from self._table_file("annotations.json", self._coco())
        else:
            yield from self._table_file(table_of(layout), self._table.read())
        yield from self._zip.pieces("manifest.json", self._manifest())
        yield from self._zip.end()

    # ---- files

    def _file(self, path: str, data: bytes, *, compress: bool) -> Iterator[bytes]:
        yield from self._zip.file(path, data, compress=compress)
        self._list(path, len(data), hashlib.sha256(data).hexdigest())

    def _table_file(self, path: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        digest, size_bytes = hashlib.sha256(), 0

        def told() -> Iterator[bytes]:
            nonlocal size_bytes
            for piece in pieces:
                digest.update(piece)
                size_bytes += len(piece)
                yield piece

        yield from self._zip.pieces(path, told())
        self._list(path, size_bytes, digest.hexdigest())

    def _list(self, path: str, size_bytes: int, sha256: str) -> None:
        _append(self._files, {"path": path, "bytes": size_bytes, "sha256": sha256})

    def _category(self, name: str) -> int:
        known = self._categories.setdefault(name, len(self._categories) + 1)
        if known > _MAX_CLASSES:
            raise InvalidInputError(f"an export must have at most {_MAX_CLASSES} classes, got one more: {name[:80]!a}")
        return known

    def _annotate(self, name: str, loaded: _Loaded) -> None:
        self._images_count += 1
        image = coco_image(self._images_count, name, loaded.case, loaded.label, reviewers=self._order.reviewers)
        _append(self._images, image)
        if loaded.annotation is not None:
            self._annotations_count += 1
            numbers = {
                "id": self._annotations_count,
                "image_id": self._images_count,
                "category_id": self._category(loaded.label.defect_class),
            }
            _append(self._annotations, loaded.annotation | numbers)

    def _coco(self) -> Iterator[bytes]:
        as_of = moment(self._newest_ns)
        head = {
            "info": {
                "description": "Cases of visual inspection, exported by Sightline",
                "version": str(FORMAT_VERSION),
                "year": int(as_of[:4] or 0),
                "date_created": as_of,
                "contributor": "",
                "url": "",
            },
            "licenses": [{"id": 0, "name": "not stated", "url": ""}],
            "categories": [
                {"id": number, "name": name, "supercategory": "defect"} for name, number in self._categories.items()
            ],
        }
        yield json.dumps(head, ensure_ascii=False)[:-1].encode("utf-8", "replace")
        for name, spool in (("images", self._images), ("annotations", self._annotations)):
            yield f',\n"{name}": [\n'.encode()
            yield from spool.read()
            yield b"\n]"
        yield b"}\n"

    def _manifest(self) -> Iterator[bytes]:
        order = self._order
        where = {name: getattr(value, "value", value) for name, value in asdict(order.where).items() if value}
        head: dict[str, Any] = {
            "format": "sightline-export",
            "version": FORMAT_VERSION,
            "layout": order.layout.value,
            "labels": order.labels.value,
            "reviewers": order.reviewers,
            "chosen": {"cases_named": len(set(order.case_ids))} if order.case_ids else {"filter": where},
            # Of the data, not of the day: so the same cases give the same bytes.
            "as_of": moment(self._newest_ns),
            "cases": self._counts["good"] + self._counts["defective"],
            **{name: self._counts[name] for name in _COUNTED},
            "left_out": dict(sorted(self._left_out.items())),
            "left_out_examples": dict(sorted(self._examples.items())),
        }
        if order.layout is Layout.MVTEC:
            head["classes"] = {folder_of_class(name): name for name in self._categories}
        yield json.dumps(head, ensure_ascii=False, indent=1)[:-2].encode("utf-8", "replace")
        yield b',\n "files": [\n'
        yield from self._files.read()
        yield b"\n ]\n}\n"


_COUNTED: Final = ("good", "defective", "with_mask", "label_by_people", "label_by_model")


def _append(spool: Spool, entry: dict[str, Any]) -> None:
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    spool.write((",\n" if spool.size_bytes else "").encode() + text.encode("utf-8", "replace"))


def _handed_on(pieces: Iterator[bytes], archive: _Archive, expected: int) -> Iterator[ExportPiece]:
    """Put small pieces together, but hand on what there is every now and then."""
    ready = bytearray()
    handed_on_s = time.monotonic()
    for piece in pieces:
        ready += piece
        while len(ready) >= PIECE_BYTES:
            yield ExportPiece(bytes(ready[:PIECE_BYTES]), archive.done, expected)
            del ready[:PIECE_BYTES]
            handed_on_s = time.monotonic()
        if ready and time.monotonic() - handed_on_s > _HAND_ON_S:
            yield ExportPiece(bytes(ready), archive.done, expected)
            ready.clear()
            handed_on_s = time.monotonic()
    if ready:
        yield ExportPiece(bytes(ready), archive.done, expected)


def _states(order: ExportOrder) -> tuple[CaseState, ...]:
    """States whose cases are read; those of the others have no label, and are counted only."""
    if order.where.state is None and order.labels is Labels.SETTLED_ELSE_MODEL:
        # One after the other in the order of capture, so the disputed ones are met on the way.
        return tuple(CaseState)
    with_label = {CaseState.REVIEWED, *([CaseState.OPEN] if order.labels is Labels.SETTLED_ELSE_MODEL else [])}
    return tuple(with_label & {order.where.state or CaseState.REVIEWED})


def _read_filter(order: ExportOrder) -> CaseFilter | None:
    """What is read: one pass, whatever the states; None where nothing has a label."""
    states = _states(order)
    if not states:
        return None
    return order.where if len(states) > 1 else replace(order.where, state=states[0])


def _named(case_id: str, future: Future[_Loaded | LeftOut]) -> _Loaded | tuple[LeftOut, str]:
    loaded = future.result()
    return (loaded, case_id) if isinstance(loaded, LeftOut) else loaded


def _done(why: LeftOut) -> Future[_Loaded | LeftOut]:
    future: Future[_Loaded | LeftOut] = Future()
    future.set_result(why)
    return future
