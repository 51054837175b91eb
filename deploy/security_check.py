"""``make security-check``: what is known to be wrong with what is installed, and what must not stand in the tree.

Every finding needs a written answer in ``audit-answers.yaml``; one that is missing, out of date, or to nothing that is
found any more, fails the check.
"""

from __future__ import annotations

import ast
import datetime
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parent.parent
ANSWERS: Final = Path(__file__).with_name("audit-answers.yaml")
LOCK: Final = ROOT / "requirements.lock"
WEB: Final = ROOT / "services" / "dashboard" / "web"

#: An answer holds at most this long: what was harmless then is looked at anew.
LONGEST_ANSWER_DAYS: Final = 366

_AUDIT_TIMEOUT_S: Final = 35.0


class NotAuditedError(Exception):
    """The service of advisories does not answer, so nothing can be said."""


class AnswersError(Exception):
    """The file of answers is none."""


# ---- findings and answers


@dataclass(frozen=True)
class Finding:
    """Something that needs an answer."""

    kind: str
    """``advisories``, ``licences``, ``calls`` or ``secrets``: the part of the file that answers it."""
    subject: str
    """Package, or file with line."""
    what: str
    """Id of the advisory, the licence, the call."""
    text: str
    aliases: frozenset[str] = frozenset()
    """Other ids of the same."""


@dataclass(frozen=True)
class Answer:
    """Why a finding does not matter, or what is done about it."""

    kind: str
    subject: str
    what: str
    answer: str
    until: datetime.date | None
    """Advisories only: by then it is looked at again."""

    def fits(self, finding: Finding) -> bool:
        """Tell whether it is to this finding; a call is known by its file, whatever its line is today."""
        subject = finding.subject.partition(":")[0]
        return (
            self.kind == finding.kind
            and self.subject == subject
            and self.what.casefold() in {one.casefold() for one in (finding.what, *finding.aliases)}
        )


_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "advisories": ("package", "id"),
    "licences": ("package", "licence"),
    "calls": ("file", "call"),
    "secrets": ("file", "pattern"),
}


def read_answers(text: str) -> list[Answer]:
    """Read the answers.

    Args:
        text: YAML, as ``audit-answers.yaml`` describes itself.

    Raises:
        AnswersError: With the rule and what was found.
    """
    try:
        parts = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise AnswersError(f"answers must be YAML, got {error}") from error
    if not isinstance(parts, dict) or set(parts) - set(_FIELDS):
        raise AnswersError(f"answers must have the parts {', '.join(_FIELDS)}, got {parts!r:.100}")
    return [_answer(kind, one) for kind, given in parts.items() for one in given or ()]


def _answer(kind: str, given: object) -> Answer:
    subject, what = _FIELDS[kind]
    dated = kind == "advisories"
    wanted = {subject, what, "answer"} | ({"until"} if dated else set())
    if not isinstance(given, dict) or set(given) != wanted:
        raise AnswersError(f"an answer of {kind} must have {', '.join(sorted(wanted))}, got {given!r:.200}")
    if len(str(given["answer"]).split()) < 5:
        raise AnswersError(f"an answer must say why, in words, got {given['answer']!r}")
    until = given.get("until")
    if dated and type(until) is not datetime.date:
        raise AnswersError(f"until must be a date like 2027-01-31, got {until!r}")
    return Answer(kind, str(given[subject]), str(given[what]), str(given["answer"]), until)


def complaints(
    findings: Sequence[Finding], answers: Sequence[Answer], today: datetime.date, audited: Iterable[str] = _FIELDS
) -> list[str]:
    """What is wrong: findings without an answer, answers that are over, too long, or to nothing.

    Args:
        findings: Of this run.
        answers: That are written down.
        today: The date.
        audited: Kinds that were looked for; an answer to another kind may still have its finding.
    """
    said = [
        f"{finding.subject}: {finding.what}: {finding.text}; it needs an answer in {ANSWERS.name} ({finding.kind})"
        for finding in findings
        if not any(answer.fits(finding) for answer in answers)
    ]
    for answer in answers:
        name = f"{answer.subject}: {answer.what}"
        if answer.until is not None and answer.until < today:
            said.append(f"{name}: the answer held until {answer.until}; look at it again")
        if answer.until is not None and (answer.until - today).days > LONGEST_ANSWER_DAYS:
            said.append(f"{name}: an answer must hold at most {LONGEST_ANSWER_DAYS} days, got {answer.until}")
        if answer.kind in set(audited) and not any(answer.fits(finding) for finding in findings):
            said.append(f"{name}: nothing is found that this answers; take it out")
    return said


# ---- advisories


def python_advisories(output: str) -> list[Finding]:
    """Read what ``pip-audit --format json`` wrote.

    Raises:
        NotAuditedError: If it is no audit, or the service knew none of the packages.
    """
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, LookupError, TypeError):
        raise NotAuditedError("pip-audit gave no result") from None
    if not packages or all("skip_reason" in one for one in packages):
        raise NotAuditedError(f"none of {len(packages)} packages is known there")
    found = [
        Finding("advisories", one["name"], "not-audited", one["skip_reason"])
        for one in packages
        if "skip_reason" in one
    ]
    for one in packages:
        for weakness in one.get("vulns", ()):
            fixed = ", ".join(weakness.get("fix_versions", ())) or "no version"
            text = f"{one['version']} is affected, mended in {fixed}"
            found.append(
                Finding("advisories", one["name"], weakness["id"], text, frozenset(weakness.get("aliases", ())))
            )
    return found


def page_advisories(output: str) -> list[Finding]:
    """Read what ``npm audit --json`` wrote.

    Raises:
        NotAuditedError: If it is no audit.
    """
    try:
        packages = json.loads(output[output.index("{") :])["vulnerabilities"]
    except (ValueError, LookupError, TypeError):
        raise NotAuditedError("npm audit gave no result") from None
    found = {}
    for package in packages.values():
        # A text names another package whose own entry says it; an object is the advisory itself.
        for cause in (one for one in package["via"] if isinstance(one, dict)):
            name = str(cause.get("url", "")).rpartition("/")[2] or str(cause["source"])
            text = f"{cause['title']} ({cause['severity']}), versions {cause['range']}"
            found[cause["name"], name] = Finding("advisories", str(cause["name"]), name, text)
    return list(found.values())


def _audit_python() -> list[Finding]:
    command: list[str | Path] = [sys.executable, "-m", "pip_audit", "--requirement", LOCK, "--no-deps", "--disable-pip"]
    return python_advisories(_output([*command, "--format", "json", "--progress-spinner", "off", "--timeout", "10"]))


def _audit_page() -> list[Finding]:
    return page_advisories(_output([ROOT / "deploy" / "npm", "audit", "--json", "--package-lock-only"]))


def _output(command: Sequence[str | Path]) -> str:
    try:
        ran = subprocess.run(  # noqa: S603 - of this checkout, with fixed arguments
            list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT, timeout=_AUDIT_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise NotAuditedError(f"no answer within {_AUDIT_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise NotAuditedError(str(error)) from error
    return ran.stdout


# ---- licences

#: Licences that an Apache-2.0 product may come with. Weak copyleft (MPL, LGPL) asks for an answer each time but for
#: MPL-2.0, which binds only its own files.
ALLOWED_LICENCES: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BlueOak-1.0.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC-BY-4.0",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "OFL-1.1",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    }
)

# What packages without an expression say instead, in classifiers or as free text.
_SPOKEN: Final[Mapping[str, str]] = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def licence_of(metadata: Mapping[str, str], classifiers: Sequence[str]) -> str:
    """The licence that a package states, as an SPDX expression where it can be told; ``unknown`` where it says none.

    Args:
        metadata: Its ``License-Expression`` and ``License``.
        classifiers: All of them.
    """
    expression = metadata.get("License-Expression") or ""
    if expression:
        return expression
    spoken = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    named = [_SPOKEN[one] for one in spoken if one in _SPOKEN]
    if named:
        return " AND ".join(dict.fromkeys(named))
    text = (metadata.get("License") or "").strip().partition("\n")[0]
    return _SPOKEN.get(text, text) or "unknown"


def is_allowed(expression: str) -> bool:
    """Tell whether a licence may be shipped: all that are joined by AND, one of those that are joined by OR."""
    if " OR " in expression and "(" not in expression:
        return any(is_allowed(part) for part in expression.split(" OR "))
    parts = [part.strip("() ") for part in expression.replace(" OR ", " AND ").split(" AND ")]
    return all(part.removesuffix(" WITH LLVM-exception") in ALLOWED_LICENCES for part in parts)


def licence_findings(stated: Mapping[str, str]) -> list[Finding]:
    """Licences that need an answer, by package."""
    return [
        Finding("licences", name, licence, "is none that is always allowed")
        for name, licence in sorted(stated.items())
        if not is_allowed(licence)
    ]


def _stated_licences() -> dict[str, str]:
    stated: dict[str, str] = {}
    for name in re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text(), re.MULTILINE):
        try:
            read = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            # Locked for another Python or another machine.
            continue
        fields = {key: read[key] for key in ("License-Expression", "License") if key in read}
        stated[canonicalize_name(name)] = licence_of(fields, read.get_all("Classifier") or [])
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for path, package in packages.items():
        if path:
            stated[path.rpartition("node_modules/")[2]] = str(package.get("license") or "unknown")
    return stated


# ---- calls that run, unpack or trust what they read

_FORBIDDEN: Final = frozenset(
    {
        "cloudpickle.load",
        "cloudpickle.loads",
        "dill.load",
        "dill.loads",
        "eval",
        "exec",
        "joblib.load",
        "marshal.load",
        "marshal.loads",
        "os.popen",
        "os.system",
        "pandas.read_pickle",
        "pickle.Unpickler",
        "pickle.load",
        "pickle.loads",
        "shelve.open",
        "ssl._create_unverified_context",
        "tempfile.mktemp",
        "torch.load",
        "yaml.full_load",
        "yaml.load",
        "yaml.unsafe_load",
    }
)
# A keyword with this value makes the call one of them, whatever is called.
_FORBIDDEN_VALUES: Final = frozenset({("shell", True), ("allow_pickle", True), ("verify", False)})


def forbidden_calls(source: str) -> list[tuple[int, str]]:
    """Line and name of each forbidden call in a module.

    Args:
        source: Python.

    Raises:
        SyntaxError: If it is none.
    """
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname or one.name.partition(".")[0]: (one.asname and one.name) or "" for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        first, dot, rest = name.partition(".")
        name = f"{names.get(first) or first}{dot}{rest}"
        if name in _FORBIDDEN:
            found.append((node.lineno, name))
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if isinstance(value, bool) and (keyword.arg, value) in _FORBIDDEN_VALUES:
                found.append((node.lineno, f"{keyword.arg}={value}"))
    return sorted(found)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else f"?.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _call_findings(files: Sequence[str]) -> list[Finding]:
    return [
        Finding("calls", f"{name}:{line}", call, "runs or trusts whatever it is given")
        for name in files
        if name.endswith(".py") and not name.startswith("proto/gen/")
        for line, call in forbidden_calls((ROOT / name).read_text())
    ]


# ---- secrets

_SECRETS: Final[Mapping[str, re.Pattern[str]]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*\n[A-Za-z0-9+/=\s]{64}"),
    "cloud key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "forge token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,}|glpat-[A-Za-z0-9_-]{20})"),
    "registry token": re.compile(r"\b(?:pypi-[A-Za-z0-9_-]{60,}|npm_[A-Za-z0-9]{36})\b"),
    "chat token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}"),
    "signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    "web address with a password": re.compile(
        r"\b[a-z][a-z0-9+.-]{2,20}://[^\s/:@\"'<>{}$]{1,60}:(?!\b(?:password|secret|PASSWORD|key)\b)"
        r"[^\s/:@\"'<>{}$*]{12,}@"
    ),
}
# Where a value stands beside the name of a secret, it is one: in what is deployed, not in code.
_DEPLOYED: Final = re.compile(r"(?:^|/)(?:charts/|docker-compose|\.env)|^deploy/.*\.ya?ml$")
_ASSIGNED: Final = re.compile(
    r"(?im)^[ \t-]*[\w.-]*(?:password|secret_key|access_key|client_secret)[ \t]*[:=][ \t]*"
    r"(?!\"\"|''|[\"']?(?:\$|\{\{|<|changeme|null\b|~|$))[\"']?([^\s\"'#]{6,})"
)


def secrets_in(name: str, text: str) -> list[tuple[int, str]]:
    """Line and kind of each secret in a file.

    Args:
        name: Path in the tree.
        text: What is in it.
    """
    found = [
        (text.count("\n", 0, hit.start()) + 1, kind) for kind, form in _SECRETS.items() for hit in form.finditer(text)
    ]
    if _DEPLOYED.search(name):
        found += [(text.count("\n", 0, hit.start(1)) + 1, "value of a secret") for hit in _ASSIGNED.finditer(text)]
    return sorted(found)


def _secret_findings(files: Sequence[str]) -> list[Finding]:
    found = []
    for name in files:
        data = (ROOT / name).read_bytes()
        if b"\0" in data[:8_000]:
            continue
        for line, kind in secrets_in(name, data.decode("utf-8", "replace")):
            found.append(Finding("secrets", f"{name}:{line}", kind, "must not stand in the tree"))
    return found


# ---- all of it


@dataclass
class Report:
    """What a run found."""

    findings: list[Finding] = field(default_factory=list)
    not_audited: list[str] = field(default_factory=list)


def _files() -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout  # noqa: S603
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def look(audits: Mapping[str, Callable[[], list[Finding]]]) -> Report:
    """Look for everything; the audits run beside the rest, as they wait for an answer most of the time."""
    report = Report()
    with ThreadPoolExecutor(len(audits)) as pool:
        waiting = {name: pool.submit(audit) for name, audit in audits.items()}
        files = _files()
        report.findings += licence_findings(_stated_licences()) + _call_findings(files) + _secret_findings(files)
        for name, audit in waiting.items():
            try:
                report.findings += audit.result()
            except NotAuditedError as error:
                report.not_audited.append(f"{name}: not audited: the service of advisories does not answer ({error})")
    return report


def main() -> int:
    """Check, and say what is wrong."""
    required = os.environ.get("SIGHTLINE_AUDIT", "") == "required"
    try:
        answers = read_answers(ANSWERS.read_text())
    except (OSError, AnswersError) as error:
        sys.stderr.write(f"{ANSWERS.name}: {error}\n")
        return 1
    report = look({"requirements.lock": _audit_python, "package-lock.json": _audit_page})
    audited = set(_FIELDS) - ({"advisories"} if report.not_audited else set())
    wrong = complaints(report.findings, answers, datetime.datetime.now(tz=datetime.UTC).date(), audited)
    for line in report.not_audited:
        sys.stderr.write(f"{line}\n")
    if required:
        wrong += [f"{line}, and SIGHTLINE_AUDIT is required" for line in report.not_audited]
    for line in wrong:
        sys.stderr.write(f"✗ {line}\n")
    if not wrong:
        sys.stdout.write(f"security: {len(report.findings)} findings, each with an answer\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
