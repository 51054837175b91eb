"""The JSON of models and of what they changed, as ``views`` has that of the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from services.adapters.modelstore import StoredVersion
from services.core.model_change import (
    ChangeSummary,
    ComparedPart,
    Correction,
    Flip,
    FrameEstimate,
    PartVerdict,
)
from services.core.types import AliasState
from services.dashboard.models import KnownAlias
from services.dashboard.views import NS_PER_MS, Json, number

# ---- models


def alias_json(alias: KnownAlias, stored: Sequence[int] | None) -> Json:
    """One alias with its versions and how it came to them.

    Args:
        alias: The alias.
        stored: Versions in the object store; None while it is away.
    """
    return {
        **state_json(alias.state),
        "alias": alias.state.alias,
        "stored_versions": None if stored is None else list(stored),
        "history": [state_json(state) for state in alias.history],
    }


def state_json(state: AliasState) -> Json:
    """What an alias points to, and what last changed that."""
    return {
        "revision": state.revision,
        "live_version": state.live_version,
        "previous_version": state.previous_version,
        "shadow_version": state.shadow_version,
        "candidate_versions": list(state.candidate_versions),
        "action": state.action.value,
        "actor": state.actor,
        "at_ms": state.at_ns // NS_PER_MS,
        "note": state.note,
    }


def version_json(stored: StoredVersion) -> Json:
    """What a version is: its manifest, and how large it is."""
    manifest = stored.manifest
    return {
        "alias": manifest.alias,
        "version": manifest.version,
        "architecture": manifest.architecture,
        "architecture_options": manifest.architecture_options,
        "classes": list(manifest.classes),
        "preprocessing": dataclasses.asdict(manifest.preprocessing),
        "embedding_size": manifest.embedding_size,
        "operating_point": dataclasses.asdict(manifest.operating_point),
        "calibration": dataclasses.asdict(manifest.calibration),
        "lineage": dataclasses.asdict(manifest.lineage),
        "metrics": {name: dataclasses.asdict(metric) for name, metric in sorted(manifest.metrics.items())},
        "code_version": manifest.code_version,
        "created_at_ms": manifest.created_at_ns // NS_PER_MS,
        "size_bytes": stored.size_bytes,
    }


# ---- what they changed


def change_json(summary: ChangeSummary) -> Json:
    """One change as a list shows it."""
    change, found = summary.change, summary.flips
    return {
        "alias": change.alias,
        "revision": change.revision,
        "live_version": change.live_version,
        "previous_version": change.previous_version,
        "action": None if change.action is None else change.action.value,
        "actor": change.actor,
        "at_ms": change.at_ns // NS_PER_MS,
        "note": change.note,
        "state": change.state.value,
        "ended_at_ms": change.ended_at_ns // NS_PER_MS if change.ended_at_ns else None,
        "counts": dataclasses.asdict(summary.counts),
        "flips": [_flip_json(kind) for kind in found.kinds],
        "flipped": None if found.flipped is None else _estimate_json(found.flipped),
        "frames": number(found.frames),
        "frames_compared": found.compared,
        "frames_since_ms": change.frames_since_ns // NS_PER_MS if change.frames_since_ns else None,
        "frames_until_ms": change.frames_until_ns // NS_PER_MS if change.frames_until_ns else None,
        "planned": summary.planned,
        "settled": summary.settled,
        "waits_for": summary.waits_for,
    }


def part_of_change_json(part: ComparedPart) -> Json:
    """A corrected part, before and after."""
    outcome = part.outcome
    return {
        "case_id": part.case_id,
        "part_id": part.part_id,
        "line_id": part.line_id,
        "camera_id": part.camera_id,
        "captured_at_ms": part.captured_at_ns // NS_PER_MS,
        "settled": part.settled.value,
        "outcome": None if outcome is None else outcome.value,
        "left_out": part.left_out,
        "before": _said_json(part.before),
        "after": None if part.after is None else _said_json(part.after),
        "corrections": [_correction_json(one) for one in part.corrections],
    }


def _said_json(said: PartVerdict) -> Json:
    point = said.operating_point
    return {
        "verdict": said.verdict.value,
        "score": number(said.score),
        "threshold": number(point.threshold),
        "review_low": number(point.review_low),
        "review_high": number(point.review_high),
        "model_version": said.model_version,
        "defect_class": said.defect_class,
    }


def _correction_json(correction: Correction) -> Json:
    return {
        "review_id": correction.review_id,
        "reviewer": correction.reviewer,
        "kind": correction.kind.value,
        "settled": correction.settled.value,
        "defect_class": correction.defect_class,
        "reviewed_at_ms": correction.reviewed_at_ns // NS_PER_MS,
        "withdrawn": correction.withdrawn,
    }


def _flip_json(kind: Flip) -> Json:
    return {
        "before": kind.before.value,
        "after": kind.after.value,
        "flipped": kind.flipped,
        "compared": kind.compared,
        "estimate": _estimate_json(kind.estimate),
    }


def _estimate_json(estimate: FrameEstimate) -> Json:
    return {"value": number(estimate.value), "low": number(estimate.low), "high": number(estimate.high)}
