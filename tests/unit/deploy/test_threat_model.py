"""The threat model points at what is there: code, tests, settings and fuzz targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.fuzz.seeds import TARGETS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "threat-model.md"
TEXT = PAGE.read_text()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:services|tests|deploy|docs)/[\w./-]+\.\w+)`", TEXT))))
def test_what_it_points_at_is_there(path: str) -> None:
    assert (ROOT / path).is_file()


def test_its_links_lead_somewhere() -> None:
    for page in (PAGE, ROOT / "docs" / "security.md", ROOT / "SECURITY.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


def test_it_lists_every_fuzz_target_and_no_other() -> None:
    table = TEXT.partition("## Parsers of outside bytes")[2].partition("## What remains")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(TARGETS)
    named = {
        one for found in re.findall(r"fuzz targets? ((?:`\w+`(?:, )?)+)", TEXT) for one in re.findall(r"\w+", found)
    }
    assert named <= set(TARGETS)


@pytest.mark.parametrize("group", ["web", "limits", "grpc", "kafka", "pictures", "explainer", "exports", "trainer"])
def test_the_settings_that_it_names_as_limits_are_settings(group: str) -> None:
    table = TEXT.partition("## Limits")[2].partition("## Parsers")[0]
    written = (ROOT / "docs" / "settings.md").read_text()
    names = set(re.findall(rf"`{group}\.(\w+)`", table))
    assert names
    for name in names:
        assert f"SIGHTLINE_{group.upper()}__{name.upper()}" in written
