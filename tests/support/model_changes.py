"""What compares after a new model, on ports in memory: a line with models that change, and a detector that is told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from sightline.v1 import detector_service_pb2, detector_service_pb2_grpc

from services.adapters.caserecord import CaseRecord
from services.adapters.changerecord import ChangeRecord
from services.adapters.codec import inspection_to_message
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter, MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.ports import CaseIndex
from services.core import alias as transitions
from services.core import topics
from services.core.errors import SightlineError
from services.core.identity import derive_frame_id
from services.core.types import AliasState, Inspection, OperatingPoint, Reason, Verdict
from services.feedback.changebook import ChangeBook
from services.feedback.changes import ChangeComparer
from services.feedback.settings import CompareSettings
from services.runtime.grpc_server import GrpcServer
from services.runtime.lifecycle import Health
from services.runtime.retry import Backoff
from services.runtime.settings import GrpcSettings
from tests.support.cases import HOUR_NS
from tests.support.explainer_line import NOW_NS

POINT = OperatingPoint(0.5, 0.4, 0.6)
SCORE = {Verdict.PASS: 0.1, Verdict.REVIEW: 0.5, Verdict.FAIL: 0.9}


def verdict(said: Verdict, version: int, *, part_id: str = "part-0", alias: str = "default") -> Inspection:
    """An answer of the detector to one call."""
    return Inspection(
        frame_id=derive_frame_id("inspect", part_id, 0, NOW_NS),
        part_id=part_id,
        line_id="inspect",
        camera_id="inspect",
        product="disc",
        sequence=1,
        captured_at_ns=NOW_NS,
        decided_at_ns=NOW_NS + 1,
        verdict=said,
        reason=Reason.UNSURE if said is Verdict.REVIEW else Reason.SCORE,
        score=SCORE[said],
        operating_point=POINT,
        uncertainty=0.1,
        alias=alias,
        model_version=version,
    )


@dataclass
class ToldDetector:
    """A detector that says what it is told.

    Attributes:
        version: That answers.
        says: Its verdict on a part, by the part's id; PASS where nothing is said.
        fails: What it raises for a part instead, by the part's id.
        away: Raised for every part.
        asked: The parts that it was asked about, in order.
        on_ask: Called at each question.
    """

    version: int = 2
    alias: str = "default"
    says: dict[str, Verdict] = field(default_factory=dict)
    fails: dict[str, SightlineError] = field(default_factory=dict)
    away: SightlineError | None = None
    asked: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    on_ask: Callable[[], None] = lambda: None

    def inspect(self, image: bytes, *, product: str, part_id: str, timeout_s: float) -> Inspection:
        """See ``DetectorClient.inspect``."""
        del product, timeout_s
        self.asked.append(part_id)
        self.on_ask()
        if self.away is not None:
            raise self.away
        if part_id in self.fails:
            raise self.fails[part_id]
        self.images.append(image)
        return verdict(self.says.get(part_id, Verdict.PASS), self.version, part_id=part_id, alias=self.alias)


class DetectorStub(detector_service_pb2_grpc.DetectorServiceServicer):
    """``DetectorService`` at a real port, answering as a told detector does."""

    def __init__(self, told: ToldDetector) -> None:
        self._told = told
        self._server = GrpcServer(GrpcSettings(port=0), Health())
        self._server.add(detector_service_pb2_grpc.add_DetectorServiceServicer_to_server, self, "Detector")
        self._server.start()
        self.port = self._server.port

    def Inspect(  # noqa: N802 - the name of the call
        self, request: detector_service_pb2.InspectRequest, context: grpc.ServicerContext
    ) -> detector_service_pb2.InspectResponse:
        """Answer one call."""
        del context
        said = self._told.inspect(request.image, product=request.product, part_id=request.part_id, timeout_s=1.0)
        return detector_service_pb2.InspectResponse(inspection=inspection_to_message(said))

    def stop(self) -> None:
        """Serve no longer."""
        self._server.stop(0)


class Models:
    """The ``models`` topic, and changes of it as the command line makes them, a second apart from ``at_ns`` on."""

    def __init__(self, broker: MemoryBroker, at_ns: int = NOW_NS + HOUR_NS) -> None:
        self._broker = broker
        self._registry = ModelRegistry(
            MemoryTopicReader(broker, [topics.MODELS]), MemoryRecordWriter(broker), timeout_s=1.0
        )
        self._at_ns = at_ns

    def promote(self, version: int, *, alias: str = "default", actor: str = "mira", note: str = "") -> AliasState:
        """Add a version where it is new, and let it decide."""
        self._registry.read_all()
        known = self._registry.states.get(alias)
        if known is None or version not in transitions.known_versions(known):
            self._change(alias, transitions.add, version=version, actor=actor)
        return self._change(alias, transitions.promote, version=version, actor=actor, note=note)

    def roll_back(self, *, alias: str = "default", actor: str = "mira") -> AliasState:
        """Let the previous version decide again."""
        return self._change(alias, transitions.roll_back, actor=actor)

    def add(self, version: int, *, alias: str = "default", actor: str = "mira") -> AliasState:
        """Make a version a candidate."""
        return self._change(alias, transitions.add, version=version, actor=actor)

    def follow(self) -> ModelRegistry:
        """A fresh reader of the topic."""
        return ModelRegistry(MemoryTopicReader(self._broker, [topics.MODELS]), timeout_s=1.0)

    def _change(self, alias: str, transition: Any, **more: Any) -> AliasState:
        self._at_ns += 1_000_000_000
        return self._registry.change(alias, functools.partial(transition, at_ns=self._at_ns, **more))


class Keeps(Protocol):
    """What keeps cases and answers: a feedback line, or a feedback station."""

    broker: MemoryBroker
    store: MemoryObjectStore
    record: CaseRecord

    @property
    def index(self) -> CaseIndex:
        """The cases, and what was said of them."""
        ...


class Comparing:
    """Models that change, and what compares after that; each step is the test's own."""

    def __init__(self, line: Keeps, detector: ToldDetector, *, models: Models | None = None, **settings: Any) -> None:
        self.line = line
        self.detector = detector
        self.models = models or Models(line.broker)
        self.changes = ChangeRecord(line.store)
        self._settings = CompareSettings(**settings)
        self.begin_anew()

    def begin_anew(self, book: ChangeBook | None = None) -> None:
        """As after the process was killed: only what is on record is known.

        Args:
            book: Where what is found is told; None makes one.
        """
        self.book = book or ChangeBook(ChangeRecord(self.line.store), compares=True)
        self.comparer = ChangeComparer(
            self.models.follow,
            self.line.index,
            self.line.record,
            self.book,
            self.detector,
            self._settings,
            timeout_s=1.0,
            backoff=Backoff(first_s=0.01, cap_s=0.01),
            clock_ns=lambda: NOW_NS,
            rest_s=0.0,
            follow_s=0.0,
        )

    def run(self, steps: int = 200) -> None:
        """Work until there is nothing to do, at most so many steps."""
        for _ in range(steps):
            if self.comparer.step() == 1.0:
                return
