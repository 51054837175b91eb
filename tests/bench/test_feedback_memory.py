"""The benchmark of the feedback service's memory, run small: that it works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import feedback_memory

pytestmark = [pytest.mark.integration]


def test_the_feedback_service_takes_cases_and_answers_while_it_is_watched(tmp_path: Path) -> None:
    out = tmp_path / "feedback_memory.json"
    assert feedback_memory.main(["--quick", "--out", str(out)]) == 0, out.read_text()
    result = json.loads(out.read_text())
    assert result["cases"] == 600
    assert result["answers"] > 0
    assert 0 < result["highest_mb"] < 400
