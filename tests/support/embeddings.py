"""Embeddings of frames and cases for tests of their index, and the answer that a search by hand gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from services.adapters.ports import KeptEmbedding, NeighbourQuery
from services.core.identity import case_id
from services.core.neighbours import DECIMALS, RELATIONS, Relation, class_of, class_wanted, unit
from services.core.types import Verdict
from tests.support.cases import HOUR_NS, START_NS, queued_case

NOW_NS = START_NS + HOUR_NS
EXPIRES_NS = START_NS + 24 * HOUR_NS


def kept(
    number: int,
    values: Sequence[float],
    verdict: Verdict = Verdict.PASS,
    *,
    expires_at_ns: int = EXPIRES_NS,
    **changes: Any,
) -> KeptEmbedding:
    """Embedding ``number``, of a part of its own; of a frame, unless it never expires."""
    seen = queued_case(number, verdict, **changes).inspection
    return KeptEmbedding(
        case_id=case_id(seen.frame_id, seen.alias, seen.model_version),
        inspection=seen,
        embedding=unit(np.array(values, np.float16)),
        expires_at_ns=expires_at_ns,
    )


def query(of: KeptEmbedding, own: Verdict | None = Verdict.FAIL, **changes: Any) -> NeighbourQuery:
    """What asks for the neighbours of a part."""
    values: dict[str, Any] = {
        "alias": of.inspection.alias,
        "model_version": of.inspection.model_version,
        "embedding": of.embedding,
        "own": own,
        "part_id": of.inspection.part_id,
    }
    return NeighbourQuery(**values | changes)


def by_hand(
    asked: NeighbourQuery, pool: Sequence[KeptEmbedding], settled: dict[str, Verdict], *, most: int, now_ns: int
) -> dict[Relation, list[tuple[float, str]]]:
    """Every similarity, computed and sorted."""
    found: dict[Relation, list[tuple[float, str]]] = {}
    for relation in RELATIONS:
        if relation is not Relation.FARTHEST and asked.own is None:
            continue
        wanted = class_wanted(relation, asked.own)
        rows = [
            (_similarity(one, asked), place, one)
            for place, one in enumerate(pool)
            if one.inspection.part_id != asked.part_id
            and (one.expires_at_ns == 0 or one.expires_at_ns > now_ns)
            and (one.inspection.alias, one.inspection.model_version) == (asked.alias, asked.model_version)
            and wanted in (None, class_of(one.inspection, settled.get(one.case_id)))
        ]
        sign = 1 if relation is Relation.FARTHEST else -1
        rows.sort(key=lambda row: (sign * row[0], row[2].inspection.captured_at_ns, row[1]))
        if rows:
            found[relation] = [(similarity, one.case_id) for similarity, _, one in rows[:most]]
    return found


def _similarity(one: KeptEmbedding, asked: NeighbourQuery) -> float:
    # In half floats a length of 1 is one about so.
    cosine = float(one.embedding.astype(np.float64) @ asked.embedding.astype(np.float64))
    return min(1.0, max(-1.0, round(cosine, DECIMALS)))
