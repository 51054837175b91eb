"""The benchmark of backups, run small: that it works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import backup

pytestmark = [pytest.mark.integration]


def test_a_bucket_is_saved_emptied_and_restored_while_it_is_timed(tmp_path: Path) -> None:
    out = tmp_path / "backup.json"
    assert backup.main(["--cases", "20", "--weights-bytes", "100000", "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [result[step]["objects"] for step in ("first", "again", "check", "restore")] == [48] * 4
    assert [result[step]["moved_objects"] for step in ("first", "again", "restore")] == [48, 0, 48]
