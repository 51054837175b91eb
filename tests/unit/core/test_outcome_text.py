from __future__ import annotations

import csv
import datetime
import io
import json
import math

from services.core.line_event import Light, LineEventKind
from services.core.outcome_text import (
    LINE_EVENT_COLUMNS,
    OUTCOME_COLUMNS,
    iso_utc,
    line_event_json,
    line_event_row,
    outcome_json,
    outcome_row,
    told_bytes,
    told_id,
    utc_day,
)
from tests.support.told import BEGAN_AT_NS, a_light, an_event, an_outcome


def test_an_outcome_says_what_it_is_and_every_time_twice() -> None:
    said = outcome_json(an_outcome())
    assert (said["schema"], said["kind"], said["verdict"], said["reason"]) == (1, "outcome", "fail", "views")
    assert said["began_at_ns"] == BEGAN_AT_NS
    assert said["began_at"] == "2026-11-26T21:00:00.123456Z"
    assert said["missing_cameras"] == ["cam-3"]


def test_a_score_that_is_no_number_and_a_deadline_that_is_none_are_null() -> None:
    said = json.loads(told_bytes(an_outcome(deadline_at_ns=0)))
    assert [view["score"] for view in said["views"]] == [0.75, None]
    assert said["deadline_at_ns"] is None
    assert said["deadline_at"] is None


def test_every_event_of_every_kind_is_json_on_one_line() -> None:
    for kind in LineEventKind:
        data = told_bytes(an_event(kind, detail="two\nlines"))
        assert b"\n" not in data
        assert json.loads(data)["event"] == kind.value


def test_an_event_without_verdict_and_light_has_null_for_both() -> None:
    said = line_event_json(an_event(LineEventKind.HEARTBEAT_LOST, verdict=None))
    assert said["verdict"] is None
    assert said["light"] is None
    assert line_event_json(a_light(Light.RED))["light"] == "red"


def test_equal_ones_give_equal_bytes_and_ids_tell_revisions_apart() -> None:
    assert told_bytes(an_outcome()) == told_bytes(an_outcome())
    assert told_id(an_outcome(revision=1)) != told_id(an_outcome(revision=2))


def test_rows_have_a_cell_for_each_column_on_one_line_and_no_formula() -> None:
    row = outcome_row(an_outcome(detail="=HYPERLINK(1)\r\nnext\x0bline"))
    assert len(row) == len(OUTCOME_COLUMNS)
    cells = dict(zip(OUTCOME_COLUMNS, row, strict=True))
    assert cells["detail"] == "'=HYPERLINK(1) next line"
    assert cells["views"] == "cam-1=fail cam-2=review"
    assert (cells["in_time"], cells["deadline_at"]) == ("true", "2026-11-26T21:00:00.323456Z")
    assert len(line_event_row(an_event())) == len(LINE_EVENT_COLUMNS)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    assert text.getvalue().count("\n") == 1


def test_an_iso_time_is_read_back_to_the_microsecond() -> None:
    read = datetime.datetime.fromisoformat(iso_utc(BEGAN_AT_NS))
    assert math.isclose(read.timestamp(), BEGAN_AT_NS / 1e9, abs_tol=1e-6)
    assert iso_utc(1) == "1970-01-01T00:00:00.000000Z"


def test_a_day_is_that_of_utc() -> None:
    assert utc_day(BEGAN_AT_NS) == "20261126"
    assert utc_day(BEGAN_AT_NS + 3 * 3600 * 1_000_000_000) == "20261127"
