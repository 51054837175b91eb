"""The record in the object store: every case with its picture and maps, and everything that people said of it.

::

    record/images/<aa>/<sha256>.<suffix>            pictures, once each
    record/cases/<yyyymmdd>/<case_id>.json          a case with its explanations
    record/reviews/<yyyymmdd>/<case_id>/<review_id>.json   one review; never written twice
    record/masks/<aa>/<sha256>.png                  drawings, once each

The day is that of the frame's capture (UTC), which the case's id carries. The JSON is protobuf's own form of the
messages in ``events.proto``, so that people and programs of other makers can read it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from typing import Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from sightline.v1 import events_pb2

from services.adapters.codec_explained import explained_case_from_message, explained_case_to_message
from services.adapters.codec_review import review_from_message, review_to_message
from services.adapters.ports import ObjectStore
from services.core.errors import (
    ConflictError,
    EventDecodeError,
    ImageError,
    InvalidInputError,
    NotFoundError,
    SightlineError,
)
from services.core.identity import captured_at_ms
from services.core.image_header import probe
from services.core.review import QueuedCase, Review, validate_case_id, validate_review_id
from services.core.types import ExplainedCase, ImageRef

PREFIX: Final = "record/"
_CASES: Final = f"{PREFIX}cases/"
_REVIEWS: Final = f"{PREFIX}reviews/"
_MAX_CASE_BYTES: Final = 16_000_000
_MAX_REVIEW_BYTES: Final = 256_000
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SUFFIX: Final = {"jpeg": "jpg", "png": "png", "bmp": "bmp", "tiff": "tif"}
_UNREADABLE_SUFFIX: Final = "bin"
_SUFFIXES: Final = frozenset((*_SUFFIX.values(), _UNREADABLE_SUFFIX))
_CASE_KEY = re.compile(r"record/cases/\d{8}/([0-9a-f-]{36})\.json\Z", re.ASCII)
_REVIEW_KEY = re.compile(r"record/reviews/\d{8}/([0-9a-f-]{36})/([0-9a-f-]{36})\.json\Z", re.ASCII)

Damaged = Callable[[str, SightlineError], None]
"""Told of an object that cannot be read, with its key."""
M = TypeVar("M", bound=Message)


class CaseRecord:
    """Reads and writes the record. Thread-safe, as its store is.

    Args:
        store: Where it lies.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    # ---- pictures and drawings

    def add_image(self, image: bytes) -> ImageRef:
        """Keep a picture; what lies there already is not written again.

        Raises:
            InvalidInputError: If it is empty.
            UnavailableError: If the store does not answer.
        """
        try:
            found = probe(image).format
            suffix, content_type = _SUFFIX[found], f"image/{found}"
        except ImageError:
            # What cannot be read is kept too: a person may have to look at it.
            suffix, content_type = _UNREADABLE_SUFFIX, "application/octet-stream"
        return self._add("images", image, suffix, content_type)

    def image(self, ref: ImageRef) -> bytes:
        """Read a picture.

        Raises:
            InvalidInputError: If it does not lie in the record, or is not what was kept.
            NotFoundError: If nothing lies there.
            UnavailableError: If the store does not answer.
        """
        return self._read("images", ref)

    def mask(self, ref: ImageRef) -> bytes:
        """Read a drawing; raises as :meth:`image` does."""
        return self._read("masks", ref)

    def _read(self, kind: str, ref: ImageRef) -> bytes:
        if ref.bucket != self._store.bucket:
            raise InvalidInputError(f"a picture must lie in the bucket {self._store.bucket}, got {ref.bucket}")
        _check_kept(kind, ref)
        image = self._store.get(ref.key, max_bytes=ref.size_bytes)
        digest = hashlib.sha256(image).hexdigest()
        if digest != ref.sha256:
            raise InvalidInputError(f"{ref.key} must hold the picture of its SHA-256, got one of {digest}")
        return image

    def add_mask(self, png: bytes) -> ImageRef:
        """Keep a drawing, as ``services.core.review_mask`` gives it; see :meth:`add_image`."""
        return self._add("masks", png, "png", "image/png")

    def _add(self, kind: str, data: bytes, suffix: str, content_type: str) -> ImageRef:
        if not data:
            raise InvalidInputError(f"what is kept under {kind} must not be empty, got 0 bytes")
        digest = hashlib.sha256(data).hexdigest()
        key = f"{PREFIX}{kind}/{digest[:2]}/{digest}.{suffix}"
        try:
            return self._store.put_new(key, data, content_type=content_type)
        except ConflictError:
            return ImageRef(self._store.bucket, key, len(data), digest)

    # ---- cases

    def add_case(self, explained: ExplainedCase) -> bool:
        """Keep a case, in place of an earlier explanation of it.

        Args:
            explained: Its picture lies in the record.

        Returns:
            Whether it was written: False where the same, or a later explanation, is there.

        Raises:
            InvalidInputError: If its picture lies elsewhere, or it could not be read again.
            EventDecodeError: If what lies there is not that case.
            UnavailableError: If the store does not answer.
        """
        case = explained.case
        key = _case_key(case.case_id)
        if case.image is not None or case.image_ref is None:
            got = "none" if case.image is None else f"{len(case.image)} bytes of its own"
            raise InvalidInputError(f"a case on record must have its picture below {PREFIX}images/, got {got}")
        if case.image_ref.bucket != self._store.bucket:
            raise InvalidInputError(
                f"a case's picture must lie in the bucket {self._store.bucket}, got {case.image_ref.bucket}"
            )
        message = explained_case_to_message(explained)
        _explained_case(message, case.case_id)
        data = _to_json(message, _MAX_CASE_BYTES)
        try:
            self._store.put_new(key, data, content_type="application/json")
        except ConflictError:
            known = self.case(case.case_id)
            if known.explained_at_ns >= explained.explained_at_ns:
                return False
            self._store.put(key, data, content_type="application/json")
        return True

    def case(self, case_id: str) -> ExplainedCase:
        """Read a case.

        Raises:
            InvalidInputError: If the id is none.
            NotFoundError: If there is no such case.
            EventDecodeError: If what lies there is not that case.
            UnavailableError: If the store does not answer.
        """
        return self._read_case(_case_key(case_id), case_id)

    def cases(self, on_damaged: Damaged) -> Iterator[ExplainedCase]:
        """Read every case, in no promised order; what cannot be read is told and left out."""
        for stat in self._store.list(_CASES):
            found = _CASE_KEY.match(stat.key)
            try:
                if found is None:
                    raise EventDecodeError(f"below {_CASES} must lie <yyyymmdd>/<case_id>.json, got {stat.key[:200]!a}")
                yield self._read_case(stat.key, found.group(1))
            except (InvalidInputError, NotFoundError) as error:
                on_damaged(stat.key, error)

    def _read_case(self, key: str, case_id: str) -> ExplainedCase:
        if key != _case_key(case_id):
            raise EventDecodeError(f"a case must lie at {_case_key(case_id)}, got {key}")
        with _at(key):
            data = self._store.get(key, max_bytes=_MAX_CASE_BYTES)
            return _explained_case(_from_json(events_pb2.ExplainedCase, data), case_id)

    # ---- reviews

    def add_review(self, review: Review) -> Review:
        """Keep a review; the same again changes nothing.

        Returns:
            As it is on record: of a repeat, what was kept the first time.

        Raises:
            InvalidInputError: If an id is none, or it could not be read again.
            EventDecodeError: If what lies there is not that review.
            ConflictError: If the id was used for another review.
            UnavailableError: If the store does not answer.
        """
        key = _review_key(review.case_id, review.review_id)
        message = review_to_message(review)
        _review(message, review.case_id, review.review_id)
        try:
            self._store.put_new(key, _to_json(message, _MAX_REVIEW_BYTES), content_type="application/json")
        except ConflictError:
            known = self.review(review.case_id, review.review_id)
            # When it was taken and how it relates to others is the service's, and was settled the first time.
            same = replace(
                review,
                reviewed_at_ns=known.reviewed_at_ns,
                supersedes=known.supersedes,
                disagrees_with=known.disagrees_with,
            )
            if same != known:
                raise ConflictError(
                    f"a review's id must be used once, got {review.review_id} again with other content"
                ) from None
            return known
        return review

    def review(self, case_id: str, review_id: str) -> Review:
        """Read a review; raises as :meth:`case` does."""
        return self._read_review(_review_key(case_id, review_id), case_id, review_id)

    def reviews_of(self, case_id: str) -> list[Review]:
        """Read everything that was said of a case, in the order in which it was taken; raises as :meth:`case` does."""
        found = (_REVIEW_KEY.match(stat.key) for stat in self._store.list(_review_folder(case_id)))
        reviews = [self.review(one.group(1), one.group(2)) for one in found if one is not None]
        return sorted(reviews, key=lambda review: (review.reviewed_at_ns, review.review_id))

    def reviews(self, on_damaged: Damaged, *, known: Container[str] = ()) -> Iterator[Review]:
        """Read every review, in no promised order; what cannot be read is told and left out.

        Args:
            on_damaged: Told of what cannot be read.
            known: Ids of reviews that are not read again: what was said does not change.
        """
        for stat in self._store.list(_REVIEWS):
            found = _REVIEW_KEY.match(stat.key)
            if found is not None and found.group(2) in known:
                continue
            try:
                if found is None:
                    rule = f"below {_REVIEWS} must lie <yyyymmdd>/<case_id>/<review_id>.json"
                    raise EventDecodeError(f"{rule}, got {stat.key[:200]!a}")
                yield self._read_review(stat.key, found.group(1), found.group(2))
            except (InvalidInputError, NotFoundError) as error:
                on_damaged(stat.key, error)

    def _read_review(self, key: str, case_id: str, review_id: str) -> Review:
        if key != _review_key(case_id, review_id):
            raise EventDecodeError(f"a review must lie at {_review_key(case_id, review_id)}, got {key}")
        with _at(key):
            data = self._store.get(key, max_bytes=_MAX_REVIEW_BYTES)
            return _review(_from_json(events_pb2.Review, data), case_id, review_id)


def queued_case(explained: ExplainedCase, width_px: int, height_px: int) -> QueuedCase:
    """Give a case as a queue shows it.

    Args:
        explained: As it is on record.
        width_px: Of its picture as people see it; 0 where it cannot be decoded.
        height_px: Likewise.

    Raises:
        InvalidInputError: If it has no reference to a picture.
    """
    case = explained.case
    if case.image_ref is None:
        raise InvalidInputError(f"a case in a queue must have its picture in the record, got none for {case.case_id}")
    shown = next((one for one in explained.explanations if one.map.size), None)
    return QueuedCase(
        case_id=case.case_id,
        kind=case.kind,
        inspection=case.inspection,
        image_ref=case.image_ref,
        image_width_px=width_px,
        image_height_px=height_px,
        sampling_probability=case.sampling_probability,
        explained_at_ns=explained.explained_at_ns,
        shown_method=shown.method if shown else "",
        shown_grade=shown.grade if shown else None,
    )


def _day(case_id: str) -> str:
    captured = datetime.timedelta(milliseconds=captured_at_ms(validate_case_id(case_id)))
    try:
        return f"{_EPOCH + captured:%Y%m%d}"
    except OverflowError:
        # An id has room for some 900 years more than a date has.
        raise InvalidInputError(f"case_id must be of a day before the year 10000, got {case_id}") from None


def _case_key(case_id: str) -> str:
    return f"{_CASES}{_day(case_id)}/{case_id}.json"


def _review_key(case_id: str, review_id: str) -> str:
    return f"{_review_folder(case_id)}{validate_review_id(review_id)}.json"


def _review_folder(case_id: str) -> str:
    return f"{_REVIEWS}{_day(case_id)}/{case_id}/"


# ---- what may lie in the record, checked before it is written and after it was read


def _explained_case(message: events_pb2.ExplainedCase, case_id: str) -> ExplainedCase:
    explained = explained_case_from_message(message)
    if explained.case.case_id != case_id:
        raise InvalidInputError(f"must hold the case {case_id}, got {explained.case.case_id}")
    if explained.case.image_ref is None:
        raise InvalidInputError(f"a case on record must have its picture below {PREFIX}images/, got one of its own")
    _check_kept("images", explained.case.image_ref)
    return explained


def _review(message: events_pb2.Review, case_id: str, review_id: str) -> Review:
    review = review_from_message(message)
    if (review.case_id, review.review_id) != (case_id, review_id):
        raise InvalidInputError(
            f"must hold the review {review_id} of {case_id}, got {review.review_id} of {review.case_id}"
        )
    if review.mask_ref is not None:
        _check_kept("masks", review.mask_ref)
    return review


def _check_kept(kind: str, ref: ImageRef) -> None:
    """Refuse a reference to anything but what :class:`CaseRecord` keeps by its content."""
    # The bucket is not looked at: a record that was copied to another one can still be read.
    folder = f"{PREFIX}{kind}/{ref.sha256[:2]}/{ref.sha256}"
    stem, dot, suffix = ref.key.rpartition(".")
    if stem != folder or not dot or suffix not in _SUFFIXES:
        raise InvalidInputError(f"what is kept must lie at {folder} with a suffix, got {ref.key[:200]!a}")


@contextlib.contextmanager
def _at(key: str) -> Iterator[None]:
    """Say of everything that is wrong with an object where it lies."""
    try:
        yield
    except InvalidInputError as error:
        raise EventDecodeError(f"{key}: {error}") from error


def _to_json(message: Message, max_bytes: int) -> bytes:
    data = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=1).encode()
    if len(data) > max_bytes:
        raise InvalidInputError(
            f"a {message.DESCRIPTOR.name} on record must have at most {max_bytes} bytes as JSON, got {len(data)}"
        )
    return data


def _from_json(kind: type[M], data: bytes) -> M:
    try:
        # A later release may have written more, before somebody went back to this one.
        return json_format.Parse(data, kind(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())[:200]
        raise InvalidInputError(f"an object must hold the message {kind.DESCRIPTOR.name} as JSON: {why}") from error
