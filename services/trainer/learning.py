"""From a live version and a snapshot of people's answers to a candidate version, with what it proved.

See docs/trainer.md, *How a candidate is made*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch

from services.adapters.modelfolder import write_version
from services.core.errors import ConflictError
from services.core.training.peers import ALONE, Peers
from services.core.training_run import CandidateReport, EpochLoss
from services.trainer.fitting import Candidate, Lessons, make_lessons, train_candidate
from services.trainer.lessons import read_answered
from services.trainer.live_version import Backbone, LiveVersion, find_backbone, read_live
from services.trainer.order import CannotLearnError, LearningOrder, LearningProgress
from services.trainer.pictures import AnsweredPictures
from services.trainer.proving import prove


@dataclass(frozen=True, slots=True)
class _Shares:
    """Where the steps of a training begin, as shares of the whole: by how long they take."""

    backbone: float
    reading: float
    lessons: float
    training: float
    proving: float


_HEAD = _Shares(0.0, 0.10, 0.15, 0.60, 0.65)
_EPOCHS = _Shares(0.0, 0.02, 0.04, 0.15, 0.85)


class _Teller:
    """Turns a step's progress into the whole's."""

    def __init__(self, report: Callable[[LearningProgress], None]) -> None:
        self._report = report
        self._now = LearningProgress(0.0, "reading the live version")
        report(self._now)

    def step(self, start: float, end: float, *, evaluating: bool = False) -> Callable[[float, str], None]:
        def tell(share: float, doing: str) -> None:
            self._tell(
                share=max(self._now.share, start + (end - start) * share),
                doing=doing or self._now.doing,
                evaluating=evaluating,
            )

        return tell

    def epochs(self, losses: tuple[EpochLoss, ...]) -> None:
        self._tell(epochs=losses)

    def left_out(self, reasons: dict[str, int]) -> None:
        self._tell(left_out=tuple(sorted(reasons.items())))

    def _tell(self, **changes: object) -> None:
        self._now = replace(self._now, **changes)  # type: ignore[arg-type]
        self._report(self._now)


def learn(
    order: LearningOrder,
    pictures: AnsweredPictures,
    out: Path,
    report: Callable[[LearningProgress], None] = lambda _: None,
    *,
    checkpoint: Path | None = None,
    peers: Peers = ALONE,
    device: str = "",
) -> CandidateReport:
    """Make a candidate and measure it.

    The same order gives the same weights, byte for byte, on a CPU with the same number of threads.

    Args:
        order: What is to be made.
        pictures: What people answered.
        out: Folder of the version; must not exist yet.
        report: Told how far it is.
        checkpoint: File where a training over epochs leaves its state; one that is there is gone on from.
        peers: Processes that train over epochs together; this is the first one, the others :func:`help_to_learn`.
        device: In place of the order's own; empty keeps that.

    Returns:
        What it proved. Cases and reviewers of the answered parts are left empty: a snapshot does not know them.

    Raises:
        CannotLearnError: If nothing can be learnt from this order; the message says what to do.
        ConflictError: If ``out`` exists.
        InvalidInputError: If the base set has too few calibration parts for the promise, or the hold-out has one class.
        ModelFormatError: If the live version's folder is damaged.
        DivergedError: If the loss becomes NaN or infinite.
        UnavailableError: If the record does not answer.
    """
    if out.exists():
        raise ConflictError(f"a version's folder must not exist yet, got {out}")
    shares = _EPOCHS if order.settings.needs_pictures else _HEAD
    teller = _Teller(report)
    made = _train(order, pictures, shares, teller, checkpoint, peers, device)
    tell = teller.step(shares.proving, 0.99, evaluating=True)
    proved, version = prove(order, made.live, made.backbone, made.candidate, made.lessons, pictures, tell)
    write_version(version, out)
    teller.step(shares.proving, 1.0, evaluating=True)(1.0, "done")
    return proved


def help_to_learn(
    order: LearningOrder, pictures: AnsweredPictures, checkpoint: Path | None, peers: Peers, device: str
) -> None:
    """Train a candidate together with the process that :func:`learn` runs in, and leave the rest to that.

    Takes and raises what :func:`learn` does; must be given the same.
    """
    shares = _EPOCHS if order.settings.needs_pictures else _HEAD
    _train(order, pictures, shares, _Teller(lambda _: None), checkpoint, peers, device)


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    live: LiveVersion
    backbone: Backbone
    lessons: Lessons
    candidate: Candidate


def _train(
    order: LearningOrder,
    pictures: AnsweredPictures,
    shares: _Shares,
    teller: _Teller,
    checkpoint: Path | None,
    peers: Peers,
    device: str,
) -> _Made:
    settings = order.settings
    # OpenCV's own threads would only wait for those of torch.
    cv2.setNumThreads(1)
    torch.set_num_threads(settings.threads)
    if not order.snapshot.items:
        raise CannotLearnError(
            "a snapshot must have a picture to learn from, got none: no answer stands of which somebody was sure",
            "nothing_to_learn",
        )
    live = read_live(order)
    backbone = find_backbone(live, order, pictures)
    tell = teller.step(shares.reading, shares.lessons)
    tell(0.0, f"reading {len(order.snapshot.items)} answered pictures")
    readings = read_answered(
        order.snapshot.items, pictures, live.manifest.preprocessing, settings, lambda share: tell(share, "")
    )
    teller.left_out(dict(readings.left_out))
    if not readings.answered:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(readings.left_out.items()))
        raise CannotLearnError(f"a picture that can be used is needed to learn from, got {reasons}", "nothing_to_learn")
    tell = teller.step(shares.lessons, shares.training)
    lessons = make_lessons(readings.answered, live, backbone, settings, pictures, tell)
    tell = teller.step(shares.training, shares.proving)
    tell(0.0, "fitting the last layer")
    candidate = train_candidate(
        lessons,
        live,
        backbone,
        settings,
        pictures,
        tell,
        checkpoint=checkpoint,
        on_epochs=teller.epochs,
        peers=peers,
        device=device,
    )
    return _Made(live, backbone, lessons, candidate)
