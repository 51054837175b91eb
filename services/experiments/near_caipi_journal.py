"""Where a run of the experiment on learning from an operator stands: what was answered, round by round.

A run is many trainings, which take long where all layers are trained. One that was ended in the middle goes on
after its last whole round: the answers make the training set, and the network is trained from its first weights anyway.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from services.core.errors import ConflictError
from services.core.selection.lessons import Judgement
from services.core.selection.near_caipi import Round
from services.core.selection.refutations import Mask
from services.experiments.figures_file import SCHEMA, write_text


@dataclass(frozen=True, slots=True, eq=False)
class KeptRound:
    """One round that is over, the first training among them.

    Attributes:
        asked: What it asked; None of the first training.
        answers: Row of the part and what was said of it, in order.
        figures: Of the model after it, by name.
        random_state: Of the generator that draws parts.
    """

    asked: Round | None
    answers: tuple[tuple[int, Judgement], ...]
    figures: Mapping[str, float]
    random_state: Mapping[str, Any]


@dataclass
class Journal:
    """The rounds of one run; on the disk after each, where it has a file.

    Attributes:
        path: The file; None keeps nothing beyond the process.
        conditions: What the run holds for.
        rounds: Those that are over.
    """

    path: Path | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)
    rounds: list[KeptRound] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path | None, strategy: str, seed: int, conditions: Mapping[str, Any]) -> Journal:
        """Begin, or go on with what a file holds.

        Args:
            folder: Where the journals of all runs lie; None for none.
            strategy: Of the run.
            seed: Of the run.
            conditions: What it must hold for.

        Raises:
            ConflictError: If the file holds anything else than rounds of these conditions.
        """
        if folder is None:
            return cls()
        path = folder / f"{strategy}-{seed}.json"
        wanted = json.loads(json.dumps(conditions))
        if not path.exists():
            return cls(path, wanted)
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            known, rounds = (held["schema"], held["conditions"]), [_round(one) for one in held["rounds"]]
        except (ValueError, LookupError, TypeError) as error:
            raise ConflictError(f"{path} must hold rounds of near-caipi: remove it") from error
        if known != (SCHEMA, wanted):
            raise ConflictError(f"{path} holds rounds of other conditions: remove it, or name another file for figures")
        return cls(path, wanted, rounds)

    def add(self, one: KeptRound) -> None:
        """Take a round in, and write."""
        self.rounds.append(one)
        if self.path is not None:
            rounds = [_written(kept) for kept in self.rounds]
            document = {"schema": SCHEMA, "conditions": self.conditions, "rounds": rounds}
            write_text(self.path, json.dumps(document, allow_nan=False) + "\n")

    def remove(self) -> None:
        """Take the file away: the run is over and on record elsewhere."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _written(one: KeptRound) -> dict[str, Any]:
    return {
        "asked": None if one.asked is None else asdict(one.asked),
        "answers": [
            {
                "part": part,
                "answer_id": said.answer_id,
                "label": said.label,
                "verdict_right": said.verdict_right,
                "reason_right": said.reason_right,
                "shape": said.region.shape,
                "region": base64.b64encode(np.packbits(said.region).tobytes()).decode() if said.region.any() else "",
            }
            for part, said in one.answers
        ],
        "figures": {name: value if math.isfinite(value) else None for name, value in one.figures.items()},
        "random_state": dict(one.random_state),
    }


def _round(held: Mapping[str, Any]) -> KeptRound:
    return KeptRound(
        None if held["asked"] is None else Round(**held["asked"]),
        tuple(
            (
                int(one["part"]),
                Judgement(
                    one["answer_id"],
                    int(one["label"]),
                    _region(one["region"], tuple(one["shape"])),
                    bool(one["verdict_right"]),
                    bool(one["reason_right"]),
                ),
            )
            for one in held["answers"]
        ),
        {name: math.nan if value is None else float(value) for name, value in held["figures"].items()},
        held["random_state"],
    )


def _region(text: str, shape: tuple[int, ...]) -> Mask:
    if not text:
        return np.zeros(shape, np.bool_)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=int(np.prod(shape)))
    return bits.reshape(shape).astype(np.bool_)
