"""Topic names: the one place they are spelled."""

from __future__ import annotations

ARRIVALS = "sightline.arrivals.v1"
FRAMES = "sightline.frames.v1"
VERDICTS = "sightline.verdicts.v1"
CASES = "sightline.cases.v1"
EMBEDDINGS = "sightline.embeddings.v1"
SHADOW = "sightline.shadow.v1"
EXPLAINED = "sightline.explained.v1"
REVIEWS = "sightline.reviews.v1"
MODELS = "sightline.models.v1"
OUTCOMES = "sightline.outcomes.v1"
LINE_EVENTS = "sightline.line-events.v1"

#: Every topic this release reads or writes.
ALL = (ARRIVALS, FRAMES, VERDICTS, CASES, EMBEDDINGS, SHADOW, EXPLAINED, REVIEWS, MODELS, OUTCOMES, LINE_EVENTS)

#: Topics whose records replace each other by key.
COMPACTED = frozenset({MODELS})

#: Topics that are a record: what a line was told, who acknowledged an alarm, which reference parts came out right.
RECORDS = frozenset({LINE_EVENTS})


def dead_letter(topic: str) -> str:
    """Name the topic that takes what could not be used from ``topic``."""
    return f"{topic}.dlq"
