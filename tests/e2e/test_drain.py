"""A service that is stopped in the middle of the stream, and comes back, loses and doubles nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.feeds import simulated_feed
from services.local.line import Line, LinePlan
from services.local.tally import Tally
from tests.support.plant import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

FRAMES = 160


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    config = simulated_feed(tmp_path / "ingest.yaml", frames=FRAMES, rate_fps=15)
    # Cases come faster than two cores explain them all in full.
    fast = {"POLICY__FAST_ABOVE_CASES": "4", "BUDGET__CASE_S": "2"}
    line = Line(LinePlan(data=tmp_path / "data", ingest_config=config, engine="memory", settings={"explainer": fast}))
    try:
        line.start()
        yield line
    finally:
        line.stop()


@pytest.mark.parametrize("service", ["detector", "explainer", "ingest"])
def test_sigterm_mid_stream_loses_and_doubles_nothing(line: Line, service: str) -> None:
    tally = Tally(line.servers.kafka)
    line.start_ingest()
    assert tally.wait_for(FRAMES // 4, 60)
    member = line.members[service]
    member.process.terminate()
    assert member.process.wait(30)
    assert member.process.returncode == 0, member.process.log_tail()
    member.start()
    # All verdicts may be there before it is: what is told to stop while it still starts has nothing to drain.
    wait_until(member.ready, what=f"{service} ready again")
    assert tally.wait_for(FRAMES, 60), tally.outcome(FRAMES)
    stopped: dict[str, bool] = {}
    drained = line.stop_services(stopped.__setitem__, ("ingest", "detector"))
    assert tally.wait_for_explained(60), tally.outcome(FRAMES)
    drained &= line.stop_services(stopped.__setitem__)
    logs = {name: line.members[name].process.log_tail() for name, gracefully in stopped.items() if not gracefully}
    assert drained, logs
    tally.read_to_end()
    outcome = tally.outcome(FRAMES)
    tally.close()
    assert outcome.clean, outcome
    assert outcome.verdicts == FRAMES
