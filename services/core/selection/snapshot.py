"""The data set of a training, made from what people said: immutable, and the same bytes for the same answers.

One item for each picture that people settled on. Only answers that stand are looked at, and nothing of when or in
which order they came is kept: an answer that was taken back leaves no trace, so that the next model is as if it had
never been given (paper 1, section 2: reversible).

Answers that contradict each other stay on record; what becomes of their picture in the training is a policy's decision,
and each of them is told. Parts of the frozen hold-out are never trained on, whatever was said of them.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from services.core.errors import InvalidInputError
from services.core.manifest import GOOD
from services.core.review import Answer, QueuedCase, Review, settled_verdict, standing_reviews
from services.core.types import Verdict

#: Version of the layout of a snapshot.
SCHEMA: Final = 1

#: Class of a defective part that nobody has named.
UNNAMED: Final = "defect"


class ContradictionPolicy(enum.Enum):
    """What becomes of a picture that people contradict each other about."""

    LEAVE_OUT = "leave_out"
    """Nothing is learnt from it until they agree."""
    NEWEST = "newest"
    """The last answer counts."""
    MAJORITY = "majority"
    """What more people say counts; a tie is left out."""


class LeftOutReason(enum.Enum):
    """Why nothing is learnt from a picture that somebody answered."""

    CONTRADICTED = "contradicted"
    NOT_SURE = "not_sure"
    """Nobody who answered was sure."""
    HELD_OUT = "held_out"
    """Its part belongs to the frozen hold-out."""
    NO_PICTURE = "no_picture"
    """It cannot be decoded."""


@dataclass(frozen=True, slots=True)
class AnsweredCase:
    """A case, and everything that was said of it."""

    case: QueuedCase
    reviews: tuple[Review, ...]


@dataclass(frozen=True, slots=True)
class SnapshotItem:
    """One picture to learn from.

    Attributes:
        image_sha256: Of the picture; names it in the record.
        image_key: Where it lies.
        part_id: What a split keeps together.
        label: ``good``, or the name of the defect.
        mask_keys: Drawings of the defect, sorted; their union counts. Empty where nobody drew one.
        accepted_maps: Cases whose explanation was accepted and where nobody drew, with the method that was on screen:
            the region is that of the map.
        misleading_maps: On a good part, cases whose verdict was wrong, with the method that was on screen: what is hot
            there misled the model.
        verdict_wrong: Whether a verdict was corrected.
        reason_wrong: Whether a reason was.
        review_ids: The answers that it rests on, sorted.
        product: What it is one of.
        camera_id: Which camera took it.
        area: Corners of the area of interest of a defective part, in pixels of the picture; empty where nobody gave
            one. Defects count in it; where one lies is told by drawings and maps.
    """

    image_sha256: str
    image_key: str
    part_id: str
    label: str
    mask_keys: tuple[str, ...]
    accepted_maps: tuple[tuple[str, str], ...]
    misleading_maps: tuple[tuple[str, str], ...]
    verdict_wrong: bool
    reason_wrong: bool
    review_ids: tuple[str, ...]
    product: str = ""
    camera_id: str = ""
    area: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A picture that somebody answered and nothing is learnt from."""

    image_sha256: str
    reason: LeftOutReason
    review_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is learnt from.

    Attributes:
        items: By digest of the picture.
        left_out: Likewise.
        contradicted: Digests of pictures that people contradict each other about, whatever the policy made of them.
        policy: That policy.
    """

    items: tuple[SnapshotItem, ...]
    left_out: tuple[LeftOut, ...]
    contradicted: tuple[str, ...]
    policy: ContradictionPolicy

    @property
    def classes(self) -> tuple[str, ...]:
        """Every label, ``good`` first."""
        return (GOOD, *sorted({item.label for item in self.items} - {GOOD}))

    def to_json(self) -> bytes:
        """Its one form: the same snapshot has the same bytes."""
        document = {
            "schema": SCHEMA,
            "policy": self.policy.value,
            "items": [asdict(item) for item in self.items],
            "left_out": [asdict(one) | {"reason": one.reason.value} for one in self.left_out],
            "contradicted": list(self.contradicted),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Snapshot:
        """Read what :meth:`to_json` wrote.

        Raises:
            InvalidInputError: If it is anything else.
        """
        try:
            document = json.loads(data)
            snapshot = cls(
                tuple(_read_item(one) for one in document["items"]),
                tuple(
                    LeftOut(one["image_sha256"], LeftOutReason(one["reason"]), tuple(one["review_ids"]))
                    for one in document["left_out"]
                ),
                tuple(document["contradicted"]),
                ContradictionPolicy(document["policy"]),
            )
            same = snapshot.to_json() == data
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidInputError(f"a snapshot must be JSON of its own layout, got {error!r}") from error
        if not same:
            raise InvalidInputError(f"a snapshot must have schema {SCHEMA} and its one form, got another")
        return snapshot

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_json`."""
        return hashlib.sha256(self.to_json()).hexdigest()


def _read_item(fields: Mapping[str, Any]) -> SnapshotItem:
    lists = ("mask_keys", "review_ids")
    pairs = ("accepted_maps", "misleading_maps")
    read: dict[str, Any] = dict(fields)
    read |= {name: tuple(fields[name]) for name in lists}
    read |= {name: tuple((case_id, method) for case_id, method in fields[name]) for name in pairs}
    read["area"] = tuple((float(x), float(y)) for x, y in fields["area"])
    return SnapshotItem(**read)


@dataclass(frozen=True, slots=True)
class _Said:
    """A standing answer of somebody who was sure, and what it was about."""

    review: Review
    case: QueuedCase
    verdict: Verdict


def make_snapshot(
    answered: Iterable[AnsweredCase],
    *,
    held_out: Collection[str] = (),
    policy: ContradictionPolicy = ContradictionPolicy.LEAVE_OUT,
) -> Snapshot:
    """Turn what people said into a data set.

    Args:
        answered: Cases with what was said of them, in any order; those without a standing answer leave no trace.
        held_out: Parts that are never trained on.
        policy: For contradictions.

    Returns:
        The data set.

    Raises:
        InvalidInputError: If one picture is said to be of two parts: a split could then be on both sides of it.
    """
    pictures: dict[str, list[tuple[QueuedCase, Review]]] = {}
    for one in answered:
        for review in standing_reviews(one.reviews):
            pictures.setdefault(one.case.image_ref.sha256, []).append((one.case, review))
    items: list[SnapshotItem] = []
    left_out: list[LeftOut] = []
    contradicted: list[str] = []
    for digest in sorted(pictures):
        given = pictures[digest]
        part_id = _part_of(digest, [case for case, _ in given])
        sure = [
            _Said(review, case, verdict)
            for case, review in given
            if (verdict := settled_verdict(review, case.inspection.verdict)) is not None
        ]
        differing = len({one.verdict for one in sure}) > 1
        if differing:
            contradicted.append(digest)
        reason = _reason_against(given[0][0], part_id, sure, held_out)
        verdict = None if reason else _resolved(sure, policy)
        if reason is None and verdict is None:
            reason = LeftOutReason.CONTRADICTED
        if reason is not None or verdict is None:
            ids = tuple(sorted(review.review_id for _, review in given))
            left_out.append(LeftOut(digest, reason or LeftOutReason.CONTRADICTED, ids))
        else:
            items.append(_item(part_id, verdict, [one for one in sure if one.verdict is verdict]))
    return Snapshot(tuple(items), tuple(left_out), tuple(contradicted), policy)


def _part_of(digest: str, cases: Sequence[QueuedCase]) -> str:
    parts = sorted({case.inspection.part_id for case in cases})
    if len(parts) > 1:
        raise InvalidInputError(f"a picture must be of one part, got {digest} of {parts[0]!a} and {parts[1]!a}")
    return parts[0]


def _reason_against(
    case: QueuedCase, part_id: str, sure: Sequence[_Said], held_out: Collection[str]
) -> LeftOutReason | None:
    if part_id in held_out:
        return LeftOutReason.HELD_OUT
    if not case.image_width_px:
        return LeftOutReason.NO_PICTURE
    return None if sure else LeftOutReason.NOT_SURE


def _resolved(sure: Sequence[_Said], policy: ContradictionPolicy) -> Verdict | None:
    """The verdict that counts; None where the policy leaves the picture out."""
    if len({one.verdict for one in sure}) == 1:
        return sure[0].verdict
    if policy is ContradictionPolicy.NEWEST:
        return max(sure, key=lambda one: (one.review.reviewed_at_ns, one.review.review_id)).verdict
    if policy is ContradictionPolicy.MAJORITY:
        # A person counts once, with the last thing said.
        last: dict[str, Verdict] = {}
        for one in sorted(sure, key=lambda one: (one.review.reviewed_at_ns, one.review.review_id)):
            last[one.review.reviewer] = one.verdict
        (first, most), *others = Counter(last.values()).most_common()
        return first if not others or most > others[0][1] else None
    return None


def _item(part_id: str, verdict: Verdict, said: Sequence[_Said]) -> SnapshotItem:
    """What is learnt from a picture, by the answers that say what counts."""
    said = sorted(said, key=lambda one: (one.review.reviewed_at_ns, one.review.review_id))
    defective = verdict is Verdict.FAIL
    masks = {one.review.mask_ref.key for one in said if one.review.mask_ref is not None} if defective else set()
    wrong = [one for one in said if one.case.inspection.verdict is not verdict]
    accepted = {
        (one.case.case_id, one.review.shown_method)
        for one in said
        if defective and not masks and one.review.reason_right is Answer.YES and one.review.shown_method
    }
    misleading = {
        (one.case.case_id, one.review.shown_method)
        for one in wrong
        if not defective and one.case.inspection.verdict is Verdict.FAIL and one.review.shown_method
    }
    image, taken = said[0].case.image_ref, said[0].case.inspection
    areas = [one.review.area for one in said if one.review.area] if defective else []
    return SnapshotItem(
        image_sha256=image.sha256,
        image_key=image.key,
        part_id=part_id,
        label=_label(said) if defective else GOOD,
        mask_keys=tuple(sorted(masks)),
        accepted_maps=tuple(sorted(accepted)),
        misleading_maps=tuple(sorted(misleading)),
        verdict_wrong=any(one.review.verdict_right is Answer.NO for one in said),
        reason_wrong=any(one.review.reason_right is Answer.NO for one in said),
        review_ids=tuple(sorted(one.review.review_id for one in said)),
        product=taken.product,
        camera_id=taken.camera_id,
        area=tuple((float(corner.x_px), float(corner.y_px)) for corner in areas[-1]) if areas else (),
    )


def _label(said: Sequence[_Said]) -> str:
    """Name of the defect: what a person called it last, else what the model that saw it too did."""
    named = [one.review.defect_class for one in said if one.review.defect_class]
    if named:
        return named[-1]
    seen = {one.case.inspection.defect_class for one in said if one.case.inspection.verdict is Verdict.FAIL} - {""}
    return min(seen) if seen else UNNAMED
