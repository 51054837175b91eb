"""The security check: what is found needs an answer that holds; recorded audits, planted calls and secrets."""

from __future__ import annotations

import datetime
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
TODAY = datetime.date(2026, 11, 27)


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("security_check", ROOT / "deploy" / "security_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up.
    sys.modules["security_check"] = module
    spec.loader.exec_module(module)
    return module


# As pip-audit 2.10 and npm 10 write them, shortened.
PIP_AUDIT = json.dumps(
    {
        "dependencies": [
            {"name": "rich", "version": "14.0.0", "vulns": []},
            {
                "name": "jinja2",
                "version": "2.4.1",
                "vulns": [
                    {
                        "id": "PYSEC-2019-217",
                        "fix_versions": ["2.10.1"],
                        "aliases": ["CVE-2019-10906", "GHSA-462w-v97r-4m45"],
                        "description": "sandbox escape",
                    }
                ],
            },
        ],
        "fixes": [],
    }
)
NPM_AUDIT = json.dumps(
    {
        "auditReportVersion": 2,
        "vulnerabilities": {
            "minimist": {
                "name": "minimist",
                "severity": "critical",
                "via": [
                    {
                        "source": 1097677,
                        "name": "minimist",
                        "title": "Prototype Pollution in minimist",
                        "url": "https://github.com/advisories/GHSA-xvch-5gv4-984h",
                        "severity": "critical",
                        "range": "<0.2.4",
                    }
                ],
            },
            "mkdirp": {"name": "mkdirp", "severity": "critical", "via": ["minimist"]},
        },
    }
)


def advisory(**changes: Any) -> str:
    fields = {
        "package": "jinja2",
        "id": "PYSEC-2019-217",
        "answer": "no template of ours comes from outside",
        "until": "2027-01-31",
    }
    lines = [f"{name}: {value}" for name, value in (fields | changes).items() if value is not None]
    return "advisories:\n  - " + "\n    ".join(lines)


def said(check: ModuleType, findings: list[Any], answers: str) -> list[str]:
    return list(check.complaints(findings, check.read_answers(answers), TODAY))


def test_a_finding_without_an_answer_is_told_with_what_mends_it(check: ModuleType) -> None:
    [one] = said(check, check.python_advisories(PIP_AUDIT), "")
    assert one.startswith("jinja2: PYSEC-2019-217: 2.4.1 is affected, mended in 2.10.1; it needs an answer")


@pytest.mark.parametrize("name", ["PYSEC-2019-217", "CVE-2019-10906", "ghsa-462w-v97r-4m45"])
def test_an_answer_by_any_of_its_ids_is_one(check: ModuleType, name: str) -> None:
    assert said(check, check.python_advisories(PIP_AUDIT), advisory(id=name)) == []


def test_an_answer_for_another_package_is_none(check: ModuleType) -> None:
    told = said(check, check.python_advisories(PIP_AUDIT), advisory(package="rich"))
    assert [one.split(":")[0] for one in told] == ["jinja2", "rich"]


@pytest.mark.parametrize(
    ("until", "wrong"),
    [
        ("2026-11-26", "held until 2026-11-26"),
        ("2026-11-27", ""),
        ("2027-11-28", ""),
        ("2027-11-29", "at most 366 days"),
    ],
)
def test_an_answer_holds_until_its_day_and_a_year_at_most(check: ModuleType, until: str, wrong: str) -> None:
    told = said(check, check.python_advisories(PIP_AUDIT), advisory(until=until))
    assert bool(told) == bool(wrong)
    assert wrong in "".join(told)


def test_an_answer_to_nothing_is_taken_out_but_not_while_nothing_could_be_audited(check: ModuleType) -> None:
    answers = check.read_answers(advisory())
    assert "nothing is found" in check.complaints([], answers, TODAY)[0]
    assert check.complaints([], answers, TODAY, {"licences", "calls", "secrets"}) == []


@pytest.mark.parametrize(
    "text",
    [
        advisory(until=None),
        advisory(until="soon"),
        advisory(answer="fine"),
        advisory(why="because"),
        "advisories: [1]",
        "other: []",
        "- a",
        "a: [",
    ],
)
def test_what_is_no_answer_is_refused(check: ModuleType, text: str) -> None:
    with pytest.raises(check.AnswersError, match="must"):
        check.read_answers(text)


def test_an_advisory_of_the_page_is_told_once_and_with_the_package_that_has_it(check: ModuleType) -> None:
    [one] = check.page_advisories(f"npm warn something\n{NPM_AUDIT}")
    assert (one.subject, one.what) == ("minimist", "GHSA-xvch-5gv4-984h")
    assert "Prototype Pollution in minimist (critical), versions <0.2.4" in one.text


# What was seen of a registry mirror that knows no advisories.
NONE_KNOWN = json.dumps(
    {"dependencies": [{"name": "rich", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}
)
REFUSED = 'npm error audit endpoint returned an error\n{"message": "405 Method Not Allowed", "method": "POST"}'


@pytest.mark.parametrize("output", ["", "no JSON", "[]", "{}", NONE_KNOWN])
def test_an_audit_of_nothing_is_none(check: ModuleType, output: str) -> None:
    with pytest.raises(check.NotAuditedError):
        check.python_advisories(output)


@pytest.mark.parametrize("output", ["", "no JSON", "[]", REFUSED])
def test_a_refused_audit_of_the_page_is_none(check: ModuleType, output: str) -> None:
    with pytest.raises(check.NotAuditedError):
        check.page_advisories(output)


def test_one_package_that_is_not_known_among_others_needs_an_answer(check: ModuleType) -> None:
    known = json.loads(PIP_AUDIT)["dependencies"][:1]
    unknown = json.loads(NONE_KNOWN)["dependencies"]
    [one] = check.python_advisories(json.dumps({"dependencies": known + unknown}))
    assert (one.subject, one.what) == ("rich", "not-audited")


def raising(error: Exception) -> Callable[[], list[Any]]:
    def audit() -> list[Any]:
        raise error

    return audit


@pytest.mark.parametrize(("required", "code"), [("", 0), ("required", 1)])
def test_an_audit_that_cannot_be_done_is_said_and_fails_only_where_it_is_required(
    check: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    required: str,
    code: int,
) -> None:
    monkeypatch.setenv("SIGHTLINE_AUDIT", required)
    away = raising(check.NotAuditedError("405"))
    monkeypatch.setattr(check, "_audit_python", away)
    monkeypatch.setattr(check, "_audit_page", away)
    assert check.main() == code
    told = capsys.readouterr().err
    assert "requirements.lock: not audited: the service of advisories does not answer (405)" in told
    assert "package-lock.json: not audited" in told


def test_a_finding_of_the_audit_fails_the_whole_check(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SIGHTLINE_AUDIT", raising=False)
    monkeypatch.setattr(check, "_audit_python", lambda: check.python_advisories(PIP_AUDIT))
    monkeypatch.setattr(check, "_audit_page", list)
    assert check.main() == 1
    assert "✗ jinja2: PYSEC-2019-217" in capsys.readouterr().err


# ---- licences


@pytest.mark.parametrize(
    ("metadata", "classifiers", "licence"),
    [
        ({"License-Expression": "MIT AND PSF-2.0"}, ["License :: OSI Approved :: Apache Software License"], None),
        ({}, ["License :: OSI Approved :: BSD License", "Topic :: Security"], "BSD-3-Clause"),
        ({}, ["License :: DFSG approved", "License :: OSI Approved :: MIT License"], "MIT"),
        ({"License": "Apache"}, [], "Apache-2.0"),
        ({"License": "Do what you like\nin many lines"}, [], "Do what you like"),
        ({}, [], "unknown"),
    ],
)
def test_a_licence_is_told_from_whatever_a_package_states(
    check: ModuleType, metadata: dict[str, str], classifiers: list[str], licence: str | None
) -> None:
    assert check.licence_of(metadata, classifiers) == (licence or metadata["License-Expression"])


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND MIT", True),
        ("EPL-2.0 OR BSD-3-Clause", True),
        ("(MIT OR GPL-3.0-only)", False),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0", False),
        ("LGPL-3.0-only", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_what_may_be_shipped_without_a_word(check: ModuleType, expression: str, allowed: bool) -> None:
    assert check.is_allowed(expression) is allowed


# ---- calls


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("import pickle\npickle.loads(b)", "pickle.loads"),
        ("import pickle as p\np.load(f)", "pickle.load"),
        ("from pickle import loads as read\nread(b)", "pickle.loads"),
        ("import torch\ntorch.load(f, weights_only=True)", "torch.load"),
        ("import yaml\nyaml.load(t, yaml.Loader)", "yaml.load"),
        ("eval('1')", "eval"),
        ("import subprocess\nsubprocess.run('ls', shell=True)", "shell=True"),
        ("import numpy as np\nnp.load(f, allow_pickle=True)", "allow_pickle=True"),
        ("import os\nos.system('ls')", "os.system"),
        ("import httpx\nhttpx.get('u', verify=False)", "verify=False"),
    ],
)
def test_a_call_that_runs_what_it_reads_is_found_by_whatever_name(check: ModuleType, source: str, call: str) -> None:
    assert [name for _, name in check.forbidden_calls(source)] == [call]


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import yaml\nyaml.safe_load(t)",
        "import json\njson.loads(b)",
        "import safetensors.torch\nsafetensors.torch.load(b)",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "'pickle.loads(b)'",
    ],
)
def test_what_only_looks_like_it_is_none(check: ModuleType, source: str) -> None:
    assert check.forbidden_calls(source) == []


# ---- secrets; put together here, so that they do not stand in this file


@pytest.mark.parametrize(
    ("name", "parts", "kind"),
    [
        ("a.py", ["AKIA", "ABCDEFGHIJKLMNOP"], "cloud key"),
        ("a.py", ["ghp", "_" + "a1" * 18], "forge token"),
        ("key.pem", ["-----BEGIN EC PRIVATE", " KEY-----\n" + "MHcC" * 16], "private key"),
        ("a.md", ["eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiIxMjM0In0." + "abcdefghij" * 3], "signed token"),
        ("a.yaml", ["postgresql://sightline:", "x7Gh2kQp9LmZ4@db/cases"], "web address with a password"),
        ("docker-compose.yml", ["  POSTGRES_PASSWORD:", " hunter2hunter2"], "value of a secret"),
        ("charts/sightline/values.yaml", ["secret_key:", ' "abcdef123456"'], "value of a secret"),
        (".env.example", ["SIGHTLINE_KAFKA__SASL_PASSWORD=", "changeit"], "value of a secret"),
    ],
)
def test_a_secret_in_the_tree_is_found(check: ModuleType, name: str, parts: list[str], kind: str) -> None:
    assert [found for _, found in check.secrets_in(name, "first line\n" + "".join(parts) + "\n")] == [kind]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("docker-compose.yml", "  POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?must be set}"),
        ("charts/sightline/templates/a.yaml", "password: {{ .Values.password }}"),
        ("charts/sightline/values.yaml", 'secret_key: ""\nexistingSecret: sightline-s3'),
        (".env.example", "SIGHTLINE_KAFKA__SASL_PASSWORD=\nNEXT=1"),
        ("docs/feedback.md", "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"),
        ("services/a.py", "password = settings.password"),
    ],
)
def test_the_place_of_a_secret_is_none(check: ModuleType, name: str, text: str) -> None:
    assert check.secrets_in(name, text) == []
