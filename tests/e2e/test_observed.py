"""A real Prometheus watches a real line with our rules: targets, rules, every panel's query, and alerts that fire."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from services.adapters.feedbackclient import FeedbackClient
from services.adapters.ports import CaseFilter, QueueOrder
from services.core.review import Answer, Review, ReviewAction
from services.core.types import CaseKind, Verdict
from services.local.linefile import read_addresses, read_setting
from services.local.process import free_port
from services.local.scraping import scrape_config
from tests.support.observing import ROOT, RULES, panel_queries, program, rules_of
from tests.support.prometheus_server import PrometheusServer
from tests.support.running_line import RunningLine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

#: Everything there is to see is there within this time.
SEEN_WITHIN_S: Final = 60.0
SERVICES: Final = ("ingest", "detector", "outcome", "explainer", "feedback", "trainer", "serving", "dashboard")


def until(what: Callable[[], Any], timeout_s: float = SEEN_WITHIN_S) -> Any:
    """Ask until the answer is no longer empty."""
    end_s = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < end_s, f"nothing came within {timeout_s:.0f} s"
        time.sleep(0.5)
    return found


def impatient_rules(folder: Path) -> list[Path]:
    """Our rules with every delay a second, and a camera silent after 8 s; bounds and expressions as they are."""
    folder.mkdir()
    found = []
    for path in sorted(RULES.glob("*.yaml")):
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                if "alert" in rule:
                    rule["for"] = "1s"
                if rule.get("alert") == "SightlineCameraSilent":
                    assert "> 60" in rule["expr"]
                    rule["expr"] = rule["expr"].replace("> 60", "> 8")
        new = folder / path.name
        new.write_text(yaml.safe_dump(rules))
        found.append(new)
    return found


@pytest.fixture(scope="module")
def watched_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, watched_folder: Path) -> Iterator[RunningLine]:
    """The cameras of ``sightline run``, and one that takes pictures from a folder."""
    data = tmp_path_factory.mktemp("observed") / "data"
    data.mkdir()
    cameras = yaml.safe_load((ROOT / "services" / "local" / "cameras.yaml").read_text(encoding="utf-8"))
    source = {"kind": "watch", "path": str(watched_folder)}
    camera = {"camera_id": "from-folder", "line_id": "line-2", "product": "fabric", "source": source}
    cameras["cameras"].append(camera)
    (data / "ingest.yaml").write_text(yaml.safe_dump(cameras))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIGHTLINE_MEASURES__INTERVAL_S", "1")
        patch.setenv("SIGHTLINE_MEASURES__AUDIT_INTERVAL_S", "1")
        patch.setenv("SIGHTLINE_AUDIT_SHARE", "0.3")
        running = RunningLine(data, free_port())
    running.wait_until_up(240)
    yield running
    running.stop(signal.SIGTERM)


@pytest.fixture(scope="module")
def prometheus(line: RunningLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    binary = program("prometheus")
    if binary is None:
        pytest.skip("Prometheus is not here; apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    rules = impatient_rules(folder / "rules")
    config = scrape_config(read_addresses(line.data), rules=rules, interval_s=1)
    with PrometheusServer(binary, config, folder) as server:
        yield server


def test_every_part_of_the_line_is_scraped(prometheus: PrometheusServer) -> None:
    wanted = {f"sightline-{name}": "up" for name in (*SERVICES, "triton")}
    until(lambda: prometheus.targets() == wanted)


def test_every_rule_gives_a_value_and_no_panel_is_empty(
    line: RunningLine, prometheus: PrometheusServer, watched_folder: Path
) -> None:
    answer_an_audited_part(line)
    recorded = {
        f"{rule['record']}{{{','.join(f'{key}={value!r}' for key, value in rule.get('labels', {}).items())}}}"
        for rule in rules_of("recording.yaml")
    }
    queries = {query.expr for query in panel_queries() if not query.needs}
    assert len(queries) > 60

    def empty() -> list[str]:
        return [expr for expr in sorted(recorded | queries) if not prometheus.query(expr)]

    end_s = time.monotonic() + SEEN_WITHIN_S
    while (missing := empty()) and time.monotonic() < end_s:
        time.sleep(1)
    assert missing == []
    assert prometheus.rule_errors() == []
    # And what was answered is what is shown.
    (escape,) = until(lambda: prometheus.query("max(line:sightline_escape:ratio >= 0)"))
    assert float(escape["value"][1]) > 0


def answer_an_audited_part(line: RunningLine) -> None:
    """Say that a part of the audit sample is defective."""
    client = FeedbackClient(read_setting(line.data, "feedback", "address"))
    try:
        page = until(lambda: client.list_queue(CaseFilter(kind=CaseKind.AUDIT), QueueOrder.NEWEST, limit=1).cases)
        case = page[0]
        review = Review(
            review_id=str(uuid.uuid4()),
            case_id=case.case_id,
            frame_id=case.inspection.frame_id,
            action=ReviewAction.ANSWER,
            reviewer="ada",
            reviewed_at_ns=0,
            verdict_right=Answer.NO,
            reason_right=Answer.NOT_ASKED,
            corrected_verdict=Verdict.FAIL,
            alias=case.inspection.alias,
            model_version=case.inspection.model_version,
            shown_method=case.shown_method,
        )
        client.submit(review, b"")
    finally:
        client.close()


def test_a_healthy_line_raises_no_alert_but_of_what_is_wrong(prometheus: PrometheusServer) -> None:
    # One part was called an escape, and simulated parts may raise the line's own alarms; nobody answers its cases.
    may = {"SightlineAlarmStanding", "SightlineReceiverBehind", "SightlineCameraSilent"}
    assert set(prometheus.firing()) <= may


def test_damaged_pictures_and_a_camera_that_stops_raise_their_alerts(
    prometheus: PrometheusServer, watched_folder: Path
) -> None:
    for number in range(6):
        (watched_folder / f"damaged-{number}.jpg").write_bytes(b"\xff\xd8\xff" + b"no picture" * number)
    # A picture that cannot be used is a sign of life all the same.
    until(lambda: "SightlineCameraSilent" not in prometheus.firing())
    (alert,) = until(lambda: prometheus.firing().get("SightlineDeadLetters"))
    assert "records within 10 minutes" in alert["annotations"]["description"]
    alerts = until(lambda: prometheus.firing().get("SightlineCameraSilent"))
    assert {alert["labels"]["camera"] for alert in alerts} == {"from-folder"}
    assert "was accepted" in alerts[0]["annotations"]["description"]


def test_a_service_that_hangs_raises_an_alert_until_it_is_back(line: RunningLine, prometheus: PrometheusServer) -> None:
    dashboard = next(
        each for each in line.family if each.is_running() and "services.dashboard" in " ".join(each.cmdline())
    )
    dashboard.suspend()
    try:
        (alert,) = until(lambda: prometheus.firing().get("SightlineServiceDown"))
        assert alert["labels"]["job"] == "sightline-dashboard"
        assert alert["annotations"]["summary"].startswith("sightline-dashboard at 127.0.0.1:")
    finally:
        dashboard.resume()
    until(lambda: "SightlineServiceDown" not in prometheus.firing())
