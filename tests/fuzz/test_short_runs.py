"""Every fuzz target for a moment, from its corpus on; what a longer run found stays found."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.core.errors import InvalidInputError
from tests.fuzz import harness
from tests.fuzz.harness import CORPUS, files_of
from tests.fuzz.seeds import TARGETS

ROOT = Path(__file__).parents[2]
#: Inputs a target makes; each is done within 3 s.
RUNS = 1_500


def test_every_target_is_listed_and_has_a_corpus() -> None:
    others = {"__init__", "harness", "message_mutation", "seeds", "test_short_runs"}
    modules = {path.stem for path in Path(__file__).parent.glob("*.py")} - others
    assert modules == set(TARGETS)
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_a_refusal_comes_of_whatever_is_given(name: str, tmp_path: Path) -> None:
    # New inputs go to the first folder, so that the tree stays as it is.
    command = [sys.executable, "-W", "ignore", "-m", f"tests.fuzz.{name}", str(tmp_path), str(CORPUS / name)]
    options = [f"-runs={RUNS}", "-max_total_time=3", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/proto/gen", "OMP_NUM_THREADS": "1"}
    # By way of a shell, which is small: the most memory that a process held is passed on to the program that it
    # becomes, and libFuzzer would take this test run's for the target's.
    ran = subprocess.run(
        ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]


# The encoders of the others write the same picture or detector in another way on another machine.
@pytest.mark.parametrize("name", sorted({*TARGETS} - {"detector_state", "image", "review_mask"}))
def test_what_the_corpus_begins_with_is_in_it(name: str) -> None:
    kept = {path.read_bytes() for path in files_of(CORPUS / name)}
    assert set(importlib.import_module(f"tests.fuzz.{name}").seeds().values()) <= kept


def test_where_atheris_does_not_run_the_corpus_is_replayed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(harness, "_has_atheris", lambda: False)
    monkeypatch.setattr(sys, "argv", ["tests.fuzz.tokens", str(tmp_path), "-runs=5"])
    for data in (b"a", b"b"):
        (tmp_path / data.decode()).write_bytes(data)
    seen: list[bytes] = []
    try:
        harness.run("tokens", seen.append)
    finally:
        logging.disable(logging.NOTSET)
    assert seen == [b"a", b"b"]


def test_only_a_refusal_is_taken_for_one() -> None:
    def raising(error: Exception) -> None:
        raise error

    assert harness.refused(lambda: raising(InvalidInputError("a rule"))) is None
    with pytest.raises(ValueError, match="a finding"):
        harness.refused(lambda: raising(ValueError("a finding")))
