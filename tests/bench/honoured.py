"""Is what people say honoured? The share of corrected parts that come out right in the next model.

A starter model is fitted on fewer parts than usual, so that it makes mistakes. Parts that nobody has seen yet are drawn
until so many are found that it gets wrong; the simulated operator corrects them (true class, true mask as a brush of
some pixels would paint it), a candidate is made, and asked about the same parts: 30 of them, taught by their label
alone, by refutations too, and by where the defect is. ``--many`` measures the time of 300 answered pictures instead.

``python -m tests.bench.honoured [--weights 1,8] [--seeds 3] [--many]``; a table, and ``build/bench/honoured.json``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.adapters.modelfolder import read_weights, verify_version
from services.core.calibration import Promise
from services.core.decision import decide
from services.core.errors import NotFoundError
from services.core.imaging import ImageLimits, decode
from services.core.models.serving import build_model
from services.core.preprocessing import prepare
from services.core.review_mask import encode_mask
from services.core.selection.snapshot import ContradictionPolicy, Snapshot, SnapshotItem
from services.core.simulation.drawing import Drawing
from services.core.simulation.line import defect_classes
from services.core.training_run import CandidateReport
from services.core.types import Verdict
from services.local.starter import fit_starter
from services.trainer.learning import learn
from services.trainer.networks import AnsweringNetwork
from services.trainer.order import LearningOrder, LearningSettings

RESULT = Path("build/bench/honoured.json")
PRODUCTS = ("disc", "fabric")
#: Fewer than the 600 of a fresh line: with these it gets one part in ten or so wrong.
N_PER_CLASS = 120
PROMISE = Promise("escape_rate", 0.2, other_target=0.1, confidence=0.9)
CORRECTED = 30
#: Width of a person's brush on a part of some 600 px.
BRUSH_PX = 9
_FIRST_SEED = 500_000_000
_CHUNK = 16


@dataclass
class DrawnAnswers:
    """Pictures and drawings of the simulated operator, in memory."""

    images: dict[str, bytes]
    masks: dict[str, bytes]

    def image(self, key: str, sha256: str) -> bytes:
        return self.images[key]

    def mask(self, key: str) -> bytes:
        return self.masks[key]

    def heat(self, case_id: str, method: str) -> NDArray[np.float32] | None:
        return None

    def base_image(self, sha256: str) -> bytes:
        raise NotFoundError(f"the base set is drawn, got a question about {sha256}")


def find_mistakes(folder: Path, wanted: int, seed: int, *, wrong: bool = True) -> tuple[Snapshot, DrawnAnswers]:
    """Draw parts until so many are found whose verdict is wrong (or any parts), and correct them."""
    manifest = verify_version(folder)
    network = AnsweringNetwork(build_model(manifest, read_weights(folder)), manifest.preprocessing, 2)
    head = build_model(manifest, read_weights(folder)).linear
    items: list[SnapshotItem] = []
    answers = DrawnAnswers({}, {})
    number = 0
    while len(items) < wanted:
        some = []
        for _ in range(_CHUNK):
            product = PRODUCTS[number % len(PRODUCTS)]
            faults = defect_classes(product)
            defect = faults[(number // 4) % len(faults)] if (number // 2) % 2 else None
            some.append(Drawing(product, _FIRST_SEED + seed * 1_000_000 + number, defect, (number // 4) % 2))
            number += 1
        drawn = [one.part() for one in some]
        encoded = [one.encoded(part) for one, part in zip(some, drawn, strict=True)]
        rows = network.embed(
            np.concatenate([prepare(decode(image, ImageLimits()), manifest.preprocessing) for image in encoded])
        )
        logits = rows @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = odds[:, 1:].sum(axis=1) / odds.sum(axis=1)
        for one, part, image, score in zip(some, drawn, encoded, scores.tolist(), strict=True):
            verdict = decide(score, manifest.operating_point).verdict
            missed = verdict is (Verdict.PASS if one.defect else Verdict.FAIL)
            if len(items) < wanted and (missed or not wrong):
                items.append(_corrected(one, part.mask, image, answers, missed=missed))
    ordered = tuple(sorted(items, key=lambda item: item.image_sha256))
    return Snapshot(ordered, (), (), ContradictionPolicy.LEAVE_OUT), answers


def _corrected(
    one: Drawing, mask: NDArray[np.bool_], image: bytes, answers: DrawnAnswers, *, missed: bool
) -> SnapshotItem:
    digest = hashlib.sha256(image).hexdigest()
    answers.images[digest] = image
    if one.defect:
        brush = np.ones((BRUSH_PX, BRUSH_PX), np.uint8)
        answers.masks[digest] = encode_mask(cv2.dilate(mask.astype(np.uint8), brush) > 0)
    return SnapshotItem(
        image_sha256=digest,
        image_key=digest,
        part_id=one.part_id,
        label=one.label,
        mask_keys=(digest,) if one.defect else (),
        accepted_maps=(),
        misleading_maps=(),
        verdict_wrong=missed,
        reason_wrong=bool(one.defect),
        review_ids=(f"review-{one.part_id}",),
    )


def figures(report: CandidateReport) -> dict[str, Any]:
    """What the table shows of one candidate."""
    verdicts = [one for one in report.answered if one.verdict_corrected]
    regions = [one for one in report.answered if one.region_corrected]
    gates = {gate.name.value: gate for gate in report.promotion.gates}
    return {
        "verdicts_right": float(np.mean([one.verdict_right for one in verdicts])) if verdicts else None,
        "corrected_verdicts": len(verdicts),
        "good_corrected": sum(one.label == "good" for one in verdicts),
        "regions_right": float(np.mean([one.region_right for one in regions])) if regions else None,
        "drawn_regions": len(regions),
        "mcc_live": gates["mcc"].live,
        "mcc": gates["mcc"].candidate,
        "escapes_live": gates["escapes"].live,
        "escapes": gates["escapes"].candidate,
        "overlap_live": gates["explanation"].live,
        "overlap": gates["explanation"].candidate,
        "broken": [gate.name.value for gate in report.promotion.broken],
        "lessons": report.lessons,
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="8")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--many", action="store_true", help="the time of 300 answered pictures")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(arguments.seeds):
            folder = Path(place) / f"starter-{seed}"
            fit_starter(folder, PRODUCTS, N_PER_CLASS, seed, promise=PROMISE)
            count = 300 if arguments.many else CORRECTED
            snapshot, answers = find_mistakes(folder, count, seed, wrong=not arguments.many)
            for weight in [float(one) for one in arguments.weights.split(",")]:
                usual = LearningSettings(answer_weight=weight, threads=arguments.threads)
                for name, settings in _variants(usual, many=arguments.many):
                    out = Path(place) / f"candidate-{len(rows)}"
                    started = time.monotonic()
                    report = learn(LearningOrder("default", 2, folder, snapshot, settings), answers, out)
                    row = {"seed": seed, "weight": weight, "taught": name}
                    row |= {"seconds": time.monotonic() - started, **figures(report)}
                    rows.append(row)
                    console.print(_told(row))
    console.print(_table(rows))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")


def _variants(settings: LearningSettings, *, many: bool) -> Sequence[tuple[str, LearningSettings]]:
    """What is compared: each step of what an answer is turned into."""
    if many:
        return [("default", settings)]
    none = replace(settings.refutations, zoom_in=0, zoom_out=0, move=0, light=0, paste=0)
    return [
        ("label alone", replace(settings, refutations=none, region_weight=0.0)),
        ("with refutations", replace(settings, region_weight=0.0)),
        ("with region too", settings),
    ]


def _told(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("weight", "taught", "seeds", "verdicts right", "regions right", "MCC before", "MCC after", "s")
    kinds = sorted({(row["weight"], row["taught"]) for row in rows})
    for weight, name in kinds:
        same = [row for row in rows if (row["weight"], row["taught"]) == (weight, name)]

        def mean(field: str, same: Sequence[dict[str, Any]] = same) -> str:
            known = [row[field] for row in same if row[field] is not None]
            return f"{np.mean(known):.3f}" if known else ""

        table.add_row(
            f"{weight:g}", name, str(len(same)), mean("verdicts_right"), mean("regions_right"),
            mean("mcc_live"), mean("mcc"), mean("seconds"),
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
