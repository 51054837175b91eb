from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.adapters import outcomefile
from services.adapters.outcomefile import OutcomeFileSink
from services.core.errors import InvalidInputError, UnavailableError
from services.core.outcome_text import LINE_EVENT_COLUMNS, OUTCOME_COLUMNS, told_json
from tests.support.told import BEGAN_AT_NS, an_event, an_outcome

_DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def sinks(tmp_path: Path) -> Iterator[list[OutcomeFileSink]]:
    made: list[OutcomeFileSink] = []
    yield made
    for sink in made:
        sink.close()


def _jsonl(folder: Path, day: str = "20261126") -> list[object]:
    return [json.loads(line) for line in (folder / f"line-1-{day}.jsonl").read_text().splitlines()]


def test_outcomes_and_events_stand_in_the_file_of_their_day(tmp_path: Path) -> None:
    sink = OutcomeFileSink(tmp_path / "made" / "here", "line-1")
    told = [an_outcome("a"), an_event(), an_outcome("b", began_at_ns=BEGAN_AT_NS + _DAY_NS), an_outcome("c")]
    for each in told:
        sink.deliver(each)
    sink.close()
    assert _jsonl(tmp_path / "made" / "here") == [told_json(told[0]), told_json(told[1]), told_json(told[3])]
    assert _jsonl(tmp_path / "made" / "here", "20261127") == [told_json(told[2])]


def test_csv_has_one_header_and_events_in_a_file_of_their_own(tmp_path: Path) -> None:
    for _ in range(2):
        sink = OutcomeFileSink(tmp_path, "line-1", "csv")
        sink.deliver(an_outcome("a", detail='a "quoted", text\nof two lines'))
        sink.deliver(an_event())
        sink.close()
    with (tmp_path / "line-1-20261126.csv").open(newline="") as file:
        header, row = list(csv.reader(file))
    assert header == list(OUTCOME_COLUMNS)
    assert row[header.index("detail")] == 'a "quoted", text of two lines'
    with (tmp_path / "line-1-events-20261126.csv").open(newline="") as file:
        assert [line[:2] for line in csv.reader(file)] == [
            list(LINE_EVENT_COLUMNS[:2]),
            [an_event().event_id, "line-1"],
        ]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_record_delivered_again_after_a_restart_is_written_once(tmp_path: Path, form: str) -> None:
    for _ in range(2):
        sink = OutcomeFileSink(tmp_path, "line-1", form)  # type: ignore[arg-type]
        sink.deliver(an_outcome("a"))
        sink.deliver(an_outcome("a"))
        sink.deliver(an_outcome("a", revision=2))
        sink.close()
    lines = (tmp_path / f"line-1-20261126.{form}").read_bytes().splitlines()
    assert len(lines) == (2 if form == "jsonl" else 3)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_record_torn_anywhere_is_cut_off_and_written_whole(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"line-1-20261126.{form}"
    sink = OutcomeFileSink(tmp_path, "line-1", form)  # type: ignore[arg-type]
    sink.deliver(an_outcome("a"))
    first = path.stat().st_size
    sink.deliver(an_outcome("b"))
    sink.close()
    whole = path.read_bytes()
    for size in (1, first - 1, first, first + 1, len(whole) - 1, len(whole)):
        path.write_bytes(whole[:size])
        again = OutcomeFileSink(tmp_path, "line-1", form)  # type: ignore[arg-type]
        again.deliver(an_outcome("a"))
        again.deliver(an_outcome("b"))
        again.close()
        assert path.read_bytes() == whole


def test_a_torn_record_larger_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "line-1-20261126.jsonl"
    path.write_bytes(b'{"x":1}\n' + b"y" * 200_000)
    sink = OutcomeFileSink(tmp_path, "line-1")
    sink.deliver(an_outcome("a"))
    sink.close()
    assert _jsonl(tmp_path) == [{"x": 1}, told_json(an_outcome("a"))]


def test_ids_are_read_from_the_end_of_a_file_as_far_as_is_set(tmp_path: Path) -> None:
    sink = OutcomeFileSink(tmp_path, "line-1")
    for number in range(20):
        sink.deliver(an_outcome(f"part-{number}"))
    sink.close()
    again = OutcomeFileSink(tmp_path, "line-1", remembered=4, tail_bytes=8_000)
    again.deliver(an_outcome("part-19"))
    assert len(_jsonl(tmp_path)) == 20
    again.deliver(an_outcome("part-0"))
    again.close()
    assert len(_jsonl(tmp_path)) == 21


def test_a_full_disk_is_unavailable_and_leaves_nothing_of_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = OutcomeFileSink(tmp_path, "line-1")
    sink.deliver(an_outcome("a"))
    real_write = os.write

    def full(descriptor: int, data: memoryview) -> int:
        # It takes 100 bytes at a time, and none of what is left in the end.
        if len(data) > 100:
            return real_write(descriptor, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(outcomefile.os, "write", full)
        patch.setattr(outcomefile.os, "fsync", lambda descriptor: None)
        with pytest.raises(UnavailableError, match="No space left"):
            sink.deliver(an_outcome("b"))
    assert _jsonl(tmp_path) == [told_json(an_outcome("a"))]
    sink.deliver(an_outcome("b"))
    sink.close()
    assert _jsonl(tmp_path) == [told_json(an_outcome("a")), told_json(an_outcome("b"))]


def test_a_folder_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "folder").touch()
    with pytest.raises(UnavailableError, match="must take a record"):
        OutcomeFileSink(tmp_path / "folder", "line-1").deliver(an_outcome())


def test_a_file_has_one_writer(tmp_path: Path, sinks: list[OutcomeFileSink]) -> None:
    sinks += [OutcomeFileSink(tmp_path, "line-1"), OutcomeFileSink(tmp_path, "line-1")]
    sinks[0].deliver(an_outcome("a"))
    with pytest.raises(UnavailableError, match="must have one writer"):
        sinks[1].deliver(an_outcome("b"))
    sinks[0].close()
    sinks[1].deliver(an_outcome("b"))
    assert len(_jsonl(tmp_path)) == 2


def test_a_csv_file_with_another_header_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "line-1-20261126.csv"
    path.write_text("when,what\n")
    with pytest.raises(UnavailableError, match="this release's header"):
        OutcomeFileSink(tmp_path, "line-1", "csv").deliver(an_outcome())
    assert path.read_text() == "when,what\n"


def test_every_record_is_on_the_disk_before_its_delivery_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(outcomefile.os, "fsync", lambda file: (synced.append(file), real(file)))
    sink = OutcomeFileSink(tmp_path, "line-1")
    sink.deliver(an_outcome("a"))
    before = len(synced)
    sink.deliver(an_outcome("b"))
    assert len(synced) == before + 1
    sink.close()


def test_a_line_or_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="line_id must start"):
        OutcomeFileSink(tmp_path, "../line")
    with pytest.raises(InvalidInputError, match="format must be jsonl or csv"):
        OutcomeFileSink(tmp_path, "line-1", "xml")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="must be >= 1"):
        OutcomeFileSink(tmp_path, "line-1", remembered=0)
