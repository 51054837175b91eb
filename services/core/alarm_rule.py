"""When a line's outcomes are an alarm: so many in a row, so many of the last ones, or too large a share of them."""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final

from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.line_event import Light
from services.core.outcome import Outcome, OutcomeView

#: Most parts in a row, and most parts that a rule looks back on.
MAX_PARTS: Final = 1_000
#: Longest window of a rate: a week, in seconds.
MAX_WINDOW_S: Final = 7 * 86_400

_S_PER_MIN: Final = 60
_MAX_CLASS_LENGTH: Final = 128


class AlarmKind(enum.Enum):
    """How a rule counts."""

    IN_A_ROW = "in_a_row"
    """``n`` parts, one after the other."""
    OF_LAST = "of_last"
    """``n`` of the last ``k`` parts."""
    RATE = "rate"
    """More than ``share`` of the parts within ``window_s``, once there are ``min_parts``."""


class AlarmPer(enum.Enum):
    """What a count is kept for. Each line has its own counts whatever a rule says."""

    LINE = "line"
    CAMERA = "camera"
    PRODUCT = "product"
    DEFECT_CLASS = "defect_class"


class Counted(enum.Enum):
    """What a rule counts of parts."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    REVIEW = "review"
    LATE = "late"
    """The line's answer was not decided in time, whatever it was."""


_USED: Final = {
    AlarmKind.IN_A_ROW: {"n"},
    AlarmKind.OF_LAST: {"n", "k"},
    AlarmKind.RATE: {"share", "window_s", "min_parts"},
}
_DID: Final = {
    Counted.FAIL: "failed",
    Counted.REVIEW: "were for review",
    Counted.LATE: "were answered late",
    Counted.PASS: "passed",
}


@dataclass(frozen=True, slots=True, order=True)
class AlarmKey:
    """What one count is about; what a rule does not tell apart is empty."""

    line_id: str
    camera_id: str = ""
    product: str = ""
    defect_class: str = ""


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """One rule. The alarm that it raises stands until a person acknowledges it; no rule clears by itself."""

    name: str
    """An id, of no other rule."""
    kind: AlarmKind
    n: int = 0
    """For ``IN_A_ROW`` and ``OF_LAST``: so many parts are an alarm, 1 to :data:`MAX_PARTS`."""
    k: int = 0
    """For ``OF_LAST``: parts to look back on, ``n`` to :data:`MAX_PARTS`."""
    share: float = 0.0
    """For ``RATE``: a larger share than this is an alarm, in ``[0, 1)``."""
    window_s: int = 0
    """For ``RATE``: 1 to :data:`MAX_WINDOW_S`."""
    min_parts: int = 0
    """For ``RATE``: with fewer parts within the window there is no alarm; at least 1."""
    verdicts: frozenset[Counted] = frozenset({Counted.FAIL, Counted.REVIEW})
    """What counts."""
    per: frozenset[AlarmPer] = frozenset({AlarmPer.LINE})
    """What counts are kept apart by."""
    product: str = ""
    """Only this product counts; empty for all."""
    camera_id: str = ""
    """Only views of this camera count; empty for all."""
    defect_class: str = ""
    """Only this defect counts; empty for all."""
    light: Light = Light.AMBER
    """How grave: AMBER or RED."""

    def __post_init__(self) -> None:
        validate_id(self.name, "a rule's name")
        if self.product:
            validate_id(self.product, f"product of rule {self.name}")
        if self.camera_id:
            validate_id(self.camera_id, f"camera_id of rule {self.name}")
        if len(self.defect_class) > _MAX_CLASS_LENGTH or not self.defect_class.isprintable():
            self._refuse(
                f"a defect_class of at most {_MAX_CLASS_LENGTH} printable characters", ascii(self.defect_class)[:80]
            )
        if self.light not in {Light.AMBER, Light.RED}:
            self._refuse("light AMBER or RED", self.light.name)
        if not self.verdicts or not self.per:
            self._refuse("at least one verdict and one thing to count by", f"{len(self.verdicts)} and {len(self.per)}")
        if self.by_views and Counted.LATE in self.verdicts:
            self._refuse("no camera and no defect where it counts late parts, since a part is late as a whole", "them")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in sorted({"n", "k", "share", "window_s", "min_parts"} - _USED[self.kind]):
            if getattr(self, name):
                self._refuse(f"no {name}, since it is of kind {self.kind.value}", getattr(self, name))
        if self.kind is AlarmKind.RATE:
            if not 0 <= self.share < 1:
                self._refuse("a share in [0, 1)", self.share)
            if not 1 <= self.window_s <= MAX_WINDOW_S:
                self._refuse(f"window_s in 1..{MAX_WINDOW_S}", self.window_s)
            if self.min_parts < 1:
                self._refuse("min_parts >= 1", self.min_parts)
            return
        if not 1 <= self.n <= MAX_PARTS:
            self._refuse(f"n in 1..{MAX_PARTS}", self.n)
        if self.kind is AlarmKind.OF_LAST and not self.n <= self.k <= MAX_PARTS:
            self._refuse(f"k in n..{MAX_PARTS}", f"{self.k} with n {self.n}")

    def _refuse(self, must_have: str, received: object) -> None:
        raise InvalidInputError(f"rule {self.name} must have {must_have}, got {received}")

    @property
    def by_views(self) -> bool:
        """Whether a part counts by what cameras saw of it, not by its outcome."""
        return bool(self.per & {AlarmPer.CAMERA, AlarmPer.DEFECT_CLASS} or self.camera_id or self.defect_class)

    @property
    def by_class(self) -> bool:
        """Whether each defect class has its own count."""
        return AlarmPer.DEFECT_CLASS in self.per

    def fingerprint(self) -> str:
        """Sixteen hex digits of everything that the rule says; what another rule counted has others."""
        values = asdict(self) | {
            "kind": self.kind.value,
            "light": self.light.value,
            "verdicts": sorted(one.value for one in self.verdicts),
            "per": sorted(one.value for one in self.per),
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]

    def trials(self, outcome: Outcome) -> dict[AlarmKey, set[str]]:
        """What a part is to this rule.

        A part counts once for each key, however many views a camera took of it. A camera that did not see it says
        nothing of it: there the part neither counts nor ends a row. The part's own outcome is REVIEW then.

        Returns:
            Keys that the part counts for, without the class in a rule by defect class. With each, the classes of what
            was hit there: ``{""}`` in a rule that is not by class, and none where the part is not what the rule counts.
        """
        if self.product and outcome.product != self.product:
            return {}
        product = outcome.product if AlarmPer.PRODUCT in self.per or self.product else ""
        if not self.by_views:
            key = AlarmKey(outcome.line_id, product=product)
            late = Counted.LATE in self.verdicts and not outcome.in_time
            return {key: {""} if late or Counted(outcome.verdict.value) in self.verdicts else set()}
        found: dict[AlarmKey, set[str]] = {}
        for view in outcome.views:
            if self.camera_id and view.camera_id != self.camera_id:
                continue
            camera = view.camera_id if AlarmPer.CAMERA in self.per or self.camera_id else ""
            defect = "" if self.by_class else self.defect_class
            hits = found.setdefault(AlarmKey(outcome.line_id, camera, product, defect), set())
            if self._counts(view):
                hits.add(view.defect_class if self.by_class else "")
        return found

    def _counts(self, view: OutcomeView) -> bool:
        if Counted(view.verdict.value) not in self.verdicts:
            return False
        if self.defect_class and view.defect_class != self.defect_class:
            return False
        # No class is not a class: two parts whose defects have no name need not have the same defect.
        return bool(view.defect_class) or not self.by_class

    def describe(self, key: AlarmKey, count: int, of: int) -> str:
        """Say in English what happened.

        Args:
            key: What it is about.
            count: Parts that counted.
            of: Parts that were looked at.
        """
        if self.kind is AlarmKind.IN_A_ROW:
            parts = f"{count} parts in a row" if count > 1 else "1 part"
        elif self.kind is AlarmKind.OF_LAST:
            parts = f"{count} of the last {of} parts"
        else:
            parts = f"{count} of {of} parts"
        if self.verdicts == {Counted.FAIL, Counted.REVIEW}:
            did = "did not pass"
        else:
            did = " or ".join(text for counted, text in _DID.items() if counted in self.verdicts)
        words = [parts, f"of product {key.product}" if key.product else "", did]
        if self.kind is AlarmKind.RATE:
            words.append(f"within {_duration(self.window_s)}")
        words.append(f"with {key.defect_class}" if key.defect_class else "")
        words.append(f"at camera {key.camera_id}" if key.camera_id else "")
        return " ".join(word for word in words if word)


#: For a plant that has set none. A defect that comes again at once is a tool or a feeder; three late answers in a row
#: are parts that the reject gate could not act on, which the line must not rely on.
DEFAULT_RULES: Final = (
    AlarmRule("late-in-a-row", AlarmKind.IN_A_ROW, n=3, verdicts=frozenset({Counted.LATE}), light=Light.RED),
    AlarmRule("not-passed-in-a-row", AlarmKind.IN_A_ROW, n=5),
    AlarmRule(
        "same-defect-in-a-row",
        AlarmKind.IN_A_ROW,
        n=3,
        verdicts=frozenset({Counted.FAIL}),
        per=frozenset({AlarmPer.CAMERA, AlarmPer.DEFECT_CLASS}),
    ),
    AlarmRule("fail-rate", AlarmKind.RATE, share=0.2, window_s=600, min_parts=30, verdicts=frozenset({Counted.FAIL})),
)


def _duration(seconds: int) -> str:
    return f"{seconds // _S_PER_MIN} min" if seconds % _S_PER_MIN == 0 else f"{seconds} s"
