"""What a model version is worth on its frozen hold-out, verdict for verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.core.decision import decide
from services.core.evaluation.metrics import DEFAULT_REPEATS, auroc, bootstrap, mcc, rate
from services.core.manifest import Metric
from services.core.types import OperatingPoint, Reason, Verdict


def evaluate(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    parts: Sequence[str],
    operating_point: OperatingPoint,
    seed: int,
    repeats: int = DEFAULT_REPEATS,
    disagreements: NDArray[np.floating] | None = None,
) -> dict[str, Metric]:
    """Measure a version on parts that it has never seen.

    Args:
        scores: Anomaly scores, shape ``(N,)``.
        defective: Truth, shape ``(N,)``; both values must occur.
        parts: The part of each row; intervals resample these.
        operating_point: Where the version cuts.
        seed: Seed of the resampling.
        repeats: Resamples.
        disagreements: Of a panel's detectors, shape ``(N,)``; None where one model answers.

    Returns:
        ``auroc``; ``mcc`` and ``accuracy`` at the threshold (REVIEW does not exist for them); and by verdict
        ``escape_rate`` (defective with PASS), ``false_reject_rate`` (good with FAIL), ``good_pass_rate``,
        ``review_rate_good``, ``review_rate_defective``. Of a panel also ``disagreement_rate_good`` and
        ``disagreement_rate_defective``: what is REVIEW for that reason alone.

    Raises:
        InvalidInputError: If only one class is present.
    """
    split = np.zeros(len(scores)) if disagreements is None else disagreements
    decisions = [decide(float(one), operating_point, float(far)) for one, far in zip(scores, split, strict=True)]
    verdicts = np.array([decision.verdict.value for decision in decisions])
    disagreed = np.array([decision.reason is Reason.DISAGREEMENT for decision in decisions])
    flagged = scores >= operating_point.threshold

    def share(verdict: Verdict, *, of_defective: bool) -> Callable[[NDArray[np.intp]], float]:
        return lambda rows: rate(verdicts[rows][defective[rows] == of_defective] == verdict.value)

    measures: dict[str, Callable[[NDArray[np.intp]], float]] = {
        "auroc": lambda rows: auroc(scores[rows], defective[rows]),
        "mcc": lambda rows: mcc(flagged[rows], defective[rows]),
        "accuracy": lambda rows: rate(flagged[rows] == defective[rows]),
        "escape_rate": share(Verdict.PASS, of_defective=True),
        "false_reject_rate": share(Verdict.FAIL, of_defective=False),
        "good_pass_rate": share(Verdict.PASS, of_defective=False),
        "review_rate_good": share(Verdict.REVIEW, of_defective=False),
        "review_rate_defective": share(Verdict.REVIEW, of_defective=True),
    }
    if disagreements is not None:
        measures["disagreement_rate_good"] = lambda rows: rate(disagreed[rows][~defective[rows]])
        measures["disagreement_rate_defective"] = lambda rows: rate(disagreed[rows][defective[rows]])
    return {name: bootstrap(measure, parts, seed, repeats) for name, measure in measures.items()}
