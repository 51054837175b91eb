"""The benchmark of neighbours, run small: that it works."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import neighbours


def test_neighbours_are_found_at_every_length_and_by_an_inverted_file(tmp_path: Path) -> None:
    out = tmp_path / "neighbours.json"
    sizes = ["--embeddings", "600", "--lengths", "16", "32", "--inverted", "3000", "--repeats", "5"]
    neighbours.main([*sizes, "--out", str(out)])
    result = json.loads(out.read_text())
    assert [(row["embeddings"], row["length"]) for row in result["rows"]] == [(600, 16), (600, 32)]
    assert all(row["p50_ms"] > 0 and row["put_per_s"] > 0 for row in result["rows"])
    (inverted,) = result["inverted"]
    assert inverted["recall_at_1"] > 0.5
