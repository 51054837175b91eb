"""The YAML file of the settings: every mistake is told as one, with no secret in it."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

from tests.fuzz.harness import cut, instrumented, run

with instrumented(__name__):
    from services.core.errors import SettingsError
    from services.dashboard.settings import DashboardSettings
    from services.ingest.settings import IngestSettings
    from services.outcome.settings import OutcomeSettings
    from services.runtime.settings import ServiceSettings, load_settings, masked

NAME = "settings_file"
#: New ones go to the end.
SERVICES: Final[tuple[type[ServiceSettings], ...]] = (DashboardSettings, IngestSettings, OutcomeSettings)


def check(data: bytes) -> None:
    which, body = cut(data, len(SERVICES))
    path = _folder() / "settings.yaml"
    path.write_bytes(body)
    os.environ["SIGHTLINE_CONFIG"] = str(path)
    try:
        masked(load_settings(SERVICES[which]))
    except SettingsError:
        return
    finally:
        del os.environ["SIGHTLINE_CONFIG"]


@cache
def _folder() -> Path:
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="sightline-fuzz-", dir=place))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def seeds() -> dict[str, bytes]:
    kafka = "kafka:\n  bootstrap_servers: kafka:9092\n  sasl_password: secret\n"
    return {
        "dashboard": b"\x00" + f"{kafka}web:\n  mode: network\nsign_in:\n  method: local\n".encode(),
        "ingest": b"\x01" + f"{kafka}limits:\n  max_image_bytes: 1000\n".encode(),
        "outcome": b"\x02" + f"{kafka}lines:\n  - line_id: line-1\n    cameras: [a, b]\n".encode(),
        "deep": b"\x00" + b"[" * 2_000,
        "list": b"\x00" + b"- kafka",
        "numbers": b"\x00" + b"1: 2\n",
        "anchors": b"\x00" + b"a: &a [1, 2]\nb: [*a, *a]\n",
    }


if __name__ == "__main__":
    sys.exit(run(NAME, check))
