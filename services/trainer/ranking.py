"""Searches an archive for what does not look like the good parts: every picture scored, the most anomalous first.

The paper's use (paper 3): fitted on 862 good images, searched through 15 453 of which nobody knew anything. Pictures
are read and scored a few at a time, and what is said of each is written at once, so memory does not grow with the
archive's pictures and a search that was cut short goes on where it was.
"""

from __future__ import annotations

import array
import csv
import heapq
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.datasets import walk_pictures
from services.core.decision import decide
from services.core.errors import ConflictError, ImageError, ImageTooLargeError, InvalidInputError
from services.core.imaging import ImageLimits, decode
from services.core.manifest import ModelManifest
from services.core.preprocessing import prepare
from services.core.types import RgbImage, Verdict
from services.trainer.fitted import Said

#: Pictures of one step: read, scored, written.
BATCH: Final = 16
#: Pictures of one block of the running flag rate.
BLOCK: Final = 1000

SCORES: Final = "scores.jsonl"
RANKED: Final = "ranked.csv"

_SCHEMA: Final = 1
_SHOWN_BROKEN: Final = 20


class Scorer(Protocol):
    """A model version as a search needs it; ``services.trainer.fitted.FittedVersion``."""

    @property
    def manifest(self) -> ModelManifest:
        """What it is."""
        ...

    @property
    def digest(self) -> str:
        """Names its content."""
        ...

    def say(self, tiles: list[NDArray[np.uint8]]) -> list[Said]:
        """Score pictures, each given as its tiles."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Some pictures in the order in which they came."""

    scored: int = 0
    flagged: int = 0
    review: int = 0


@dataclass(frozen=True, slots=True)
class Top:
    """One of the most anomalous pictures."""

    rank: int
    file: str
    score: float
    verdict: str
    uncertainty: float
    tile: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is.

    Attributes:
        done: Pictures that something is said of.
        total: Pictures in the archive.
        flagged_per_1000: FAIL, of a thousand scored so far; NaN before the first.
    """

    done: int
    total: int
    flagged_per_1000: float


@dataclass(slots=True)
class Ranking:
    """What a search found.

    Attributes:
        blocks: Verdicts of each thousand pictures as they came; the last may be smaller.
        top: The most anomalous, worst first.
        broken: How many could not be used.
        broken_files: The first of them, with their reasons.
        scored_now: Pictures scored by this run; the others were there from an earlier one.
        seconds: What those took.
    """

    blocks: list[Block] = field(default_factory=list)
    top: list[Top] = field(default_factory=list)
    broken: int = 0
    broken_files: list[tuple[str, str]] = field(default_factory=list)
    scored_now: int = 0
    seconds: float = 0.0

    @property
    def whole(self) -> Block:
        """All blocks together."""
        return Block(*(sum(getattr(one, name) for one in self.blocks) for name in ("scored", "flagged", "review")))

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        whole = self.whole
        return {
            "schema": _SCHEMA,
            "scored": whole.scored,
            "broken": self.broken,
            "broken_files": [{"file": name, "reason": reason} for name, reason in self.broken_files],
            "flagged_per_1000": per_thousand(whole.flagged, whole.scored),
            "review_per_1000": per_thousand(whole.review, whole.scored),
            "thousands": [asdict(block) for block in self.blocks],
            "images_per_s": self.scored_now / self.seconds if self.seconds > 0 and self.scored_now else None,
            "top": [asdict(one) for one in self.top],
        }


def per_thousand(count: int, of: int) -> float | None:
    """A rate for people; None of nothing."""
    return 1000 * count / of if of else None


def rank_archive(
    scorer: Scorer,
    data: Path,
    out: Path,
    top: int = 50,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Ranking:
    """Score every picture below a folder and write the list.

    ``scores.jsonl`` grows as pictures are scored, in the order in which they came; ``ranked.csv`` is written at the
    end, the most anomalous first. A folder that holds the scores of an earlier run of the same search is gone on with.

    Args:
        scorer: The model version.
        data: The archive.
        out: Where both are written.
        top: How many of the most anomalous to return.
        progress: Told after each batch.

    Raises:
        NotFoundError: If there is no such archive.
        InvalidInputError: If it holds no picture, or ``top`` is below 1.
        ConflictError: If ``out`` holds the scores of another search.
    """
    if top < 1:
        raise InvalidInputError(f"top must be at least 1, got {top}")
    # A list that is written into the archive itself is no part of it.
    skip = data / out.resolve().relative_to(data.resolve()) if out.resolve().is_relative_to(data.resolve()) else None
    total = sum(1 for _ in walk_pictures(data, skip))
    if not total:
        raise InvalidInputError(f"an archive must hold at least one picture, got none below {data}")
    out.mkdir(parents=True, exist_ok=True)
    ranking, counter = Ranking(), _Counter()
    with (out / SCORES).open("a+b") as file:
        known = _take_up(file, _header(scorer, data), counter)
        missing = (path for path in walk_pictures(data, skip) if path.relative_to(data).as_posix() not in known)
        began_s = time.monotonic()
        while batch := list(islice(missing, BATCH)):
            for row in _scored(scorer, batch, data):
                file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n")
                counter.add(row)
                ranking.scored_now += "score" in row
            # What is said of a picture outlives whatever ends the search.
            file.flush()
            progress(Progress(counter.done, max(total, counter.done), counter.flagged_per_1000))
        ranking.seconds = time.monotonic() - began_s
    ranking.blocks, ranking.broken, ranking.broken_files = counter.blocks, counter.broken, counter.broken_files
    ranking.top = _write_ranked(out, top)
    return ranking


def _header(scorer: Scorer, data: Path) -> dict[str, Any]:
    manifest = scorer.manifest
    return {
        "schema": _SCHEMA,
        "version": f"{manifest.alias}-v{manifest.version}",
        "version_sha256": scorer.digest,
        "data": str(data.resolve()),
    }


def _scored(scorer: Scorer, paths: Sequence[Path], data: Path) -> Iterator[dict[str, Any]]:
    """What is said of a few pictures, in their order."""
    tiles: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    for path in paths:
        row: dict[str, Any] = {"file": path.relative_to(data).as_posix()}
        try:
            tiles.append(prepare(read_picture(path)[1], scorer.manifest.preprocessing))
        except ImageError as error:
            row |= {"error": error.reason, "detail": str(error)[:300]}
        rows.append(row)
    told = iter(scorer.say(tiles) if tiles else ())
    for row in rows:
        if "error" not in row:
            said = next(told)
            decision = decide(said.score, scorer.manifest.operating_point, said.disagreement)
            if math.isfinite(said.score):
                row |= {
                    "score": said.score,
                    "verdict": decision.verdict.value,
                    "uncertainty": decision.uncertainty,
                    "tile": said.tile,
                }
            else:
                row |= {"error": "no_score", "detail": f"a score must be finite, got {said.score}"}
        yield row


def read_picture(path: Path) -> tuple[bytes, RgbImage]:
    """Read a picture of an archive: its bytes, and what they show.

    Raises:
        ImageError: If it cannot be used, whatever the reason.
    """
    limits = ImageLimits()
    try:
        if path.stat().st_size > limits.max_bytes:
            raise ImageTooLargeError(f"an image must have at most {limits.max_bytes} bytes, got {path.stat().st_size}")
        data = path.read_bytes()
        return data, decode(data, limits)
    except OSError as error:
        raise ImageError(f"an image must be readable, got {error.strerror or error}") from error
    except (cv2.error, ValueError, MemoryError) as error:
        raise ImageError(f"an image must be decodable, got {type(error).__name__}: {error}") from error


# ---- what was written


class _Counter:
    """Counts rows as they come, those of an earlier run included."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.broken = 0
        self.broken_files: list[tuple[str, str]] = []
        self._scored = self._flagged = 0

    def add(self, row: dict[str, Any]) -> None:
        if "score" not in row:
            self.broken += 1
            if len(self.broken_files) < _SHOWN_BROKEN:
                self.broken_files.append((row["file"], row["error"]))
            return
        if not self.blocks or self.blocks[-1].scored == BLOCK:
            self.blocks.append(Block())
        last = self.blocks[-1]
        flagged, review = (row["verdict"] == verdict.value for verdict in (Verdict.FAIL, Verdict.REVIEW))
        self.blocks[-1] = Block(last.scored + 1, last.flagged + flagged, last.review + review)
        self._scored += 1
        self._flagged += flagged

    @property
    def done(self) -> int:
        return self._scored + self.broken

    @property
    def flagged_per_1000(self) -> float:
        return 1000 * self._flagged / self._scored if self._scored else math.nan


def _take_up(file: IO[bytes], header: dict[str, Any], counter: _Counter) -> set[str]:
    """Read what an earlier run said; a line that it was cut off in is removed.

    Returns:
        Files that something is said of.
    """
    file.seek(0)
    first = file.readline()
    if not first.endswith(b"\n"):
        file.truncate(0)
        file.write(json.dumps(header).encode() + b"\n")
        file.flush()
        return set()
    if _parsed(first) != header:
        raise ConflictError(
            f"scores must be of one search, got those of another in {file.name}: {first[:300]!r}; name another folder"
        )
    known: set[str] = set()
    whole = file.tell()
    for line in file:
        row = _parsed(line) if line.endswith(b"\n") else None
        if row is None:
            break
        known.add(row["file"])
        counter.add(row)
        whole += len(line)
    file.truncate(whole)
    file.seek(whole)
    return known


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _write_ranked(out: Path, top: int) -> list[Top]:
    """Write the list, worst first; of the scores only numbers are held in memory."""
    scores, places = array.array("d"), array.array("q")
    best: list[tuple[float, int]] = []
    with (out / SCORES).open("rb") as file:
        at = len(file.readline())
        for line in file:
            row = _parsed(line) or {}
            if "score" in row:
                # Of equal scores the one that came first goes first.
                entry = (row["score"], -at)
                heapq.heappush(best, entry) if len(best) < top else heapq.heappushpop(best, entry)
                scores.append(row["score"])
                places.append(at)
            at += len(line)
        order = np.argsort(-np.frombuffer(scores, dtype=np.float64), kind="stable") if scores else ()
        unfinished = out / f"{RANKED}.part"
        with unfinished.open("w", encoding="utf-8", errors="surrogateescape", newline="") as ranked:
            writer = csv.writer(ranked)
            writer.writerow(("rank", "file", "score", "verdict", "uncertainty"))
            for rank, row_number in enumerate(order, 1):
                row = _row_at(file, places[row_number])
                writer.writerow((rank, row["file"], row["score"], row["verdict"], row["uncertainty"]))
        unfinished.replace(out / RANKED)
        return [
            Top(rank, **{name: row[name] for name in ("file", "score", "verdict", "uncertainty", "tile")})
            for rank, (_, place) in enumerate(sorted(best, reverse=True), 1)
            for row in (_row_at(file, -place),)
        ]


def _row_at(file: IO[bytes], place: int) -> dict[str, Any]:
    file.seek(place)
    return _parsed(file.readline()) or {}
