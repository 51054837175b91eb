import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from services.cli import app
from services.core.errors import InvalidInputError
from services.core.imaging import encode_png


def run(*arguments: str):
    return CliRunner().invoke(app, ["experiment", "two-stage", *arguments], catch_exceptions=True)


def write(folder: Path, numbers: range, bright: int) -> None:
    folder.mkdir()
    for number in numbers:
        image = np.random.default_rng(number).normal(100, 6, (32, 32, 3))
        image[8:24, 8:24] += bright
        (folder / f"{number}.png").write_bytes(encode_png(image.clip(0, 255).astype(np.uint8)))


def test_a_folder_without_masks_gives_rows_and_a_page_and_is_not_measured_twice(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("services.experiments.two_stage.ALL_IN_ONE", ("patch-knn",))
    write(tmp_path / "good", range(60), 0)
    write(tmp_path / "defect", range(60, 90), 110)
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    told = ["--data", str(tmp_path), "--size", "32", "--features", "pca8", "--classifier", "customnet"]
    told += ["--methods", "gradcam", "--epochs", "1", "--contamination", "0.5", "--engine", "torch"]
    told += ["--detectors", "knn", "--json", str(out)]

    # What torch was left with by others is no condition of the figures.
    torch.set_num_threads(2)
    first = run(*told)
    held = json.loads(out.read_text())
    second = run(*told, "--report", str(page))

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert held["schema"] == 1
    assert {(row["detector"], row["classifier"], row["method"], row["kind"]) for row in held["rows"]} == {
        (*model, kind)
        for model in (("patch-knn", "none", "anomaly-map"), ("knn", "none", "none"), ("knn", "customnet", "gradcam"))
        for kind in ("all", "defect")
    }
    assert all(row["pixel_auroc"]["mean"] is None for row in held["rows"])
    assert all(0 <= row["image_auroc"]["mean"] <= 1 for row in held["rows"])
    assert json.loads(out.read_text()) == held  # times too
    assert "pseudo recall" in page.read_text()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--detectors", "oracle", "patch-knn"),
        ("--methods", "magic", "gradcam"),
        ("--classifier", "lenet", "resnet50"),
        ("--engine", "steam", "torch"),
    ],
)
def test_what_there_is_not_is_refused_with_the_list(option, value, message) -> None:
    found = run("--data", "simulated:thermal", option, value)

    assert isinstance(found.exception, InvalidInputError)
    assert option in str(found.exception)
    assert message in str(found.exception)
