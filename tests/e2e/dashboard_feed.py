"""A pretended line for looking at the dashboard: the real web application over in-memory ports.

Parts are drawn by the simulated line, verdicts are made up from the parts' truth (nothing is inferred). Run
``python -m tests.e2e.dashboard_feed`` and open the printed address; browser tests use :class:`DashboardUnderTest`.
"""

from __future__ import annotations

import argparse
import math
import random
import socket
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from services.adapters.accounts import Accounts
from services.adapters.changesclient import ChangesClient
from services.adapters.codec import encode_frame, encode_inspection
from services.adapters.codec_explained import encode_explained_case
from services.adapters.explainerclient import ExplainCall
from services.adapters.feedbackclient import FeedbackClient
from services.adapters.memory import (
    MemoryBroker,
    MemoryObjectStore,
    MemoryRecordFetcher,
    MemoryTopicReader,
)
from services.adapters.statisticsclient import StatisticsClient
from services.core import topics
from services.core.errors import SightlineError, UnavailableError
from services.core.identity import derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.simulation.line import PRODUCTS, draw_part
from services.core.types import (
    Explanation,
    ExplanationStatus,
    Frame,
    Grade,
    Inspection,
    OperatingPoint,
    Reason,
    StageTimings,
    Verdict,
)
from services.dashboard.app import STATIC_DIR, explanation_index, live_bounds, make_app, make_context
from services.dashboard.bulk import CaseSearch
from services.dashboard.components import ComponentBoard, ComponentPoller, Reading, State, call_check
from services.dashboard.exporting import ExportService
from services.dashboard.feed import KAFKA, ExplanationFeed, VerdictFeed
from services.dashboard.lines import Lines
from services.dashboard.live import LiveModel
from services.dashboard.models import ModelBoard
from services.dashboard.settings import DashboardSettings
from services.dashboard.training import TrainerService
from services.runtime.lifecycle import Health, Shutdown
from tests.support.explained import explained_case, explanation

OPERATING_POINT = OperatingPoint(threshold=0.62, review_low=0.55, review_high=0.68)
CYCLE_TIME_MS = 250


@dataclass(frozen=True)
class DemoCamera:
    """One pretended camera."""

    line_id: str
    camera_id: str
    product: str
    view: int


DEMO_CAMERAS = (
    DemoCamera("line-a", "line-a-top", PRODUCTS[0], 0),
    DemoCamera("line-a", "line-a-side", PRODUCTS[0], 1),
    DemoCamera("line-b", "line-b-top", PRODUCTS[-1], 0),
    DemoCamera("line-b", "line-b-side", PRODUCTS[-1], 1),
)


class RefiningExplainer:
    """An explainer service that refines a made-up map in a few steps, at the pace that it is told.

    Attributes:
        steps: How many maps it sends.
        pause_s: Wait before each.
        result: The last map, its method aside.
        error: Raised in place of the last map.
        cancelled: How many calls were ended by their caller before the last map.
    """

    def __init__(self) -> None:
        self.steps = 5
        self.pause_s = 0.1
        self.result = explanation("rise", grade=Grade.C, trust=0.41, passes=400, stability=0.88)
        self.error: SightlineError | None = None
        self.cancelled = 0

    def explain(self, call: ExplainCall, timeout_s: float) -> _RefiningAnswers:
        """Begin."""
        del timeout_s
        return _RefiningAnswers(self, call.method)


class _RefiningAnswers:
    def __init__(self, service: RefiningExplainer, method: str) -> None:
        self._service = service
        self._method = method
        self._sent = 0
        self._ended = threading.Event()

    def next(self) -> tuple[Explanation, bool] | None:
        service = self._service
        if self._ended.wait(service.pause_s):
            return None
        self._sent += 1
        if self._sent < service.steps:
            part = self._sent / service.steps
            unproven = {"grade": None, "trust": 0.0, "deletion_auc": math.nan, "insertion_auc": math.nan}
            refining = replace(
                service.result,
                method=self._method,
                status=ExplanationStatus.PARTIAL,
                passes=int(service.result.passes * part),
                stability=service.result.stability * part,
                **unproven,  # type: ignore[arg-type]
            )
            return refining, False
        if service.error is not None:
            raise service.error
        return replace(service.result, method=self._method), True

    def cancel(self) -> None:
        if not self._ended.is_set() and self._sent < self._service.steps:
            self._service.cancelled += 1
        self._ended.set()


class DashboardUnderTest:
    """The dashboard on a free port, with switches for what can go wrong."""

    def __init__(
        self,
        cameras: tuple[DemoCamera, ...] = DEMO_CAMERAS,
        *,
        pictures: int = 12,
        defect_rate: float = 0.25,
        seed: int = 7,
        static_dir: Path = STATIC_DIR,
        port: int = 0,
        explainer: RefiningExplainer | None = None,
        feedback: FeedbackClient | None = None,
        statistics: StatisticsClient | None = None,
        models: ModelBoard | None = None,
        changes: ChangesClient | None = None,
        trainer: TrainerService | None = None,
        lines: Lines | None = None,
        store: MemoryObjectStore | None = None,
        broker: MemoryBroker | None = None,
        exports: ExportService | None = None,
        search: CaseSearch | None = None,
        accounts: Accounts | None = None,
        **settings: object,
    ) -> None:
        self.broker = broker or MemoryBroker()
        self.store = store or MemoryObjectStore()
        self.shutdown = Shutdown()
        self.health = Health()
        self.settings = DashboardSettings(web={"port": port}, **settings)
        self.model = LiveModel(live_bounds(self.settings))
        self.explanations = explanation_index(self.settings, time.time_ns())
        self.board = ComponentBoard([KAFKA, "object_store", "detector", "triton"])
        self.detector = Reading(State.UP)
        self.triton = Reading(State.UP)
        self.cameras = cameras
        self._random = random.Random(seed)
        self._part = 0
        self._sequence = dict.fromkeys(cameras, 0)
        self._drawn = {
            (camera.product, camera.view): [
                (part.defect_class, encode_jpeg(part.image, 90))
                for part in (
                    draw_part(camera.product, 100 + number, defect_rate=defect_rate, view=camera.view)
                    for number in range(pictures)
                )
            ]
            for camera in cameras
        }
        self._context = make_context(
            self.settings,
            model=self.model,
            board=self.board,
            store=self.store,
            fetcher=MemoryRecordFetcher(self.broker),
            open_reader=self._open_reader,
            explanations=self.explanations,
            open_explained=self._open_explained,
            explainer=explainer,
            feedback=feedback,
            exports=exports,
            search=search,
            statistics=statistics,
            models=models,
            changes=changes,
            trainer=trainer,
            lines=lines,
            accounts=accounts,
            version="0.0.0-test",
            static_dir=static_dir,
        )
        self._socket = socket.create_server((self.settings.web.host, self.settings.web.port))
        config = uvicorn.Config(
            make_app(self._context), log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def start(self) -> DashboardUnderTest:
        """Serve, and follow the broker."""
        feed = VerdictFeed(
            self._open_reader,
            self._probe_broker,
            self.model,
            self.board,
            self.health,
            lookback_s=300,
        )
        checks = {
            "object_store": call_check(lambda: self.store.exists("health")),
            "detector": lambda: self.detector,
            "triton": lambda: self.triton,
        }
        poller = ComponentPoller(self.board, checks, interval_s=0.3)
        self._run("web", lambda: self._server.run(sockets=[self._socket]))
        self._run("feed", lambda: feed.run(self.shutdown))
        explained = ExplanationFeed(self._open_explained, self.explanations, lookback_s=300)
        self._run("explanations", lambda: explained.run(self.shutdown))
        self._run("components", lambda: poller.run(self.shutdown))
        deadline_s = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > deadline_s:
                raise TimeoutError("the web server must start within 10 s")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End everything that was started."""
        self.shutdown.request()
        self._context.stream.drain()
        self._server.should_exit = True
        for thread in self._threads:
            thread.join(timeout=10)
        self._context.picture_pool.shutdown()
        self._context.on_demand.close()
        self._context.training.close()
        self._context.lines.close()
        self._context.signing.close()
        self._socket.close()

    def publish_part(self, **changes: object) -> list[Inspection]:
        """Let one part pass every camera of its line; lines take turns.

        Args:
            changes: Fields of the verdicts to set otherwise.

        Returns:
            The verdicts that were written.
        """
        lines = list(dict.fromkeys(camera.line_id for camera in self.cameras))
        line_id = lines[self._part % len(lines)]
        number = self._random.randrange(len(next(iter(self._drawn.values()))))
        self._part += 1
        here = [camera for camera in self.cameras if camera.line_id == line_id]
        return [self._publish(camera, f"part-{self._part:06d}", number, changes) for camera in here]

    def publish_explained(self, inspection: Inspection, *explanations: Explanation, agreement: float = 0.68) -> None:
        """Write what explains a verdict to its topic."""
        value = encode_explained_case(explained_case(inspection, explanations, agreement=agreement))
        self.broker.append(topics.EXPLAINED, key=inspection.camera_id.encode(), value=value)

    def publish_history(self, parts: int, span_s: float) -> None:
        """Let parts have passed over the last ``span_s`` seconds."""
        start_ns = time.time_ns() - int(span_s * 1e9)
        for index in range(parts):
            self.publish_part(captured_at_ns=start_ns + int(index * span_s * 1e9 / parts))

    def _publish(self, camera: DemoCamera, part_id: str, number: int, changes: dict[str, object]) -> Inspection:
        defect_class, image = self._drawn[camera.product, camera.view][number]
        self._sequence[camera] += 1
        sequence = self._sequence[camera]
        captured_at_ns = int(changes.get("captured_at_ns", time.time_ns() - 60_000_000))  # type: ignore[call-overload]
        frame = Frame(
            frame_id=derive_frame_id(camera.camera_id, part_id, sequence, captured_at_ns),
            part_id=part_id,
            line_id=camera.line_id,
            camera_id=camera.camera_id,
            product=camera.product,
            sequence=sequence,
            captured_at_ns=captured_at_ns,
            cycle_time_ms=CYCLE_TIME_MS,
        )
        inspection = self._judge(frame, defect_class)
        if camera.view % 2:
            position = self.broker.append(
                topics.FRAMES, key=camera.camera_id.encode(), value=encode_frame(replace(frame, image=image))
            )
            inspection = replace(inspection, position=position)
        else:
            ref = self.store.put(f"frames/{frame.line_id}/{frame.camera_id}/{frame.frame_id}.jpg", image)
            inspection = replace(inspection, image_ref=ref)
        inspection = replace(inspection, **changes)
        self.broker.append(topics.VERDICTS, key=part_id.encode(), value=encode_inspection(inspection))
        return inspection

    def _judge(self, frame: Frame, defect_class: str) -> Inspection:
        shape = (7.0, 2.2) if defect_class else (1.7, 8.0)
        score = self._random.betavariate(*shape)
        verdict, reason = Verdict.PASS, Reason.SCORE
        if OPERATING_POINT.review_low <= score < OPERATING_POINT.review_high:
            verdict, reason = Verdict.REVIEW, Reason.UNSURE
        elif score >= OPERATING_POINT.review_high:
            verdict = Verdict.FAIL
        queue, fetch, decode = (self._random.uniform(low, high) for low, high in ((4, 22), (1, 5), (2, 5)))
        infer = self._random.lognormvariate(3.2, 0.5)
        total = queue + fetch + decode + infer
        return Inspection(
            frame_id=frame.frame_id,
            part_id=frame.part_id,
            line_id=frame.line_id,
            camera_id=frame.camera_id,
            product=frame.product,
            sequence=frame.sequence,
            captured_at_ns=frame.captured_at_ns,
            decided_at_ns=frame.captured_at_ns + int(total * 1e6),
            verdict=verdict,
            reason=reason,
            score=score,
            operating_point=OPERATING_POINT,
            uncertainty=max(0.0, 1 - abs(score - OPERATING_POINT.threshold) * 3),
            alias="default",
            model_version=3,
            defect_class=defect_class if verdict is not Verdict.PASS else "",
            cycle_time_ms=CYCLE_TIME_MS,
            in_time=total <= CYCLE_TIME_MS,
            timings=StageTimings(queue, fetch, decode, infer, total),
        )

    def _open_reader(self) -> MemoryTopicReader:
        return MemoryTopicReader(self.broker, [topics.VERDICTS])

    def _open_explained(self) -> MemoryTopicReader:
        return MemoryTopicReader(self.broker, [topics.EXPLAINED])

    def _probe_broker(self) -> None:
        if self.broker.unavailable:
            raise UnavailableError("a broker must answer at 127.0.0.1:9092, got no answer")

    def _run(self, name: str, target: object) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)


def main() -> None:
    """Serve the pretended line until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rate", type=float, default=4.0, help="parts per second over all lines")
    parser.add_argument("--cameras", type=int, default=len(DEMO_CAMERAS))
    arguments = parser.parse_args()
    demo = DashboardUnderTest(DEMO_CAMERAS[: arguments.cameras], port=arguments.port)
    demo.publish_history(int(240 * arguments.rate), 240)
    demo.start()
    print(demo.url, flush=True)
    try:
        while True:
            demo.publish_part()
            time.sleep(1 / arguments.rate)
    except KeyboardInterrupt:
        demo.stop()


if __name__ == "__main__":
    main()
