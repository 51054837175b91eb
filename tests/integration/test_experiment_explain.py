"""The command as a person calls it, in a process of its own: data in, figures and page out."""

import json
import os
import subprocess
import sys

import pytest

from services.adapters.datasets import write_labelled_folder
from services.core.simulation.line import draw_part

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "experiment", "explain", "--threads", "1", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("discs")
    parts = [draw_part("disc", n, defect="missing_hole" if n % 2 else None, size_px=128) for n in range(30)]
    write_labelled_folder(parts, root)
    return root


def test_an_experiment_on_a_folder_writes_every_row_with_intervals_and_repeats_itself(folder, tmp_path) -> None:
    def once(name: str) -> dict:
        out = tmp_path / f"{name}.json"
        done = run(
            *("--data", str(folder), "--methods", "rise-centred,gradcam", "--model", "EfficientNet-Lite0"),
            *("--epochs", "0", "--size", "96", "--passes", "32", "--limit", "3", "--explained", "all", "--sheet", "1"),
            *("--seeds", "1", "--json", str(out), "--report", str(tmp_path / f"{name}.html")),
        )
        assert done.returncode == 0, done.stderr
        return json.loads(out.read_text())

    first, second = once("first"), once("second")

    assert first["schema"] == 1
    assert [row["method"] for row in first["rows"]] == ["rise-centred", "gradcam", "contrast", "centre"]
    for row in first["rows"]:
        assert row["n"] == 3
        assert row["model"] == "efficientnet-lite0"
        assert 0 <= row["model_accuracy"] <= 1
        for name in ("dice", "jaccard", "hit_accuracy", "pixel_auroc", "deletion_auc", "insertion_auc"):
            assert row[name]["low"] <= row[name]["mean"] <= row[name]["high"]
        assert row["seconds_per_image"]["mean"] >= 0
    assert first["rows"][0]["passes_per_image"]["mean"] == 32
    for row in (*first["rows"], *second["rows"]):
        del row["seconds_per_image"]
    assert first["rows"] == second["rows"]
    page = (tmp_path / "first.html").read_text()
    assert "data:image/jpeg;base64," in page
    assert 'src="http' not in page


def test_a_wrong_argument_is_one_clear_line(tmp_path) -> None:
    for arguments, expected in (
        (("--data", str(tmp_path / "nowhere")), "must exist"),
        (("--data", "simulated:disc", "--methods", "magic"), "magic"),
        (("--data", "simulated:disc", "--preset", "table9"), "table1"),
        (("--data", "simulated:disc", "--model", "lenet"), "lenet"),
    ):
        done = run(*arguments)
        assert done.returncode == 1
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
