"""The benchmark of ingest, run small: that it works, and that memory stays where it is."""

from __future__ import annotations

import pytest

from tests.bench import ingest

pytestmark = [pytest.mark.integration]


def test_ingest_keeps_its_memory_and_its_pace() -> None:
    result = ingest.run(frames=120, repeats=1, soak_frames=2_000, small=True)
    assert {row["source"] for row in result["rows"]} == {"replay", "simulated 320 px", "grpc push"}
    for row in result["rows"]:
        assert row["rss_mb"] < 250
    early, late = result["rss_mb_after_frames"].values()
    assert late < early + 25
