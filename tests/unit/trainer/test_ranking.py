"""A search through an archive: order, streaming, resumption, broken files."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.core.errors import ConflictError, InvalidInputError, NotFoundError
from services.core.imaging import encode_png
from services.core.preprocessing import Preprocessing
from services.core.types import OperatingPoint
from services.trainer import ranking
from services.trainer.fitted import Said
from services.trainer.ranking import BATCH, Progress, rank_archive

POINT = OperatingPoint(0.5, 0.4, 0.5)


class Brightness:
    """A version that finds bright pictures anomalous."""

    def __init__(self, *, digest: str = "d" * 64, fails_at: int = 10**9) -> None:
        self.digest = digest
        self.manifest: Any = SimpleNamespace(
            alias="default", version=3, preprocessing=Preprocessing(height_px=16, width_px=16), operating_point=POINT
        )
        self.batches: list[int] = []
        self._left = fails_at

    def say(self, tiles: list[np.ndarray]) -> list[Said]:
        self._left -= len(tiles)
        if self._left < 0:
            raise KeyboardInterrupt
        self.batches.append(len(tiles))
        return [
            Said(float(one.mean()) / 255, 0, np.zeros(2, np.float32), np.zeros(1, np.float32), 0.0) for one in tiles
        ]


def write(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.full((16, 16, 3), level, np.uint8)))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Forty pictures in two folders, each brighter than the one before; the last nine fail, four more are unsure."""
    for number in range(40):
        write(tmp_path / "archive" / f"day-{number // 20}" / f"{number:02d}.png", 2 * number + 66)
    return tmp_path / "archive"


def listed(out: Path) -> list[dict[str, str]]:
    with (out / "ranked.csv").open() as file:
        return list(csv.DictReader(file))


def said(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()[1:]]


def test_the_most_anomalous_come_first(archive: Path, tmp_path: Path) -> None:
    found = rank_archive(Brightness(), archive, tmp_path / "out", top=3)
    rows = listed(tmp_path / "out")
    assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 41)]
    assert [row["file"] for row in rows] == [f"day-{number // 20}/{number:02d}.png" for number in range(39, -1, -1)]
    assert [(one.rank, one.file) for one in found.top] == [
        (1, "day-1/39.png"),
        (2, "day-1/38.png"),
        (3, "day-1/37.png"),
    ]
    assert float(rows[0]["score"]) == found.top[0].score == pytest.approx(144 / 255)


def test_equal_scores_keep_the_order_in_which_they_came(tmp_path: Path) -> None:
    for name in "cab":
        write(tmp_path / "in" / f"{name}.png", 100)
    found = rank_archive(Brightness(), tmp_path / "in", tmp_path / "out", top=2)
    assert [row["file"] for row in listed(tmp_path / "out")] == ["a.png", "b.png", "c.png"]
    assert [one.file for one in found.top] == ["a.png", "b.png"]


def test_verdicts_are_those_of_the_versions_operating_point(archive: Path, tmp_path: Path) -> None:
    found = rank_archive(Brightness(), archive, tmp_path / "out")
    verdicts = [row["verdict"] for row in listed(tmp_path / "out")]
    # 0.5 of 255 is a level of 127.5: 128 and above fail; from 102 on a part is for a person.
    assert verdicts == ["fail"] * 9 + ["review"] * 13 + ["pass"] * 18
    assert (found.whole.scored, found.whole.flagged, found.whole.review) == (40, 9, 13)
    assert found.as_json()["flagged_per_1000"] == pytest.approx(225)
    assert found.as_json()["review_per_1000"] == pytest.approx(325)


def test_flag_rates_are_told_by_thousands_as_they_came(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "BLOCK", 15)
    found = rank_archive(Brightness(), archive, tmp_path / "out")
    assert [(one.scored, one.flagged, one.review) for one in found.blocks] == [(15, 0, 0), (15, 0, 12), (10, 9, 1)]


def test_pictures_are_scored_in_small_batches_and_progress_carries_the_rate(archive: Path, tmp_path: Path) -> None:
    scorer, told = Brightness(), list[Progress]()
    rank_archive(scorer, archive, tmp_path / "out", progress=told.append)
    assert scorer.batches == [BATCH, BATCH, 8]
    assert [(one.done, one.total) for one in told] == [(16, 40), (32, 40), (40, 40)]
    assert [one.flagged_per_1000 for one in told] == [0, pytest.approx(1000 / 32), pytest.approx(225)]


def test_a_search_that_was_cut_short_goes_on_where_it_was(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        rank_archive(Brightness(fails_at=35), archive, tmp_path / "out")
    assert len(said(tmp_path / "out")) == 32
    assert not (tmp_path / "out" / "ranked.csv").exists()
    again = Brightness()
    found = rank_archive(again, archive, tmp_path / "out")
    assert again.batches == [8]
    assert found.scored_now == 8
    whole = rank_archive(Brightness(), archive, tmp_path / "whole")
    assert (found.blocks, found.top) == (whole.blocks, whole.top)
    assert (tmp_path / "out" / "scores.jsonl").read_bytes() == (tmp_path / "whole" / "scores.jsonl").read_bytes()
    assert (tmp_path / "out" / "ranked.csv").read_bytes() == (tmp_path / "whole" / "ranked.csv").read_bytes()


@pytest.mark.parametrize("cut", [1, 40, 5000])
def test_a_line_that_was_cut_off_in_the_middle_is_said_again(archive: Path, tmp_path: Path, cut: int) -> None:
    whole = rank_archive(Brightness(), archive, tmp_path / "out")
    scores = tmp_path / "out" / "scores.jsonl"
    kept = scores.read_bytes()
    scores.write_bytes(kept[: len(kept) - cut] if cut < len(kept) else kept[:20])
    assert rank_archive(Brightness(), archive, tmp_path / "out").top == whole.top
    assert scores.read_bytes() == kept


def test_pictures_that_came_since_are_scored_and_the_others_are_not(archive: Path, tmp_path: Path) -> None:
    rank_archive(Brightness(), archive, tmp_path / "out")
    write(archive / "day-0" / "00a.png", 250)
    scorer = Brightness()
    found = rank_archive(scorer, archive, tmp_path / "out")
    assert scorer.batches == [1]
    assert found.top[0].file == "day-0/00a.png"
    assert len(listed(tmp_path / "out")) == 41


def test_scores_of_another_search_are_not_mixed_in(archive: Path, tmp_path: Path) -> None:
    rank_archive(Brightness(), archive, tmp_path / "out")
    with pytest.raises(ConflictError, match="must be of one search"):
        rank_archive(Brightness(digest="e" * 64), archive, tmp_path / "out")
    with pytest.raises(ConflictError, match="name another folder"):
        rank_archive(Brightness(), archive / "day-0", tmp_path / "out")
    assert len(said(tmp_path / "out")) == 40


def test_broken_files_are_counted_and_named_and_do_not_stop_the_search(archive: Path, tmp_path: Path) -> None:
    (archive / "day-0" / "05.png").write_bytes(b"no image")
    (archive / "day-1" / "25.png").write_bytes(b"")
    (archive / "day-1" / "26.png").write_bytes((archive / "day-1" / "27.png").read_bytes()[:50])
    found = rank_archive(Brightness(), archive, tmp_path / "out")
    assert (found.whole.scored, found.broken) == (37, 3)
    assert found.broken_files == [
        ("day-0/05.png", "image_unsupported"),
        ("day-1/25.png", "image_empty"),
        ("day-1/26.png", "image_truncated"),
    ]
    assert len(listed(tmp_path / "out")) == 37
    assert rank_archive(Brightness(), archive, tmp_path / "out").broken == 3, "a broken file is not tried again"


def test_a_batch_of_broken_files_alone_is_survived(tmp_path: Path) -> None:
    for number in range(BATCH):
        (tmp_path / f"{number:02d}.png").write_bytes(b"no image")
    write(tmp_path / "x.png", 200)
    found = rank_archive(Brightness(), tmp_path, tmp_path / "out")
    assert (found.whole.scored, found.broken) == (1, BATCH)


def test_an_archive_of_broken_files_alone_gives_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    found = rank_archive(Brightness(), tmp_path, tmp_path / "out")
    assert found.top == []
    assert listed(tmp_path / "out") == []
    assert found.as_json()["flagged_per_1000"] is None


def test_a_score_that_is_no_number_does_not_rank(tmp_path: Path) -> None:
    class Lost(Brightness):
        def say(self, tiles: list[np.ndarray]) -> list[Said]:
            return [one._replace(score=math.nan) for one in super().say(tiles)]

    write(tmp_path / "a.png", 100)
    assert rank_archive(Lost(), tmp_path, tmp_path / "out").broken_files == [("a.png", "no_score")]


def test_names_of_any_bytes_come_through(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = encode_png(np.full((16, 16, 3), 90, np.uint8))
    for name in ('größe, "1".png'.encode(), b"old-\xff.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(picture)
    rank_archive(Brightness(), folder, tmp_path / "out")
    again = Brightness()
    rank_archive(again, folder, tmp_path / "out")
    assert again.batches == []
    with (tmp_path / "out" / "ranked.csv").open(errors="surrogateescape") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ['größe, "1".png', "old-\udcff.png"]


def test_what_a_search_writes_into_the_archive_is_no_part_of_it(archive: Path) -> None:
    write(archive / "ranked" / "version" / "reference" / "good.png", 100)
    assert rank_archive(Brightness(), archive, archive / "ranked").whole.scored == 40


def test_an_archive_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(InvalidInputError, match="must hold at least one picture"):
        rank_archive(Brightness(), tmp_path, tmp_path / "out")
    with pytest.raises(NotFoundError, match="a folder of pictures must exist"):
        rank_archive(Brightness(), tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(InvalidInputError, match="top must be at least 1, got 0"):
        rank_archive(Brightness(), tmp_path, tmp_path / "out", top=0)
