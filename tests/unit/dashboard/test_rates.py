"""Shares of requests: taken, given back with time, and each person's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.dashboard.access_table import COSTS, RULES
from services.dashboard.rates import Rates, TooManyRequestsError
from services.dashboard.stream import LiveStream
from tests.unit.dashboard.signing import Browser, SignedSite


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_ten_seconds_worth_may_come_at_once_and_comes_back_with_time() -> None:
    clock = Clock()
    rates = Rates(2.0, clock_s=clock)
    for _ in range(20):
        rates.take("ada", 1)
    with pytest.raises(TooManyRequestsError, match="at most 2 requests a second") as refused:
        rates.take("ada", 1)
    assert refused.value.wait_s == 1
    clock.now_s += 0.5
    rates.take("ada", 1)
    clock.now_s += 1_000
    for _ in range(20):
        rates.take("ada", 1)
    with pytest.raises(TooManyRequestsError):
        rates.take("ada", 1)


def test_what_is_refused_takes_nothing_and_says_when_it_will_be_let_in() -> None:
    clock = Clock()
    rates = Rates(1.0, clock_s=clock)
    rates.take("ada", 4)
    with pytest.raises(TooManyRequestsError) as refused:
        rates.take("ada", 9)
    assert refused.value.wait_s == 3
    rates.take("ada", 6)
    rates.take("bob", 9)


def test_a_cost_above_a_whole_share_takes_all_of_it() -> None:
    rates = Rates(1.0, clock_s=Clock())
    rates.take("ada", 100)
    with pytest.raises(TooManyRequestsError):
        rates.take("ada", 1)


def test_shares_are_kept_for_so_many_and_the_longest_unused_go() -> None:
    rates = Rates(1.0, clock_s=Clock())
    for number in range(10_001):
        rates.take(str(number), 10)
    with pytest.raises(TooManyRequestsError):
        rates.take("1", 1)
    rates.take("0", 10)


def test_every_cost_is_of_an_address() -> None:
    assert set(COSTS) <= {(rule.method, rule.path.removeprefix("/api/v1")) for rule in RULES}
    assert {rule.cost for rule in RULES} == {1, *COSTS.values()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SignedSite]:
    made = SignedSite(tmp_path, requests_per_s=10)
    # No time passes, however long the machine takes.
    made.context.rates._clock_s = Clock()
    yield made
    made.close()


def statuses(browser: Browser, path: str, count: int) -> list[int]:
    return [browser.get(path).status_code for _ in range(count)]


def test_somebody_who_asks_too_much_is_told_to_wait_and_keeps_nobody_else_from_the_line(site: SignedSite) -> None:
    olga, emil = site.browser("Olga"), site.browser("Emil")
    told = statuses(olga, "/session", 130)
    assert told[:90] == [200] * 90
    assert told[-1] == 429
    refused = olga.get("/wall")
    assert refused.status_code == 429
    assert refused.json()["error"]["reason"] == "too_many_requests"
    assert int(refused.headers["retry-after"]) >= 1
    assert emil.get("/wall").status_code == 200


def test_what_costs_more_is_had_less_often_also_where_it_is_refused(site: SignedSite) -> None:
    emil = site.browser("Emil")
    assert 429 not in statuses(emil, "/exports?layout=coco", 1)
    assert emil.get("/exports?layout=coco").status_code == 429
    # Attempts at what one may not do are written down, so they have their bound before that.
    olga = site.browser("Olga")
    told = statuses(olga, "/audit", 130)
    assert told[0] == 403
    assert told[-1] == 429
    assert len([one for one in site.audited() if one[0] == "Olga" and one[3] == "refused"]) < 130


def test_one_person_s_streams_leave_room_for_others(site: SignedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    stream: LiveStream = site.context.stream
    stream.by_person["Olga"] = site.context.settings.web.max_streams_per_person
    refused = site.browser("Olga").get("/stream")
    assert refused.status_code == 503
    assert "of one person" in refused.text
    assert stream.by_person["Emil"] < site.context.settings.web.max_streams_per_person
