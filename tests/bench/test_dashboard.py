"""The dashboard's benchmark, small: it runs, its figures are sane, and memory keeps its bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.dashboard import measure

pytestmark = pytest.mark.integration


def test_the_dashboard_keeps_within_its_memory_while_browsers_follow(tmp_path: Path) -> None:
    found = measure(frames=3_000, rate=400, folder=tmp_path)
    assert found["rss_peak_mb"] < 250
    assert found["pictures_per_s"] > 0
    assert 0 < found["delay_p50_ms"] < 5_000
