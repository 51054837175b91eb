"""Every alert is whole: a reason, words for people, a page, a test on its case and one on the near miss."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from services.runtime import metrics
from tests.support.observing import RULES, RULES_TESTS, RUNBOOKS, panel_queries, rules_of

ALERTS = {rule["alert"]: rule for rule in rules_of("alerts.yaml")}
TESTS: list[dict[str, Any]] = [
    test
    for path in sorted(RULES_TESTS.glob("*.yaml"))
    for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
]
#: Some processes have them only: of a model with a calibration, of a service with certificates.
CONDITIONAL = {
    "sightline_detector_score_psi",
    "sightline_detector_embedding_mmd",
    "sightline_detector_drift_frames",
    "sightline_tls_certificate_expiry_timestamp_seconds",
}


def cases_of(alert: str, kind: str) -> list[dict[str, Any]]:
    return [test for test in TESTS if test["name"].startswith(f"{alert} {kind} ")]


def series_names(test: dict[str, Any]) -> set[str]:
    return {each["series"].split("{", 1)[0] for each in test["input_series"]}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_was_measured_and_where_its_page_is(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "$value" in rule["annotations"]["description"]
    assert 10 < len(rule["annotations"]["summary"]) < 120
    assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")


@pytest.mark.parametrize("name", ALERTS)
def test_the_bound_of_an_alert_has_its_reason_above_it(name: str) -> None:
    lines = (RULES / "alerts.yaml").read_text(encoding="utf-8").splitlines()
    place = lines.index(f"      - alert: {name}")
    assert lines[place - 1].startswith("      # ")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_page_that_tells_what_to_do_and_is_current(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    for part in ("## What it means for the line", "## How to look", "## What to do", "## Whom to call"):
        (text,) = re.findall(rf"{part}\n\n(.+?)(?:\n## |\Z)", page, re.DOTALL)
        assert len(text) > 10
    assert f"```promql\n{ALERTS[name]['expr'].strip()}\n```" in page
    assert f"Severity **{ALERTS[name]['labels']['severity']}**" in page
    assert f"[{name}]({name}.md)" in (RUNBOOKS / "index.md").read_text(encoding="utf-8")


def test_no_page_is_left_of_an_alert_that_is_gone() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"index"} == set(ALERTS)


def test_links_of_the_pages_lead_somewhere() -> None:
    for path in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^):#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_on_its_case_and_on_the_near_miss(name: str) -> None:
    (fires,), (silent,) = cases_of(name, "fires"), cases_of(name, "stays silent")
    (check,) = fires["promql_expr_test"]
    assert f'alertname="{name}", alertstate="firing"' in check["expr"]
    assert [sample["value"] for sample in check["exp_samples"]] == [1]
    (check,) = silent["promql_expr_test"]
    assert f'alertname="{name}", alertstate="firing"' in check["expr"]
    assert check["exp_samples"] == []
    # A near miss has what the case has: an alert is not silent for want of data.
    assert series_names(fires) <= series_names(silent)


def test_rules_and_dashboards_ask_for_metrics_that_exist() -> None:
    declared = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    declared |= {family.name for family in REGISTRY.collect()}
    recorded = {rule["record"] for rule in rules_of("recording.yaml")}
    asked = [rule["expr"] for rule in (*rules_of("recording.yaml"), *ALERTS.values())]
    asked += [query.expr for query in panel_queries()]
    assert metrics.SERVICES
    for expr in asked:
        for name in re.findall(r"\b(?:\w+:)?sightline_\w+(?::\w+)?", expr):
            if ":" in name:
                assert name in recorded, f"{name} must be recorded, in {expr}"
            else:
                base = re.sub(r"_(total|bucket|sum|count|info)$", "", name)
                assert {name, base} & (declared | CONDITIONAL), f"{name} must be declared, in {expr}"


def test_a_recorded_name_tells_its_level_its_metric_and_what_was_done() -> None:
    for rule in rules_of("recording.yaml"):
        assert re.fullmatch(r"[a-z]+:(sightline|triton)_[a-z_]+:[a-z0-9_]+", rule["record"])
