"""The process that trains, started, killed and gone on with, on a real object store."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from services.adapters.connection import StoreConnection
from services.adapters.modelfolder import read_weights, verify_version
from services.adapters.objectstore import S3ObjectStore
from services.core.training.finetune import DivergedError
from services.core.training_run import Recipe
from services.trainer import work
from services.trainer.order import LearningOrder, LearningProgress, LearningSettings
from services.trainer.worker import TrainingFailedError, Worker, WorkerSettings
from tests.support.tiny_line import SETTINGS, TinyLine, answer, snapshot, write_live

pytestmark = pytest.mark.integration

#: Long enough that a signal after the first epoch comes before the last: answered pictures are shown many times.
EPOCHS = 10
FINETUNE = replace(
    SETTINGS,
    recipe=Recipe.FINETUNE,
    answer_weight=40.0,
    finetune=replace(SETTINGS.finetune, epochs=EPOCHS, patience=EPOCHS),
)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> TinyLine:
    return write_live(tmp_path_factory.mktemp("line") / "1")


@pytest.fixture(autouse=True)
def environment(object_store_connection: StoreConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("endpoint", "bucket", "access_key", "secret_key"):
        monkeypatch.setenv(f"SIGHTLINE_OBJECT_STORE__{name.upper()}", str(getattr(object_store_connection, name)))


@pytest.fixture
def order(line: TinyLine, object_store_connection: StoreConnection) -> Callable[[LearningSettings], LearningOrder]:
    items = [answer(line, "spot", seed) for seed in range(6)]
    line.pictures.upload(S3ObjectStore(object_store_connection))
    return lambda settings: LearningOrder("default", 2, line.folder, snapshot(items), settings)


def children() -> Iterator[psutil.Process]:
    """Processes that train now; one that has just ended, or that was never ours to ask, is none."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "services.trainer.work" in child.cmdline():
                yield child


def never() -> bool:
    return False


@pytest.mark.timeout(900)
def test_a_training_that_is_killed_in_mid_epoch_ends_with_the_weights_it_would_have_had(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    asked = order(FINETUNE)
    whole = Worker().run(tmp_path / "whole", asked, lambda _: None, never)
    assert verify_version(tmp_path / "whole" / work.VERSION).version == 2
    # NaN, of what was not measured, is equal to nothing.
    assert repr(work.read_report(tmp_path / "whole")) == repr(whole)

    def kill_in_second_epoch(progress: LearningProgress) -> None:
        # The first epoch is told before its state is kept.
        end_s = time.monotonic() + 30
        while progress.epochs and time.monotonic() < end_s:
            if (tmp_path / "killed" / work.CHECKPOINT).is_file():
                for child in children():
                    child.send_signal(signal.SIGTERM)
                return
            time.sleep(0.005)

    with pytest.raises(TrainingFailedError, match="ended with 143") as caught:
        Worker().run(tmp_path / "killed", asked, kill_in_second_epoch, never)
    assert caught.value.reason == "trainer_child_died"
    told: list[LearningProgress] = []
    Worker().run(tmp_path / "killed", asked, told.append, never)
    assert [one.epoch for one in told[-1].epochs] == list(range(1, EPOCHS + 1))
    versions = [tmp_path / name / work.VERSION for name in ("whole", "killed")]
    assert read_weights(versions[0]) == read_weights(versions[1])
    # What is done is taken as it is.
    again: list[LearningProgress] = []
    Worker().run(tmp_path / "killed", asked, again.append, never)
    assert again == []


def test_two_processes_train_a_candidate_together_and_its_report_is_one(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    few = replace(FINETUNE, answer_weight=4.0, finetune=replace(FINETUNE.finetune, epochs=2))
    told: list[LearningProgress] = []
    report = Worker(WorkerSettings(processes=2)).run(tmp_path / "run", order(few), told.append, never)
    assert verify_version(tmp_path / "run" / work.VERSION).version == 2
    assert report.holdout_parts > 0
    assert [one.epoch for one in told[-1].epochs] == [1, 2]
    assert [one.share for one in told] == sorted(one.share for one in told), "one of them tells"


def test_processes_that_train_together_refuse_with_the_reason_that_one_would_give(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    settings = replace(FINETUNE, finetune=replace(FINETUNE.finetune, learning_rate=1e30))
    with pytest.raises(DivergedError, match="must stay finite"):
        Worker(WorkerSettings(processes=2)).run(tmp_path / "run", order(settings), lambda _: None, never)


def test_a_training_that_does_not_fit_into_memory_is_tried_with_half_the_batch_and_told(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    # The first layer's answer to so many pictures takes 1.3 GB, to half of them what is left beside the libraries.
    huge = replace(FINETUNE, answer_weight=8_000.0, finetune=replace(FINETUNE.finetune, batch_size=20_000))
    worker = Worker(WorkerSettings(memory_bytes=1_000_000_000))
    with pytest.raises(TrainingFailedError, match="with batches of 10000 pictures either") as caught:
        worker.run(tmp_path / "run", order(huge), lambda _: None, never)
    assert caught.value.reason == "out_of_memory"
    assert not (tmp_path / "run" / work.VERSION).exists()


def test_a_cancelled_training_ends_at_once_and_leaves_no_process(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    told: list[LearningProgress] = []
    with pytest.raises(TrainingFailedError, match="cancelled") as caught:
        Worker().run(tmp_path / "run", order(FINETUNE), told.append, lambda: bool(told))
    assert caught.value.reason == "cancelled"
    assert list(children()) == []
    assert not (tmp_path / "run" / work.REPORT).exists()


def test_a_loss_that_diverges_is_told_as_such(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    settings = replace(FINETUNE, finetune=replace(FINETUNE.finetune, learning_rate=1e30))
    with pytest.raises(DivergedError, match="must stay finite"):
        Worker().run(tmp_path / "run", order(settings), lambda _: None, never)


def test_the_process_ends_with_whoever_started_it(
    order: Callable[[LearningSettings], LearningOrder], tmp_path: Path
) -> None:
    work.write_order(tmp_path / "run", order(replace(FINETUNE, finetune=replace(FINETUNE.finetune, epochs=5_000))))
    child = subprocess.Popen(
        [sys.executable, "-m", "services.trainer.work", str(tmp_path / "run"), "--with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ),
    )
    try:
        assert child.stdout is not None
        assert child.stdin is not None
        assert b'"doing"' in child.stdout.readline()
        child.stdin.close()
        assert child.wait(60) == work.TERMINATED
    finally:
        child.kill()
        child.stdout.close()
