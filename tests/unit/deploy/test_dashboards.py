"""Dashboards are current, laid out without overlaps, and told apart without red and green."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.observing import DASHBOARDS, ROOT, RULES, dashboards, panel_queries, program

ALL = dashboards()
#: What such a panel's metrics look like where there are any.
EXPOSITIONS = {
    "a GPU": [
        'nv_gpu_utilization{gpu_uuid="GPU-1"}',
        'nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"}',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"}',
    ],
    "the metrics of a Kubernetes cluster": [
        'container_memory_working_set_bytes{namespace="plant",pod="detector-0",container="detector"}',
        'container_spec_memory_limit_bytes{namespace="plant",pod="detector-0",container="detector"}',
    ],
    "a full window of frames scored by a model that was calibrated": [
        'sightline_detector_score_psi{alias="default",model="default-v1"}',
        'sightline_detector_embedding_mmd{alias="default",model="default-v1"}',
        'sightline_detector_drift_frames{alias="default",model="default-v1"}',
    ],
    "certificates": ['sightline_tls_certificate_expiry_timestamp_seconds{job="sightline-ingest",file="tls.crt"}'],
}


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in ALL[name]["panels"] if panel["type"] != "row"]


def test_there_is_one_for_line_pipeline_model_review_and_infrastructure() -> None:
    assert set(ALL) == {"line", "pipeline", "model", "review", "infrastructure"}


def test_what_lies_there_is_what_the_source_says(tmp_path: Path) -> None:
    argv = [sys.executable, str(ROOT / "deploy" / "dashboards"), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ALL)
def test_panels_do_not_lie_on_each_other(name: str) -> None:
    places = [panel["gridPos"] for panel in ALL[name]["panels"]]
    for one, other in itertools.combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    numbers = [panel["id"] for panel in ALL[name]["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("name", ALL)
def test_each_panel_has_a_unit_and_each_query_a_name_and_the_chosen_source(name: str) -> None:
    for panel in panels(name):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["legendFormat"]
            assert target["datasource"]["uid"] == "${datasource}"
    variables = {each["name"] for each in ALL[name]["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", " ".join(t["expr"] for panel in panels(name) for t in panel["targets"])))
    assert used <= variables


@pytest.mark.parametrize("name", ALL)
def test_bounds_rise_as_grafana_wants_them(name: str) -> None:
    for panel in panels(name):
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(values), panel["title"]


@pytest.mark.parametrize("name", ALL)
def test_colours_are_those_that_everybody_tells_apart(name: str) -> None:
    text = (DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")
    okabe_ito = {"#0072B2", "#E69F00", "#D55E00", "#009E73", "#56B4E9", "#CC79A7"}
    assert set(re.findall(r"#[0-9A-Fa-f]{6}", text)) <= okabe_ito
    assert not re.search(r'"(red|green)"', text)
    # Shades of one colour, and no palette of Grafana's own, in which red and green stand beside each other.
    assert "palette-classic" not in text


@pytest.mark.parametrize("name", ALL)
def test_each_leads_to_the_others_and_keeps_time_and_choices(name: str) -> None:
    (link,) = ALL[name]["links"]
    assert link["tags"] == ["sightline"] == ALL[name]["tags"]
    assert link["keepTime"]
    assert link["includeVars"]


def test_panels_that_need_more_than_one_machine_has_show_something_where_it_is(tmp_path: Path) -> None:
    promtool = program("promtool")
    if promtool is None:
        pytest.skip("promtool is not here; apt-get install prometheus")
    special = [query for query in panel_queries() if query.needs]
    assert {query.needs for query in special} == set(EXPOSITIONS)
    tests = {
        "rule_files": [str(RULES / "recording.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": each, "values": "5x10"} for each in EXPOSITIONS[query.needs]],
                "promql_expr_test": [
                    {
                        "expr": f"count({query.expr})",
                        "eval_time": "10m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
            for query in special
        ],
    }
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump(tests))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
