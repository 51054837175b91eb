"""What is asked and said about reviews: filters in addresses, and bodies. A field too many is an error in a body."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from services.adapters.ports import CaseFilter, QueueOrder, ReviewFilter
from services.core.errors import InvalidInputError
from services.core.identity import validate_id
from services.core.review import (
    MAX_AREA_POINTS,
    MAX_CLASS_LENGTH,
    MAX_NOTE_LENGTH,
    Answer,
    AreaPoint,
    CaseState,
    Review,
    ReviewAction,
    validate_review_id,
    validate_reviewer,
)
from services.core.types import CaseKind, Verdict
from services.dashboard.pictures import PNG_SIGNATURE
from services.dashboard.views import NS_PER_MS

_MAX_METHOD_LENGTH = 64
_MAX_TOKEN_LENGTH = 1_000
_MAX_MS = (2**63 - 1) // NS_PER_MS

TimeMs = Annotated[int, Field(ge=0, le=_MAX_MS)]
Reviewer = Annotated[str, AfterValidator(validate_reviewer)]
#: Where somebody is signed in it is they, whether they say so or not.
SIGNED_IN: Any = Field(default=None, description="Needed where nobody signs in; else whoever is signed in.")
ReviewId = Annotated[str, AfterValidator(validate_review_id)]
# In full: a reference to another part of the schema would not fit into the description of an address.
OneAnswer = Annotated[Answer, WithJsonSchema({"type": "string", "enum": [one.value for one in Answer]})]


def _name(field: str) -> AfterValidator:
    return AfterValidator(lambda value: validate_id(value, field))


class _Query(BaseModel):
    """A part of an address; what is left empty there is not asked for."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, dict) else given


class CaseQuery(_Query):
    """Which cases."""

    line: Annotated[str, _name("line")] | None = None
    camera: Annotated[str, _name("camera")] | None = None
    product: Annotated[str, _name("product")] | None = None
    verdict: Verdict | None = Field(default=None, description="That the model gave.")
    kind: CaseKind | None = None
    alias: Annotated[str, _name("alias")] | None = None
    model_version: int | None = Field(default=None, ge=0, le=2**31 - 1)
    since_ms: TimeMs | None = Field(default=None, description="Captured at or after this time.")
    until_ms: TimeMs | None = Field(default=None, description="Captured before this time.")
    defect_class: str | None = Field(default=None, max_length=MAX_CLASS_LENGTH)
    answered_by: Reviewer | None = Field(default=None, description="Somebody whose answer stands.")
    state: CaseState | None = None

    @property
    def where(self) -> CaseFilter:
        """As the feedback service is asked."""
        return CaseFilter(
            line_id=self.line or "",
            camera_id=self.camera or "",
            product=self.product or "",
            verdict=self.verdict,
            kind=self.kind,
            alias=self.alias or "",
            model_version=self.model_version or 0,
            since_ns=(self.since_ms or 0) * NS_PER_MS,
            until_ns=(self.until_ms or 0) * NS_PER_MS,
            defect_class=self.defect_class or "",
            reviewer=self.answered_by or "",
            state=self.state,
        )


class _Page(BaseModel):
    after: str = Field(default="", max_length=_MAX_TOKEN_LENGTH, description="The `next` of an earlier page.")
    limit: int = Field(default=50, ge=1, le=200)


class QueueQuery(CaseQuery, _Page):
    """Which page of which queue."""

    order: QueueOrder = QueueOrder.BY_GAIN
    hide_held_from: Reviewer | None = Field(
        default=None, description="Leaves out what somebody other than this person holds now."
    )


class ReviewQuery(_Query, _Page):
    """Which page of which reviews."""

    reviewer: Reviewer | None = None
    line: Annotated[str, _name("line")] | None = None
    since_ms: TimeMs | None = Field(default=None, description="Taken at or after this time.")
    until_ms: TimeMs | None = Field(default=None, description="Taken before this time.")
    standing: bool = Field(
        default=False, description="Leaves out what was taken back, skips, and the undos themselves."
    )

    @property
    def where(self) -> ReviewFilter:
        """As the feedback service is asked."""
        return ReviewFilter(
            reviewer=self.reviewer or "",
            line_id=self.line or "",
            since_ns=(self.since_ms or 0) * NS_PER_MS,
            until_ns=(self.until_ms or 0) * NS_PER_MS,
            standing_only=self.standing,
        )


class PostedForm(BaseModel):
    """A body; a field too many or of another kind is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ClaimForm(PostedForm):
    """Who reserves a case, or gives it back."""

    reviewer: Reviewer | None = SIGNED_IN


class UndoForm(PostedForm):
    """Who takes a review back."""

    review_id: ReviewId = Field(description="Of the undo itself.")
    reviewer: Reviewer | None = SIGNED_IN
    said_at_ms: TimeMs | None = None


class AnswerForm(PostedForm):
    """What somebody says of a case."""

    review_id: ReviewId
    action: Literal["answer", "skip"]
    verdict_right: OneAnswer = Answer.NOT_ASKED
    reason_right: OneAnswer = Answer.NOT_ASKED
    corrected_verdict: Literal["pass", "fail"] | None = None
    defect_class: str = Field(default="", max_length=MAX_CLASS_LENGTH)
    area: list[tuple[float, float]] = Field(default_factory=list, max_length=MAX_AREA_POINTS)
    note: str = Field(default="", max_length=MAX_NOTE_LENGTH)
    reviewer: Reviewer | None = SIGNED_IN
    said_at_ms: TimeMs | None = None
    shown_method: str = Field(default="", max_length=_MAX_METHOD_LENGTH)
    mask_png: str | None = Field(default=None, description="Base64 of a PNG of the picture's size.")

    def review(self, case_id: str, reviewer: str) -> Review:
        """As the feedback service is told; it fills in the rest.

        Args:
            case_id: What it is about.
            reviewer: Who says it.
        """
        return Review(
            review_id=self.review_id,
            case_id=case_id,
            frame_id="",
            action=ReviewAction(self.action),
            reviewer=reviewer,
            reviewed_at_ns=0,
            verdict_right=self.verdict_right,
            reason_right=self.reason_right,
            corrected_verdict=None if self.corrected_verdict is None else Verdict(self.corrected_verdict),
            defect_class=self.defect_class,
            area=tuple(AreaPoint(x_px, y_px) for x_px, y_px in self.area),
            note=self.note,
            said_at_ns=(self.said_at_ms or 0) * NS_PER_MS,
            shown_method=self.shown_method,
        )

    def mask(self) -> bytes:
        """The mask that was drawn; empty where none was.

        Raises:
            InvalidInputError: If it is no PNG in base64.
        """
        if self.mask_png is None:
            return b""
        try:
            data = base64.b64decode(self.mask_png, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInputError(f"mask_png must be base64 without a prefix, got {self.mask_png[:40]!a}") from None
        if not data.startswith(PNG_SIGNATURE):
            raise InvalidInputError(f"mask_png must be a PNG, got {len(data)} bytes of something else")
        return data
