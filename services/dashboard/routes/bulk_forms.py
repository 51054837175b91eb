"""What is asked and said of many cases at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from services.adapters.exportorder import ExportOrder
from services.core.export_layout import Labels, Layout
from services.core.review import validate_case_id
from services.core.types import Verdict
from services.dashboard.routes.review_forms import CaseQuery, Reviewer, ReviewId, TimeMs

#: Answers of one request.
MAX_ANSWERS = 200
#: Cases that one request names for an export.
MAX_NAMED = 5_000

CaseId = Annotated[str, AfterValidator(validate_case_id)]
# In full: a reference to another part of the schema would not fit into the description of an address.
OneVerdict = Annotated[Verdict, WithJsonSchema({"type": "string", "enum": [one.value for one in Verdict]})]
OneLayout = Annotated[Layout, WithJsonSchema({"type": "string", "enum": [one.value for one in Layout]})]
OneLabels = Annotated[Labels, WithJsonSchema({"type": "string", "enum": [one.value for one in Labels]})]

_LAYOUT = Field(description="coco, labels, mvtec or two-folders.")
_LABELS = Field(
    default=Labels.SETTLED, description="Whose word a label is: settled takes people's only; open cases are left out."
)
_REVIEWERS = Field(default=False, description="Whether those who answered are named in the archive.")


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BulkAnswer(_Form):
    """One of many answers."""

    review_id: ReviewId
    case_id: CaseId
    verdict: OneVerdict | None = Field(
        default=None, description="That the model gave, as it was on screen; for good and defective."
    )

    @property
    def seen(self) -> Verdict:
        """The verdict that was on screen; there is one where :class:`BulkForm` asks for one."""
        return self.verdict or Verdict.REVIEW


class BulkForm(_Form):
    """The same answer to many cases."""

    reviewer: Reviewer
    action: Literal["good", "defective", "skip", "undo"]
    said_at_ms: TimeMs | None = None
    answers: list[BulkAnswer] = Field(min_length=1, max_length=MAX_ANSWERS)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name, ids in (
            ("case_id", [one.case_id for one in self.answers]),
            ("review_id", [one.review_id for one in self.answers]),
        ):
            if len(set(ids)) < len(ids):
                raise ValueError(f"each {name} must come once, got {len(ids)} of which {len(set(ids))} differ")
        if self.action in ("good", "defective") and any(one.verdict is None for one in self.answers):
            raise ValueError(f"each answer must have the verdict that was seen where all are {self.action}, got none")
        return self


def bulk_schema() -> dict[str, Any]:
    """The shape of :class:`BulkForm` in full: a reference would not fit into the description of an address."""
    schema = BulkForm.model_json_schema()
    schema["properties"]["answers"]["items"] = BulkAnswer.model_json_schema()
    del schema["$defs"]
    return schema


class ExportQuery(CaseQuery):
    """Which cases an export has, and how it is laid out."""

    layout: Layout = _LAYOUT
    labels: Labels = _LABELS
    reviewers: bool = _REVIEWERS

    @property
    def order(self) -> ExportOrder:
        """As the export service is asked."""
        return ExportOrder(self.layout, self.where, labels=self.labels, reviewers=self.reviewers)


class ExportForm(_Form):
    """These cases, and how they are laid out."""

    case_ids: list[CaseId] = Field(min_length=1, max_length=MAX_NAMED)
    layout: OneLayout = _LAYOUT
    labels: OneLabels = _LABELS
    reviewers: bool = _REVIEWERS

    @property
    def order(self) -> ExportOrder:
        """As the export service is asked."""
        return ExportOrder(self.layout, case_ids=tuple(self.case_ids), labels=self.labels, reviewers=self.reviewers)
