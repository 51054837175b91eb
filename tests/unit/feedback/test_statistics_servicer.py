"""Statistics over a real port: a client asks, the service puts together what its index has."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from sightline.v1 import statistics_service_pb2, statistics_service_pb2_grpc

from services.adapters.caseindex import SqlCaseIndex
from services.adapters.caseoutcomes import SqlCaseOutcomes
from services.adapters.ports import TopicPartition, VerdictToCount
from services.adapters.statisticsclient import StatisticsClient
from services.adapters.verdictcounts import SqlVerdictCounts
from services.core.errors import InvalidInputError, UnavailableError
from services.core.escape_rate import share_interval
from services.core.shift import parse_shift_plan
from services.core.statistics import GroupBy, Inspected, OutcomeTally, Span, StatisticsFilter, VerdictTally
from services.core.types import Verdict
from services.feedback.statistics import Statistics
from services.feedback.statistics_servicer import StatisticsServicer
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.settings import GrpcSettings
from tests.support.cases import SECOND_NS, START_NS, queued_case, review, wrong

START_S = START_NS // SECOND_NS // 900 * 900
SINCE_NS, UNTIL_NS = START_S * SECOND_NS, (START_S + 7_200) * SECOND_NS
ALL = StatisticsFilter()
PLAN = parse_shift_plan("early 06:00-14:00, night 22:00-06:00", "Europe/Berlin")


class Service:
    """The statistics at a port."""

    def __init__(self) -> None:
        self.index = SqlCaseIndex("sqlite://")
        self.counts = SqlVerdictCounts(self.index.database)
        statistics = Statistics(
            self.counts,
            SqlCaseOutcomes(self.index.database),
            PLAN,
            merge_after_days=7,
            keep_days=400,
            clock_ns=lambda: UNTIL_NS,
        )
        self.server = GrpcServer(GrpcSettings(port=0), Health())
        name = statistics_service_pb2.DESCRIPTOR.services_by_name["StatisticsService"].full_name
        self.server.add(
            statistics_service_pb2_grpc.add_StatisticsServiceServicer_to_server, StatisticsServicer(statistics), name
        )
        self.server.start()
        self.client = StatisticsClient(f"127.0.0.1:{self.server.port}")

    def stop(self) -> None:
        self.client.close()
        self.server.stop(0)
        self.index.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Two hours of one camera: 300 inspections, cases of them and what people said."""
    made = Service()
    said = [Verdict.FAIL] * 30 + [Verdict.REVIEW] * 10 + [Verdict.PASS] * 260
    partition = TopicPartition("verdicts", 0)
    of = Inspected("line-1", "cam-1", "disc", "default", 1)
    made.counts.add(
        [
            VerdictToCount(partition, n, n, of, START_S + 20 * n, verdict, in_time=n % 100 > 0)
            for n, verdict in enumerate(said)
        ]
    )
    fails = [queued_case(n, Verdict.FAIL) for n in range(10)]
    audits = [queued_case(100 + n, Verdict.PASS, sampling_probability=0.1) for n in range(26)]
    made.index.add_cases([*fails, *audits])
    for one in (review(fails[0]), wrong(fails[1]), *(review(case) for case in audits[:19]), wrong(audits[19])):
        made.index.add_review(one, published=True)
    yield made
    made.stop()


def test_figures_come_whole_over_the_wire(service: Service) -> None:
    table = service.client.table(ALL, SINCE_NS, UNTIL_NS, GroupBy.CAMERA)
    assert table.span == Span(START_S, START_S + 7_200)
    assert table.kept_since_s == UNTIL_NS // SECOND_NS - 400 * 86_400
    (row,) = table.rows
    assert (row.key.name, row.key.line_id) == ("cam-1", "line-1")
    assert row.verdicts == VerdictTally(passed=260, failed=30, review=10, late=3)
    assert (row.defect_rate, row.first_pass_yield) == (0.1, pytest.approx(260 / 300))
    assert row.outcomes == OutcomeTally(reviewed=22, fails_reviewed=2, false_rejects=1, escapes=1)
    audit = row.audit
    assert (audit.drawn, audit.reviewed, audit.escapes, audit.undecided, audit.covered) == (26, 20, 1, 0, 1.0)
    assert audit.rate == pytest.approx(1 / 20)
    assert (audit.low, audit.high) == pytest.approx(share_interval(1, 20))
    assert table.total.verdicts == row.verdicts


def test_nothing_counted_comes_without_rates(service: Service) -> None:
    table = service.client.table(StatisticsFilter(line_id="line-9"), SINCE_NS, UNTIL_NS, GroupBy.LINE)
    assert table.rows == ()
    assert (table.total.defect_rate, table.total.first_pass_yield) == (None, None)
    assert table.total.audit.rate != table.total.audit.rate
    assert table.total.audit.covered != table.total.audit.covered


@pytest.mark.parametrize("group_by", list(GroupBy))
def test_every_grouping_has_the_same_total(service: Service, group_by: GroupBy) -> None:
    table = service.client.table(ALL, SINCE_NS, UNTIL_NS, group_by, span_s=900)
    assert table.total.verdicts.inspections == 300
    assert sum(row.verdicts.inspections for row in table.rows) == 300
    assert sum(row.outcomes.reviewed for row in table.rows) == table.total.outcomes.reviewed == 22
    assert sum(row.audit.drawn for row in table.rows) == 26


def test_the_plan_and_the_moment_s_shift_are_told(service: Service) -> None:
    # 2026-11-26 03:30 in Berlin: the night that began the evening before.
    moment_ns = 1_795_660_200 * SECOND_NS
    view = service.client.shifts(moment_ns)
    assert [(one.name, one.begins_min, one.ends_min) for one in view.shifts] == [
        ("early", 360, 840),
        ("night", 1_320, 360),
    ]
    assert (view.time_zone, view.shift) == ("Europe/Berlin", "night")
    assert view.shift_ends_s - view.shift_begins_s == 8 * 3_600
    assert view.day_begins_s == 1_795_660_200 - 12_600
    between = service.client.shifts((1_795_660_200 + 13 * 3_600) * SECOND_NS)
    assert (between.shift, between.shift_begins_s, between.shift_ends_s) == ("", 0, 0)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (StatisticsFilter(line_id="no such/line"), "line_id must"),
        (StatisticsFilter(alias="No Alias"), "alias"),
        (StatisticsFilter(model_version=-1), "model_version must be >= 0"),
    ],
)
def test_a_filter_that_breaks_a_rule_is_refused(service: Service, where: StatisticsFilter, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        service.client.table(where, SINCE_NS, UNTIL_NS, GroupBy.LINE)


@pytest.mark.parametrize(
    ("since_ns", "until_ns", "span_s", "said"),
    [
        (UNTIL_NS, SINCE_NS, 900, "before until"),
        (0, UNTIL_NS, 900, "at most 800 days"),
        (-1, UNTIL_NS, 900, "since_ns must be >= 0"),
        (SINCE_NS, 2**63 - 1, 900, "at most 800 days"),
        (SINCE_NS, UNTIL_NS, 10, "multiple of 300"),
    ],
)
def test_a_time_that_breaks_a_rule_is_refused(
    service: Service, since_ns: int, until_ns: int, span_s: int, said: str
) -> None:
    with pytest.raises(InvalidInputError, match=said):
        service.client.table(ALL, since_ns, until_ns, GroupBy.SPAN, span_s=span_s)


def test_a_grouping_of_another_release_is_refused(service: Service) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{service.server.port}") as channel:
        stub = statistics_service_pb2_grpc.StatisticsServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="group_by must be a value of the protocol"):
            stub.GetStatistics(
                statistics_service_pb2.GetStatisticsRequest(since_ns=SINCE_NS, until_ns=UNTIL_NS, group_by=99)
            )


def test_a_service_that_is_away_is_unavailable() -> None:
    gone = StatisticsClient("127.0.0.1:1")
    with pytest.raises(UnavailableError):
        gone.shifts(timeout_s=2)
    gone.close()
