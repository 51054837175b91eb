"""Alerts, recording rules and dashboards as the chart carries them, and the programs that read them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "charts" / "sightline" / "files"
RULES = FILES / "rules"
RULES_TESTS = FILES / "rules-tests"
DASHBOARDS = FILES / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of a dashboard's panel, every choice at its top set to all."""

    dashboard: str
    panel: str
    expr: str
    needs: str
    """What must be there for an answer, where a line on one machine has none."""


def rules_of(name: str) -> list[dict[str, Any]]:
    """The rules of one file, in their order."""
    found = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def dashboards() -> dict[str, dict[str, Any]]:
    """Every dashboard by the name of its file."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panel_queries() -> Iterator[PanelQuery]:
    """Every query of every panel."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            needs = re.search(r" Needs (.+)\.$", panel.get("description", ""))
            for target in panel.get("targets", []):
                expr = re.sub(r"\$(line|camera|model)\b", ".*", target["expr"])
                yield PanelQuery(name, panel["title"], expr, needs.group(1) if needs else "")


def program(name: str) -> str | None:
    """Where a program of Prometheus is: installed, or put with the tools by the set-up; ``None`` without it."""
    return shutil.which(name) or shutil.which(name, path=str(ROOT / ".tools" / "prometheus" / "usr" / "bin"))
