"""What a candidate proves: on the frozen hold-out beside the live version, and on what people answered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.adapters.modelfolder import BasePart, HoldoutPart, ModelVersion, Reference, code_version
from services.core.calibration import Promise, calibrate
from services.core.decision import decide
from services.core.errors import InvalidInputError
from services.core.evaluation.report import evaluate
from services.core.explain.overlap import dice
from services.core.manifest import GOOD, Calibration, Lineage, Metric, ModelManifest
from services.core.models.classifier import Classifier
from services.core.models.state import save_state
from services.core.promotion import HoldoutAnswers, judge_candidate
from services.core.simulation.drawing import is_drawn
from services.core.training.head import LinearHead
from services.core.training_run import AnsweredPart, CandidateReport, Confusion, FlippedPart, Recipe
from services.core.types import OperatingPoint, Verdict
from services.trainer.fitting import Candidate, Lessons
from services.trainer.lessons import prepared_region
from services.trainer.live_version import Backbone, LiveVersion, whole_picture
from services.trainer.networks import AnsweringNetwork, map_of, points_into
from services.trainer.order import LearningOrder, LearningSettings
from services.trainer.pictures import AnsweredPictures, part_picture

Tell = Callable[[float, str], None]

_RESAMPLES: Final = 500
_LATENCY_PICTURES: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Embeddings by one network.

    Attributes:
        network: The network.
        head: Its last layer.
        calibration: Of the base's calibration parts; empty of a network that is not calibrated here.
        holdout: Of the hold-out.
    """

    network: AnsweringNetwork
    head: LinearHead
    calibration: NDArray[np.float32]
    holdout: NDArray[np.float32]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Of the hold-out."""
        return self.head.scores(self.holdout)


def see(
    model: Classifier,
    head: LinearHead,
    live: LiveVersion,
    settings: LearningSettings,
    pictures: AnsweredPictures,
    *,
    frozen: bool,
    calibrates: bool,
    network: AnsweringNetwork | None = None,
) -> Seen:
    """Get a network's embeddings of what it is measured on.

    Args:
        model: The network.
        head: Its last layer.
        live: Brings base set and hold-out.
        settings: Threads and device.
        pictures: Where parts that cannot be drawn lie.
        frozen: Whether its features are the frozen backbone's: then the embeddings on record are its own.
        calibrates: Whether the calibration parts are asked for.
        network: The same, ready to answer; made here without one.

    Raises:
        NotFoundError: If a picture is needed and cannot be had.
    """
    preprocessing = live.manifest.preprocessing
    if network is None:
        network = AnsweringNetwork(model, preprocessing, settings.threads, settings.finetune.device)
    calibration, holdout = live.rows("calibration"), live.rows("holdout")
    base = live.base
    if frozen:
        return Seen(network, head, base.embeddings[calibration], base.embeddings[holdout])

    def embed(parts: Sequence[BasePart | HoldoutPart]) -> NDArray[np.float32]:
        rows = [network.embed(whole_picture(part_picture(part, pictures)[0], live)[np.newaxis]) for part in parts]
        return np.concatenate(rows) if rows else base.embeddings[:0]

    of_calibration = embed([base.parts[row] for row in calibration]) if calibrates else base.embeddings[:0]
    return Seen(network, head, of_calibration, embed(live.holdout.parts))


def choose_point(seen: Seen, live: LiveVersion) -> tuple[OperatingPoint, Calibration]:
    """Cut the candidate's scores so that the promise of the live version holds.

    On the base's calibration parts alone. What people answered is left out: it was shown to them for being doubtful, so
    it is no sample of the line's parts, and the candidate was trained on it, so its scores are better than those of
    parts to come. A threshold cut on it would promise what does not hold.

    Raises:
        InvalidInputError: If there are too few parts for the promise.
    """
    known = live.manifest.calibration
    promise = Promise(known.rule, known.target, known.other_target, known.confidence)
    defective = np.array([live.base_labels[row] != GOOD for row in live.rows("calibration")], np.bool_)
    scores = seen.head.scores(seen.calibration)
    return calibrate(scores[~defective], scores[defective], promise)


def figures(scores: NDArray[np.float64], live: LiveVersion, point: OperatingPoint, seed: int) -> dict[str, Metric]:
    """Measure the hold-out as a whole, and product by product where a product has both kinds of parts."""
    parts = live.holdout.parts
    defective = live.holdout_defective
    products = np.array([part.product for part in parts])
    names = sorted(set(products.tolist()))
    found: dict[str, Metric] = {}
    for product in ("", *names):
        rows = np.flatnonzero(products == product) if product else np.arange(len(parts))
        if defective[rows].all() or not defective[rows].any():
            continue
        ids = [parts[row].part_id for row in rows]
        measured = evaluate(scores[rows], defective[rows], ids, point, seed, _RESAMPLES)
        found |= {f"{name}.{product}" if product else name: value for name, value in measured.items()}
    return found


def prove(
    order: LearningOrder,
    live: LiveVersion,
    backbone: Backbone,
    candidate: Candidate,
    lessons: Lessons,
    pictures: AnsweredPictures,
    tell: Tell,
) -> tuple[CandidateReport, ModelVersion]:
    """Measure a candidate, and put its version together.

    Args:
        order: What was asked for.
        live: What it has to beat.
        backbone: The frozen one.
        candidate: The network.
        lessons: What it was taught.
        pictures: Where parts that cannot be drawn lie.
        tell: Told how far it is.

    Returns:
        The report, and the version, ready to be written.

    Raises:
        InvalidInputError: If there are too few calibration parts for the live version's promise, or the hold-out has
            good or defective parts only.
    """
    settings = order.settings
    tell(0.0, "calibrating")
    model = candidate.model
    now = see(model, candidate.head, live, settings, pictures, frozen=not candidate.features_trained, calibrates=True)
    before = see(
        live.model,
        live.head,
        live,
        settings,
        pictures,
        frozen=backbone.is_live,
        calibrates=False,
        network=backbone.network if backbone.is_live else None,
    )
    point, calibration = choose_point(now, live)
    tell(0.2, "looking where both versions look")
    overlaps = _overlaps((live.model, model), live, settings, pictures, lambda share: tell(0.2 + 0.4 * share, ""))
    tell(0.6, "measuring the time of single answers")
    waiting = _waiting_pictures(live, lessons)
    answers = [
        HoldoutAnswers(
            [part.part_id for part in live.holdout.parts],
            live.holdout_defective,
            seen.scores,
            at,
            promised,
            overlap,
            seen.network.latency_ms(waiting, settings.latency_answers),
        )
        for seen, at, promised, overlap in (
            (before, live.manifest.operating_point, live.manifest.calibration, overlaps[0]),
            (now, point, calibration, overlaps[1]),
        )
    ]
    promotion = judge_candidate(answers[0], answers[1], settings.gates, settings.seed)
    tell(0.7, "asking about the answered pictures")
    answered = _answered(lessons, candidate, now, point, lambda share: tell(0.7 + 0.25 * share, ""))
    tell(0.95, "putting the version together")
    report = CandidateReport(
        live_version=live.manifest.version,
        promotion=promotion,
        live=_confusion(answers[0]),
        candidate=_confusion(answers[1]),
        flips=_flips(live.holdout.parts, answers[0], answers[1]),
        answered=answered,
        train_parts=len(live.rows("train")) + len(lessons.owner),
        lessons=len(lessons.owner),
        holdout_parts=len(live.holdout.parts),
    )
    metrics = figures(now.scores, live, point, settings.seed)
    manifest = _manifest(order, live, candidate, lessons, (point, calibration), metrics)
    return report, ModelVersion(
        manifest,
        save_state(model),
        live.holdout,
        _reference(live, candidate, now),
        training=live.base,
    )


def _overlaps(
    models: tuple[Classifier, Classifier],
    live: LiveVersion,
    settings: LearningSettings,
    pictures: AnsweredPictures,
    progress: Callable[[float], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dice of each version's maps with the true masks, where they are known: of drawn parts, some, evenly chosen."""
    parts = live.holdout.parts
    found = np.full((2, len(parts)), np.nan)
    masked = [row for row, part in enumerate(parts) if part.label != GOOD and is_drawn(part.source)]
    count = min(settings.max_maps, len(masked))
    for at in range(count):
        row = masked[at * len(masked) // count]
        encoded, mask = part_picture(parts[row], pictures)
        if mask is not None and mask.any():
            image = whole_picture(encoded, live)
            region = prepared_region(mask, live.manifest.preprocessing)
            found[:, row] = [dice(map_of(model, image), region) for model in models]
        progress((at + 1) / count)
    return found[0], found[1]


def _waiting_pictures(live: LiveVersion, lessons: Lessons) -> list[NDArray[np.uint8]]:
    names = live.reference.files[:_LATENCY_PICTURES]
    found = [whole_picture(live.reference.images[name], live) for name in names]
    return found or [one.image for one in lessons.answered[:_LATENCY_PICTURES]]


def _verdicts(answers: HoldoutAnswers) -> list[Verdict]:
    return [decide(float(score), answers.operating_point).verdict for score in answers.scores]


def _confusion(answers: HoldoutAnswers) -> Confusion:
    said = list(zip(answers.defective.tolist(), _verdicts(answers), strict=True))
    return Confusion(
        *(
            said.count((kind, verdict))
            for kind in (False, True)
            for verdict in (Verdict.PASS, Verdict.REVIEW, Verdict.FAIL)
        )
    )


def _flips(parts: Sequence[HoldoutPart], live: HoldoutAnswers, candidate: HoldoutAnswers) -> tuple[FlippedPart, ...]:
    """What comes out otherwise: new escapes first, then new false rejects, what became better last."""
    flips = [
        FlippedPart(
            part.part_id, part.product, part.label, before, after, float(live.scores[row]), float(candidate.scores[row])
        )
        for row, (part, before, after) in enumerate(zip(parts, _verdicts(live), _verdicts(candidate), strict=True))
        if before is not after
    ]
    return tuple(sorted(flips, key=lambda one: (-_worsening(one), one.part_id)))


def _worsening(flip: FlippedPart) -> float:
    defective = flip.label != GOOD
    cost = (
        {Verdict.PASS: 3.0, Verdict.REVIEW: 1.0, Verdict.FAIL: 0.0}
        if defective
        else {Verdict.PASS: 0.0, Verdict.REVIEW: 1.0, Verdict.FAIL: 2.0}
    )
    return cost[flip.after] - cost[flip.before]


def _answered(
    lessons: Lessons, candidate: Candidate, seen: Seen, point: OperatingPoint, progress: Callable[[float], None]
) -> tuple[AnsweredPart, ...]:
    """Whether the candidate does as people said; cases and names are told by whoever knows the answers."""
    if candidate.features_trained:
        embeddings = seen.network.embed(np.stack([one.image for one in lessons.answered]))
    else:
        embeddings = lessons.own_embeddings
    scores = seen.head.scores(embeddings)
    told = []
    for at, (one, score) in enumerate(zip(lessons.answered, scores.tolist(), strict=True)):
        item, verdict = one.item, decide(score, point).verdict
        drawn = one.drawn and item.label != GOOD
        told.append(
            AnsweredPart(
                image_sha256=item.image_sha256,
                part_id=item.part_id,
                review_ids=item.review_ids,
                label=item.label,
                verdict=verdict,
                score=score,
                verdict_corrected=item.verdict_wrong,
                verdict_right=(verdict is Verdict.PASS) == (item.label == GOOD),
                region_corrected=drawn,
                region_right=drawn and points_into(map_of(candidate.model, one.image), one.region),
            )
        )
        progress((at + 1) / len(lessons.answered))
    return tuple(sorted(told, key=lambda one: (one.is_honoured, one.part_id, one.image_sha256)))


def _reference(live: LiveVersion, candidate: Candidate, seen: Seen) -> Reference:
    """The live version's reference parts with what the candidate says of them."""
    known = {part.sha256: row for row, part in enumerate(live.holdout.parts)}
    rows = []
    for name in live.reference.files:
        row = known.get(hashlib.sha256(live.reference.images[name]).hexdigest())
        if row is not None:
            rows.append(seen.holdout[row])
        else:
            rows.append(seen.network.embed(whole_picture(live.reference.images[name], live)[np.newaxis])[0])
    embeddings = np.stack(rows) if rows else np.empty((0, candidate.model.embedding_size), np.float32)
    return replace(
        live.reference,
        scores=seen.head.scores(embeddings).astype(np.float32),
        embeddings=embeddings.astype(np.float16),
    )


def _manifest(
    order: LearningOrder,
    live: LiveVersion,
    candidate: Candidate,
    lessons: Lessons,
    calibrated: tuple[OperatingPoint, Calibration],
    metrics: dict[str, Metric],
) -> ModelManifest:
    parent, settings = live.manifest, order.settings
    drawn_weights = parent.lineage.backbone_weights in ("", "none")
    how = "last convolutions and last layer" if settings.recipe is Recipe.FINETUNE else "frozen backbone, linear layer"
    return replace(
        parent,
        alias=order.alias,
        version=order.version,
        classes=candidate.classes,
        operating_point=calibrated[0],
        calibration=calibrated[1],
        lineage=Lineage(
            source="reviews",
            description=(
                f"{len(live.rows('train'))} base parts and {len(lessons.answered)} answered pictures with "
                f"{len(lessons.owner) - len(lessons.answered)} refutations; {how}, {settings.loss.value}"
            ),
            # Weights that were drawn come out of this seed again when the next candidate is made.
            seed=parent.lineage.seed if drawn_weights else settings.seed,
            n_train=len(live.rows("train")) + len(lessons.answered),
            n_calibration=len(live.rows("calibration")),
            n_holdout=len(live.holdout.parts),
            data_sha256=_digest(live, order.snapshot.digest),
            parent=f"{parent.alias}-v{parent.version}",
            backbone_weights=parent.lineage.backbone_weights,
        ),
        metrics=metrics,
        code_version=code_version(),
        created_at_ns=time.time_ns(),
    )


def _digest(live: LiveVersion, snapshot: str) -> str:
    state = hashlib.sha256()
    known = [(part.part_id, part.sha256) for part in live.base.parts]
    known += [(part.part_id, part.sha256) for part in live.holdout.parts]
    for part_id, digest in sorted(known):
        state.update(f"{part_id} {digest}\n".encode())
    state.update(f"snapshot {snapshot}\n".encode())
    return state.hexdigest()


def compare(
    first: LiveVersion, other: LiveVersion, settings: LearningSettings, pictures: AnsweredPictures, tell: Tell
) -> CandidateReport:
    """Hold one version against another on the hold-out of the first, as if that one were live.

    Args:
        first: Brings the hold-out.
        other: As if it were the candidate.
        settings: Threads, device, bounds of the gates.
        pictures: Where parts that cannot be drawn lie.
        tell: Told how far it is.

    Raises:
        InvalidInputError: If the other was trained or calibrated on a part of the hold-out, or the hold-out has good or
            defective parts only.
        NotFoundError: If a picture of the hold-out cannot be had.
    """
    held_out = {part.part_id for part in first.holdout.parts}
    seen_before = sorted(held_out & {part.part_id for part in other.base.parts})
    if seen_before:
        raise InvalidInputError(
            f"{other.manifest.alias} version {other.manifest.version} must not have been made from parts of the "
            f"hold-out that it is asked about, got {len(seen_before)}, such as {seen_before[0]!a}"
        )
    asked = replace(other, holdout=first.holdout)
    tell(0.0, f"version {first.manifest.version} answers the hold-out")
    before = see(first.model, first.head, first, settings, pictures, frozen=False, calibrates=False)
    tell(0.35, f"version {other.manifest.version} answers the hold-out")
    now = see(other.model, other.head, asked, settings, pictures, frozen=False, calibrates=False)
    tell(0.7, "looking where both versions look")
    none = np.full(len(first.holdout.parts), np.nan)
    overlaps = none, none
    if first.manifest.preprocessing == other.manifest.preprocessing:
        models = (first.model, other.model)
        overlaps = _overlaps(models, first, settings, pictures, lambda share: tell(0.7 + 0.25 * share, ""))
    answers = [
        HoldoutAnswers(
            [part.part_id for part in first.holdout.parts],
            first.holdout_defective,
            seen.scores,
            version.manifest.operating_point,
            version.manifest.calibration,
            overlap,
            seen.network.latency_ms(
                [
                    whole_picture(image, version)
                    for image in list(version.reference.images.values())[:_LATENCY_PICTURES]
                ],
                settings.latency_answers,
            ),
        )
        for version, seen, overlap in ((first, before, overlaps[0]), (other, now, overlaps[1]))
    ]
    return CandidateReport(
        live_version=first.manifest.version,
        promotion=judge_candidate(answers[0], answers[1], settings.gates, settings.seed),
        live=_confusion(answers[0]),
        candidate=_confusion(answers[1]),
        flips=_flips(first.holdout.parts, answers[0], answers[1]),
        answered=(),
        train_parts=other.manifest.lineage.n_train,
        lessons=0,
        holdout_parts=len(first.holdout.parts),
    )
