"""``sightline migrate`` on a real PostgreSQL: several at once take turns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


def test_two_at_once_make_the_schemas_once(postgres_url: str, tmp_path: Path) -> None:
    env = {**os.environ, "SIGHTLINE_INDEX__URL": postgres_url, "SIGHTLINE_ACCOUNTS__URL": postgres_url}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "services.cli", "migrate"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = "".join(one.communicate(timeout=120)[0] for one in running)
    assert [one.returncode for one in running] == [0, 0], said
    assert said.count("brought from nothing to") == 2, said
    assert said.count("already") == 2, said
    assert postgres_url.partition("@")[0].rpartition(":")[2] not in said or "***" in said
