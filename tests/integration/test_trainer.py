"""The trainer as a process: a real broker and store, a feedback service that takes answers, and a child that learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters.kafka import KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.trainerclient import TrainerClient
from services.core import alias as transitions
from services.core import topics
from services.core.errors import NotFoundError, PreconditionError
from services.core.review import Answer
from services.core.training_run import RunOutcome, RunStage, RunTrigger, TrainingRun
from services.core.types import Verdict
from services.local.member import Member, metric_total
from services.local.process import free_port
from tests.integration.test_feedback import Plant, answer, wait_for
from tests.support.tiny_line import write_live

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


class TrainingPlant(Plant):
    """Servers, a feedback service and a trainer, on an alias whose version was fitted on a few grey pixels."""

    def start(self) -> None:
        super().start()
        live = write_live(self.folder / "made")
        live.pictures.upload(self.store)
        ModelStore(self.store).upload(live.folder)
        registry = ModelRegistry(KafkaTopicReader(self.servers.kafka, [topics.MODELS]), self.writer)
        registry.change("default", lambda now: transitions.add(now, 1, actor="mira", at_ns=1))
        registry.change("default", lambda now: transitions.promote(now, 1, actor="mira", at_ns=2))
        registry.close()
        self.trainer_port = free_port()
        own = {
            "GRPC__PORT": str(self.trainer_port),
            "WORK": str(self.folder / "training"),
            "TRIGGERS__AFTER_REVIEWS": "2",
            "TRIGGERS__MIN_INTERVAL_S": "0",
            "GATES__MAX_MCC_FALL": "2",
            "GATES__MAX_MORE_ESCAPES": "100",
            # No detector scores here.
            "IN_SHADOW__ON": "false",
            "WATCH__S": "1",
            "PROMOTE_ITSELF": "true",
            "LEASE_S": "2",
        }
        self.trainer = Member("trainer", {**self.servers.settings(), **own}, logs=self.folder / "logs")
        self.trainer.start()
        wait_for("the trainer", self.trainer.ready)
        self.trainers = TrainerClient(f"127.0.0.1:{self.trainer_port}")

    def stop(self) -> None:
        self.trainers.close()
        self.trainer.process.stop(20)
        super().stop()

    def correct(self, number: int) -> None:
        """Let a person say that case ``number`` is good."""
        case = self.queued(self.explain(number))
        wrong = {"verdict_right": Answer.NO, "reason_right": Answer.NOT_ASKED, "corrected_verdict": Verdict.PASS}
        self.client.submit(answer(case, **wrong), b"")

    def begin_again(self) -> None:
        """Kill the trainer and start it anew."""
        self.trainer.process.kill()
        self.trainer.start()
        wait_for("its return", self.trainer.ready)

    def training(self) -> TrainingRun:
        """The newest run, once its child was started."""

        def looked() -> TrainingRun | None:
            runs = self.trainers.list_runs().runs
            return next((run for run in runs if run.stage is RunStage.TRAINING and run.attempts), None)

        return wait_for("a training", looked, 120)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[TrainingPlant]:
    made = TrainingPlant(tmp_path)
    made.start()
    yield made
    made.stop()


def test_answers_become_a_version_that_decides_although_the_trainer_is_killed(plant: TrainingPlant) -> None:
    # Parts whose numbers are not those of the hold-out.
    plant.correct(1_001)
    plant.begin_again()
    plant.correct(1_002)
    # The answer before the restart counts; the training is under way when its trainer is killed once more.
    run = plant.training()
    pid = plant.trainer.process.pid
    assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
    plant.begin_again()
    stages = [one.stage for one in plant.trainers.watch_run(run.run_id, timeout_s=200)]
    assert stages[-1] is RunStage.ENDED
    run = plant.trainers.get_run(run.run_id)
    assert (run.trigger, run.outcome, run.candidate_version) == (RunTrigger.REVIEWS, RunOutcome.PROMOTED, 2), run.detail
    assert run.attempts == 2
    assert run.snapshot is not None
    assert (run.snapshot.parts, run.snapshot.reviews, run.authors) == (2, 2, ("ada",))
    assert run.report is not None
    assert {reviewer for part in run.report.answered for reviewer in part.reviewers} == {"ada"}
    assert all(part.case_ids for part in run.report.answered)
    assert plant.store.exists(f"training/snapshots/{run.snapshot.digest}.json")
    assert ModelStore(plant.store).versions("default") == (1, 2)
    # What was learnt from does not count again.
    assert plant.trainers.list_runs(alias="default").new_reviews == {"default": 0}
    compared = plant.trainers.compare_versions("default", 1, 2)
    assert (compared.live_version, compared.candidate, compared.holdout_parts) == (
        1,
        run.report.candidate,
        run.report.holdout_parts,
    )
    assert plant.trainers.roll_back("default", "mira", note="a try").live_version == 1
    with pytest.raises(PreconditionError):
        plant.trainers.promote("default", 1, "mira")
    with pytest.raises(NotFoundError):
        plant.trainers.compare_versions("default", 1, 3)
    assert metric_total(plant.trainer.metrics(), "sightline_trainer_calls_total") > 0
    # It drains and leaves with 0.
    assert plant.trainer.process.stop(25)
    assert plant.trainer.process.returncode == 0
