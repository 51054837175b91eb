import json
from functools import partial

import pytest
from typer.testing import CliRunner

from services.cli import app
from services.core.errors import InvalidInputError
from services.experiments import parts


def run(*arguments: str):
    return CliRunner().invoke(app, ["experiment", "detectors", *arguments], catch_exceptions=True)


def test_two_detectors_are_compared_on_simulated_parts_and_kept(tmp_path, monkeypatch) -> None:
    # Small pictures are drawn ten times as fast, and are looked at in 32 pixels anyway.
    monkeypatch.setattr(parts, "draw_part", partial(parts.draw_part, size_px=96))
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    told = ["--data", "simulated:fabric", "--parts", "80", "--size", "32", "--features", "pca8", "--json", str(out)]

    first = run(*told, "--detectors", "hbos")
    assert first.exit_code == 0, first.output
    held = json.loads(out.read_text())["rows"]
    second = run(*told, "--detectors", "hbos,knn", "--report", str(page))
    assert second.exit_code == 0, second.output

    document = json.loads(out.read_text())
    assert [one["detector"] for one in document["rows"]] == ["hbos", "knn"]
    assert document["rows"][:1] == held  # times too: it was not measured again
    assert document["conditions"]["masks"] == 40
    assert 0 <= document["rows"][1]["image_auroc"]["mean"] <= 1
    assert "<svg" in page.read_text()


def test_an_unknown_detector_is_refused_with_the_list() -> None:
    found = run("--data", "simulated:fabric", "--detectors", "hbos,oracle")

    assert isinstance(found.exception, InvalidInputError)
    assert "patch-knn" in str(found.exception)


@pytest.mark.parametrize("features", ["", " , "])
def test_no_features_for_one_of_the_fifteen_are_refused(features) -> None:
    found = run("--data", "simulated:fabric", "--detectors", "hbos", "--features", features)

    assert isinstance(found.exception, InvalidInputError)
