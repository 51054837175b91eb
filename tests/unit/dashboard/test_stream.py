from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

import pytest

from services.adapters.codec_line import line_state_from_message
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex, kept
from services.dashboard.lines import LineBoard, Lines
from services.dashboard.linestate import LineStates, line_state_json
from services.dashboard.live import LiveBounds, LiveModel
from services.dashboard.outcomes import OutcomeBook
from services.dashboard.settings import LiveSettings
from services.dashboard.stream import EventStreamResponse, LiveStream
from tests.support.explained import explained_case, explanation
from tests.support.lines import line_state, outcome
from tests.unit.dashboard.inspections import NOW_NS, inspection

FAST = LiveSettings(batch_interval_s=0.05, stats_interval_s=60)


class Event:
    def __init__(self, raw: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in raw.decode().strip().split("\n"))
        self.id = fields.get("id", "")
        self.name = fields.get("event", "")
        self.data = json.loads(fields.get("data", "null"))


class Line:
    def __init__(self, max_log: int = 100, states: LineStates | None = None) -> None:
        self.model = LiveModel(LiveBounds(max_log=max_log))
        self.board = ComponentBoard(["kafka"])
        self.explanations = ExplanationIndex(max_cases=100, max_bytes=1_000_000)
        self.line_board, self.book = LineBoard(), OutcomeBook()
        self.lines = Lines(states, self.line_board, self.book)
        self.stream = LiveStream(self.model, self.board, self.explanations, self.lines, FAST, clock_ns=lambda: NOW_NS)

    def add(self, *numbers: int, **changes: Any) -> None:
        self.model.add([inspection(number, **changes) for number in numbers], NOW_NS)


async def read(events: AsyncGenerator[bytes, None], name: str) -> Event:
    async with asyncio.timeout(5):
        async for raw in events:
            if raw.startswith(b"retry"):
                continue
            event = Event(raw)
            if event.name == name:
                return event
    raise AssertionError(f"the stream ended without {name}")


def test_a_new_browser_gets_everything_then_what_is_new() -> None:
    async def scenario() -> None:
        line = Line()
        line.add(1)
        events = line.stream.events("", None)
        snapshot = await read(events, "snapshot")
        assert snapshot.data["lines"][0]["cameras"][0]["latest"][0]["part_id"] == "part-1"
        assert snapshot.data["components"][0]["state"] == "unknown"
        line.add(2, 3)
        batch = await read(events, "batch")
        assert [one["part_id"] for one in batch.data["verdicts"]] == ["part-2", "part-3"]
        assert batch.id.endswith("-3")
        await events.aclose()

    asyncio.run(scenario())


def test_a_browser_that_comes_back_gets_what_it_missed_and_no_more() -> None:
    async def scenario() -> None:
        line = Line()
        line.add(1, 2)
        seen = (await read(line.stream.events("", None), "snapshot")).id
        line.add(3)
        batch = await read(line.stream.events(seen, None), "batch")
        assert [one["part_id"] for one in batch.data["verdicts"]] == ["part-3"]

    asyncio.run(scenario())


def test_a_browser_that_was_away_too_long_or_sends_nonsense_gets_a_snapshot() -> None:
    async def scenario() -> None:
        line = Line(max_log=2)
        line.add(1)
        seen = (await read(line.stream.events("", None), "snapshot")).id
        line.add(2, 3, 4)
        for last_event_id in (seen, "other-1", "nonsense", f"{seen}9999", f"{seen.split('-', maxsplit=1)[0]}-²"):
            assert (await read(line.stream.events(last_event_id, None), "snapshot")).data["revision"] == 4

    asyncio.run(scenario())


def test_one_line_s_stream_says_nothing_of_the_others() -> None:
    async def scenario() -> None:
        line = Line()
        events = line.stream.events("", "line-1")
        await read(events, "snapshot")
        line.add(1, line_id="line-2", camera="cam-2")
        line.add(2)
        batch = await read(events, "batch")
        assert [one["line_id"] for one in batch.data["verdicts"]] == ["line-1"]
        await events.aclose()

    asyncio.run(scenario())


def test_draining_says_goodbye_and_ends_every_stream() -> None:
    async def scenario() -> None:
        line = Line()
        events = line.stream.events("", None)
        await read(events, "snapshot")
        assert line.stream.open_streams == 1
        await asyncio.to_thread(line.stream.drain)
        assert (await read(events, "bye")).data == {}
        assert [chunk async for chunk in events] == []
        assert line.stream.open_streams == 0

    asyncio.run(scenario())


def test_a_browser_that_takes_nothing_is_disconnected_and_its_stream_closed() -> None:
    closed = []

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: x\n\n"
        finally:
            closed.append(True)

    async def scenario() -> None:
        async def receive() -> MutableMapping[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        async with asyncio.timeout(5):
            await EventStreamResponse(endless(), send_timeout_s=0.05)({"type": "http"}, receive, send)

    asyncio.run(scenario())
    assert closed == [True]


def test_a_browser_that_leaves_ends_its_stream() -> None:
    async def scenario() -> None:
        line = Line()

        async def receive() -> MutableMapping[str, Any]:
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            del message

        async with asyncio.timeout(5):
            await EventStreamResponse(line.stream.events("", None), 5)({"type": "http"}, receive, send)
        assert line.stream.open_streams == 0

    asyncio.run(scenario())


def test_explanations_are_announced_when_they_come_and_not_before() -> None:
    async def scenario() -> None:
        line = Line()
        first, second = inspection(1), inspection(2)
        line.explanations.add([kept(explained_case(first, [explanation()]))])
        events = line.stream.events("", None)
        await read(events, "snapshot")
        line.explanations.add([kept(explained_case(second, [explanation()]))])
        assert (await read(events, "explained")).data == {"frame_ids": [second.frame_id]}
        await events.aclose()

    asyncio.run(scenario())


class NobodyAsked:
    """An outcome service that is set and not asked here."""

    def lines(self) -> list[Any]:
        raise NotImplementedError

    def acknowledge(self, *call: object) -> Any:
        raise NotImplementedError(call)

    def begin_reference_check(self, *call: object) -> Any:
        raise NotImplementedError(call)


def test_every_page_is_told_of_a_light_at_once_whatever_line_its_wall_shows() -> None:
    async def scenario() -> None:
        line = Line(states=NobodyAsked())
        events = line.stream.events("", "line-z")
        first = await read(events, "lines")
        assert (first.data["offered"], first.data["known"], first.data["lines"]) == (True, False, [])
        line.line_board.take([line_state_json(line_state_from_message(line_state()))])
        told = (await read(events, "lines")).data
        assert told["lines"][0]["light"] == "red"
        assert told["lines"][0]["alarms"][0]["rule"] == "fails-in-a-row"
        line.line_board.say_away("no answer")
        gone = (await read(events, "lines")).data
        assert gone["away"]["detail"] == "no answer"
        assert gone["lines"] == told["lines"]
        await events.aclose()

    asyncio.run(scenario())


def test_a_new_answer_is_told_with_its_line() -> None:
    async def scenario() -> None:
        line = Line(states=NobodyAsked())
        line.line_board.take([line_state_json(line_state_from_message(line_state()))])
        events = line.stream.events("", None)
        assert (await read(events, "lines")).data["lines"][0]["newest"] is None
        line.book.add([outcome("part-7")])
        newest = (await read(events, "lines")).data["lines"][0]["newest"]
        assert newest["part_id"] == "part-7"
        await events.aclose()

    asyncio.run(scenario())


def test_without_an_outcome_service_nothing_is_told_of_lines() -> None:
    async def scenario() -> None:
        line = Line()
        line.book.add([outcome("part-7")])
        names = set()
        async with asyncio.timeout(5):
            async for raw in line.stream.events("", None):
                names.add(raw.split(b"\n")[0])
                if b"event: stats" in raw:
                    line.stream.drain()
        assert b"event: lines" not in names

    asyncio.run(scenario())


def test_ages_and_counts_of_a_line_on_which_nothing_happens_are_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.dashboard.stream._LINES_EVERY_S", 0.1)

    async def scenario() -> None:
        line = Line(states=NobodyAsked())
        line.line_board.take([line_state_json(line_state_from_message(line_state()))])
        events = line.stream.events("", None)
        for _ in range(3):
            assert (await read(events, "lines")).data["lines"][0]["connections"][1]["oldest_waiting_ms"] == 93_000
        await events.aclose()

    asyncio.run(scenario())


def test_streams_are_counted_by_person_while_they_are_open() -> None:
    async def scenario() -> None:
        line = Line()
        first, second = line.stream.events("", None, "ada"), line.stream.events("", None, "ada")
        for events in (first, second):
            await read(events, "snapshot")
        assert line.stream.by_person == {"ada": 2}
        await first.aclose()
        assert line.stream.by_person == {"ada": 1}
        await second.aclose()
        assert not line.stream.by_person

    asyncio.run(scenario())
