"""Counts calls by how they ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from services.core.errors import SightlineError
from services.runtime import metrics


@contextlib.contextmanager
def counted(call: str) -> Iterator[None]:
    """Count a call once it has ended, as ok or by the reason of its error."""
    outcome = "failed"
    try:
        yield
        outcome = "ok"
    except SightlineError as error:
        outcome = error.reason
        raise
    finally:
        metrics.FEEDBACK_CALLS.labels(call, outcome).inc()
