"""A running line is described to Prometheus by the names that rules and dashboards know."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.errors import NotFoundError
from services.local.scraping import scrape_config

ADDRESSES = {
    "detector": "http://127.0.0.1:9101",
    "ingest": "http://127.0.0.1:9102",
    "page": "http://127.0.0.1:8080",
    "triton_metrics": "http://127.0.0.1:8002",
}


def test_every_service_and_triton_are_targets_and_the_page_is_none(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    config = scrape_config(ADDRESSES, rules=[rules], interval_s=2)
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert sorted(jobs) == ["sightline-detector", "sightline-ingest", "sightline-triton"]
    assert jobs["sightline-triton"]["static_configs"] == [{"targets": ["127.0.0.1:8002"]}]
    assert jobs["sightline-ingest"]["scheme"] == "http"
    assert config["global"] == {"scrape_interval": "2s", "evaluation_interval": "2s"}
    assert config["rule_files"] == [str(rules)]


def test_a_line_whose_triton_is_another_one_has_no_target_for_it() -> None:
    jobs = scrape_config({"detector": "https://127.0.0.1:9101"})["scrape_configs"]
    assert [(job["job_name"], job["scheme"]) for job in jobs] == [("sightline-detector", "https")]


def test_without_a_line_it_says_how_to_start_one() -> None:
    with pytest.raises(NotFoundError, match="start one with: sightline run"):
        scrape_config({})
