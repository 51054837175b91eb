"""What a model version is worth on its frozen hold-out, verdict for verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.core.decision import decide
from services.core.evaluation.metrics import DEFAULT_REPEATS, auroc, bootstrap, mcc, rate
from services.core.manifest import Metric
from services.core.types import OperatingPoint, Verdict


def evaluate(
    scores: NDArray[np.floating],
    defective: NDArray[np.bool_],
    parts: Sequence[str],
    operating_point: OperatingPoint,
    seed: int,
    repeats: int = DEFAULT_REPEATS,
) -> dict[str, Metric]:
    """Measure a version on parts that it has never seen.

    Args:
        scores: Anomaly scores, shape ``(N,)``.
        defective: Truth, shape ``(N,)``; both values must occur.
        parts: The part of each row; intervals resample these.
        operating_point: Where the version cuts.
        seed: Seed of the resampling.
        repeats: Resamples.

    Returns:
        ``auroc``; ``mcc`` and ``accuracy`` at the threshold (REVIEW does not exist for them); and by verdict
        ``escape_rate`` (defective with PASS), ``false_reject_rate`` (good with FAIL), ``good_pass_rate``,
        ``review_rate_good``, ``review_rate_defective``.

    Raises:
        InvalidInputError: If only one class is present.
    """
    verdicts = np.array([decide(float(score), operating_point).verdict.value for score in scores])
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
    return {name: bootstrap(measure, parts, seed, repeats) for name, measure in measures.items()}
