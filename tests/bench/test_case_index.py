"""The benchmark of the case index, run small: that it works."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import case_index


def test_the_case_index_answers_every_question_of_the_benchmark(tmp_path: Path) -> None:
    out = tmp_path / "case_index.json"
    case_index.main(["--cases", "3000", "--repeats", "3", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["cases"] == 3_000
    assert result["reviews"] > 20
    questions = {row["question"] for row in result["rows"]}
    assert {"open of a line", "nothing fits", "reviewer", "counts: all"} <= questions
    assert all(row["p50_ms"] > 0 for row in result["rows"])


def test_sqlite_and_postgresql_are_asked_the_same(tmp_path: Path) -> None:
    out = tmp_path / "compared.json"
    case_index.main(["--cases", "2000", "--repeats", "3", "--postgres", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["sqlite_reviews"] == result["postgres_reviews"] > 20
    assert result["server_version"]
    assert {"open of a line", "counts: all"} <= {row["question"] for row in result["rows"]}
    assert all(row["postgres_p50_ms"] > 0 for row in result["rows"])
