"""A whole line of its own, and an account of every frame that went into it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from services.core.simulation.line import draw_part

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SIGHTLINE = str(Path(sys.executable).with_name("sightline"))
KEYS = {
    "frames_in",
    "verdicts",
    "lost",
    "duplicates",
    "dead_lettered",
    "cases",
    "explained",
    "frames_per_s",
    "startup_s",
}


def environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary)}


def smoke(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, float], str]:
    done = subprocess.run(
        [SIGHTLINE, "smoke", "--json", *arguments],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=360,
        check=False,
    )
    assert done.stdout.strip(), done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_every_simulated_frame_gets_one_verdict(tmp_path: Path) -> None:
    code, found, told = smoke(tmp_path, "--frames", "60")
    assert set(found) >= KEYS
    assert (found["frames_in"], found["verdicts"]) == (60, 60), told
    assert (found["lost"], found["duplicates"], found["dead_lettered"]) == (0, 0, 0), told
    assert 0 <= found["cases"] <= 60
    assert found["explained"] == found["cases"], told
    assert found["frames_per_s"] > 0
    assert found["startup_s"] > 0
    assert code == 0
    assert list(tmp_path.iterdir()) == [], "the data must be removed"


def test_each_file_of_a_folder_comes_out_once_also_what_is_no_image(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "deeper").mkdir(parents=True)
    for number in range(5):
        part = draw_part("disc", seed=number)
        cv2.imwrite(str(folder / f"part-{number}.png"), cv2.cvtColor(part.image, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "deeper" / "grey.jpg"), np.full((90, 120), 127, np.uint8))
    whole = (folder / "part-0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("shift 2, line 4")
    (folder / "empty.jpg").touch()
    (folder / ".hidden.png").write_bytes(whole)
    code, found, told = smoke(tmp_path, "--source", str(folder))
    assert (found["frames_in"], found["verdicts"], found["dead_lettered"]) == (9, 6, 3), told
    assert (found["lost"], found["duplicates"]) == (0, 0), told
    assert found["explained"] == found["cases"] >= 3, "what no model could look at is a case too"
    assert code == 0


def test_an_interrupted_smoke_leaves_no_process_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [SIGHTLINE, "smoke", "--frames", "100000"], stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    )
    assert process.stderr is not None
    end_s = time.monotonic() + 180
    while time.monotonic() < end_s and "frames" not in process.stderr.readline():
        pass
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 6
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(60) == 130
    process.stderr.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
