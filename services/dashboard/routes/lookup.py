"""Which explanations belong to a verdict: from memory, else from the topic."""

from __future__ import annotations

import asyncio

from services.core.errors import UnavailableError
from services.core.explain.attribution import METHODS
from services.core.types import Inspection, Verdict
from services.dashboard.context import Context
from services.dashboard.explanations import KeptExplanations
from services.dashboard.views import Json, explanations_json


async def look_up(context: Context, inspection: Inspection) -> Json:
    """What a part's page is told of its explanations.

    Args:
        context: The application's parts.
        inspection: The verdict that stands.
    """
    state, case = await _find(context, inspection)
    can_explain = context.on_demand.is_available and inspection.model_version > 0
    return explanations_json(state, case, METHODS if can_explain else ())


def recall(context: Context, inspection: Inspection) -> KeptExplanations | None:
    """The explanations of a verdict that are in memory, without a search."""
    found = context.explanations.find(inspection) or context.explained_archive.recall(inspection.frame_id)
    return found if found is not None and _belongs(found, inspection) else None


async def _find(context: Context, inspection: Inspection) -> tuple[str, KeptExplanations | None]:
    found = recall(context, inspection)
    if found is not None:
        return "explained", found
    if context.explanations.holds_all_since(inspection.captured_at_ns):
        # What a person has to look at is explained; other parts only now and then, as a sample.
        return ("no_case" if inspection.verdict is Verdict.PASS else "pending"), None
    if inspection.verdict is Verdict.PASS:
        return "no_case", None
    try:
        found = await asyncio.to_thread(context.explained_archive.find, inspection.frame_id)
    except UnavailableError:
        return "unavailable", None
    if found is not None and _belongs(found, inspection):
        return "explained", found
    return "missing", None


def _belongs(case: KeptExplanations, inspection: Inspection) -> bool:
    return (case.alias, case.model_version) == (inspection.alias, inspection.model_version)
