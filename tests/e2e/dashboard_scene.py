"""A line that has run for hours, with people who answer and models that learn from them, for looking at every page.

The parts are the simulated line's. Verdicts and maps are made up from the parts' truth, with the mistakes that a model
makes; what people say of them, and what the pages show of it, goes through the real services.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.adapters.accounts import Accounts
from services.adapters.memory import MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.core import topics
from services.core.access import Role
from services.core.identity import derive_frame_id
from services.core.imaging import encode_jpeg
from services.core.review import Answer, Review, ReviewAction
from services.core.simulation.line import AUTO, SimulatedPart, draw_part
from services.core.types import AliasState, Explanation, Grade, Inspection, OperatingPoint, Reason, Verdict
from services.dashboard.models import ModelBoard, ModelFeed
from tests.e2e.dashboard_feed import DEMO_CAMERAS, DashboardUnderTest
from tests.support.accounts import PASSWORD, make_accounts
from tests.support.described_versions import manifest, put_version
from tests.support.explained import explanation
from tests.support.feedback_station import FeedbackStation
from tests.support.model_changes import Comparing, Models, ToldDetector

PEOPLE = (("Olga Berg", Role.OPERATOR), ("Emil Kern", Role.ENGINEER), ("Ada Roth", Role.ADMIN))
OPERATOR, ENGINEER, ADMIN = (name for name, _ in PEOPLE)
#: Line, camera, product and share of defective parts among those that become cases.
CAMERAS = (
    ("line-a", "line-a-top", "disc", 0.6),
    ("line-a", "line-a-weld", "weld", 0.5),
    ("line-b", "line-b-top", "fabric", 0.5),
)
POINT = OperatingPoint(0.62, 0.55, 0.68)
_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS
_MAP_PX = 96
# An EfficientNet-Lite0.
_WEIGHTS = 3_400_000


@dataclass(frozen=True, slots=True)
class DrawnCase:
    """A case, and what is true of its part."""

    case_id: str
    part_id: str
    product: str
    verdict: Verdict
    truth: str
    """Class of the defect; empty for a good part."""

    @property
    def is_wrong(self) -> bool:
        """Whether the model was mistaken."""
        return self.verdict is (Verdict.PASS if self.truth else Verdict.FAIL)


class LivedInLine:
    """The scene, served until :meth:`close`."""

    def __init__(self, folder: Path, *, parts: int = 84) -> None:
        self.station = FeedbackStation(folder)
        self.accounts: Accounts = make_accounts(time.time_ns, f"sqlite:///{folder / 'accounts.db'}")  # type: ignore[arg-type]
        for name, role in PEOPLE:
            self.accounts.add(name, role, PASSWORD)
        self._dice = random.Random(5)
        self._noise = np.random.default_rng(5)
        self._now_ns = time.time_ns()
        self._board = ModelBoard()
        self._models(folder)
        self.cases = [self._draw(number, parts) for number in range(parts)]
        self._answer()
        self._learn()
        self.dashboard = DashboardUnderTest(
            DEMO_CAMERAS[:2],
            pictures=24,
            defect_rate=0.08,
            feedback=self.station.client,
            store=self.station.store,
            broker=self.station.broker,
            exports=self.station.exports,
            search=self.station.search,
            statistics=self.station.statistics_client,
            models=self._board,
            changes=self.station.changes,
            accounts=self.accounts,
            sign_in={"method": "local", "public_url": "http://127.0.0.1"},
        )
        self.dashboard.publish_history(240, 280)
        self.dashboard.start()
        self._feed = threading.Thread(
            target=ModelFeed(self._follow, self._board).run, args=(self.dashboard.shutdown,), daemon=True
        )
        self._feed.start()

    def close(self) -> None:
        """End everything."""
        self.dashboard.stop()
        self._feed.join(10)
        self.accounts.close()
        self.station.close()

    @property
    def open_case(self) -> DrawnCase:
        """A disc that nobody has answered, and that is good although the model says otherwise."""
        return self.cases[-4]

    # ---- parts

    def _draw(self, number: int, parts: int) -> DrawnCase:
        line_id, camera_id, product, rate = CAMERAS[(0, 0, 1, 2)[number % 4]]
        # One good disc among the newest is surely called defective: it is what the page of reviews opens with.
        is_shown = number == parts - 4
        part = draw_part(product, 500 + number, defect=None if is_shown else AUTO, defect_rate=rate)
        verdict, score = (Verdict.FAIL, 0.74) if is_shown else self._judge(part)
        part_id = f"{line_id[-1].upper()}-2611-{7300 + number:05d}"
        at_ns = self._now_ns - (parts - number) * _HOUR_NS // 9
        inspection = Inspection(
            frame_id=derive_frame_id(camera_id, part_id, 0, at_ns),
            part_id=part_id,
            line_id=line_id,
            camera_id=camera_id,
            product=product,
            sequence=number + 1,
            captured_at_ns=at_ns,
            decided_at_ns=at_ns + 62_000_000,
            verdict=verdict,
            reason=Reason.UNSURE if verdict is Verdict.REVIEW else Reason.SCORE,
            score=score,
            operating_point=POINT,
            uncertainty=max(0.0, 1 - abs(score - POINT.threshold) * 3),
            alias="default",
            model_version=3,
            defect_class="" if verdict is Verdict.PASS else part.defect_class or self._mistaken_class(part),
        )
        image = encode_jpeg(part.image, 88)
        case_id = self.station.put_case(
            inspection, image, self._explain(part), self._embed(part, verdict), agreement=0.64
        )
        return DrawnCase(case_id, part_id, product, verdict, part.defect_class)

    def _judge(self, part: SimulatedPart) -> tuple[Verdict, float]:
        """A model's verdict: mostly right, with the mistakes that a review is for."""
        chances = (0.76, 0.16, 0.08) if part.is_defective else (0.3, 0.22, 0.48)
        verdict = self._dice.choices((Verdict.FAIL, Verdict.REVIEW, Verdict.PASS), chances)[0]
        low, high = {Verdict.FAIL: (0.7, 0.97), Verdict.REVIEW: (0.56, 0.67), Verdict.PASS: (0.04, 0.4)}[verdict]
        return verdict, self._dice.uniform(low, high)

    def _mistaken_class(self, part: SimulatedPart) -> str:
        return "scratch" if part.product == "disc" else "stain" if part.product == "fabric" else "spatter"

    def _explain(self, part: SimulatedPart) -> tuple[Explanation, ...]:
        """Maps over the defect; of a good part over what is harmless, as that is what misled the model."""
        seen = part.mask if part.is_defective else part.distractor_mask
        grade, trust = (Grade.A, 0.83) if part.is_defective else (Grade.C, 0.38)
        heat = _heat(seen, spread=0.035, noise=self._noise)
        coarse = _heat(seen, spread=0.075, noise=self._noise)
        return (
            explanation("invrise-soft", map=heat, grade=grade, trust=trust),
            explanation("gradcam", map=coarse, grade=Grade.C, trust=0.44, passes=1, seconds=0.2),
        )

    def _embed(self, part: SimulatedPart, verdict: Verdict) -> NDArray[np.float16]:
        """What the model sees: the product first, then the defect, then the rest."""
        place = np.zeros(24)
        place[[name for _, _, name, _ in CAMERAS].index(part.product)] = 1.0
        place[4 + sum(map(ord, part.defect_class)) % 12 if part.is_defective else 3] = 0.7
        place[20] = 0.2 if verdict is Verdict.PASS else 0.0
        return (place + self._noise.normal(0, 0.06, 24)).astype(np.float16)

    # ---- people

    def _answer(self) -> None:
        """Most of the older two thirds are answered, and some of the rest."""
        older = len(self.cases) * 2 // 3
        for number, one in enumerate(self.cases):
            if number % 7 != 3 if number < older else number % 4 == 1:
                self._say(one, OPERATOR if number % 3 else ENGINEER)

    def _say(self, one: DrawnCase, reviewer: str) -> None:
        asked = one.verdict is Verdict.REVIEW
        corrected = (Verdict.FAIL if one.truth else Verdict.PASS) if asked or one.is_wrong else None
        said = Review(
            review_id=str(uuid.uuid4()),
            case_id=one.case_id,
            frame_id="",
            action=ReviewAction.ANSWER,
            reviewer=reviewer,
            reviewed_at_ns=0,
            verdict_right=Answer.NO if one.is_wrong else Answer.YES,
            reason_right=Answer.NOT_ASKED if one.is_wrong or corrected is Verdict.PASS else Answer.YES,
            corrected_verdict=corrected,
            defect_class=one.truth,
            shown_method="invrise-soft",
        )
        self.station.client.submit(said, b"")

    # ---- models

    def _models(self, folder: Path) -> None:
        for version, days in ((3, 9), (4, 2), (5, 0)):
            changes: dict[str, Any] = {}
            if version > 3:
                changes["classes"] = ("good", "scratch", "rust", "gouge", "broken_thread")
            created_ns = self._now_ns - days * _DAY_NS - 5 * _HOUR_NS
            lineage = replace(manifest(version).lineage, description="simulated discs and what people said in November")
            put_version(
                self.station.store,
                folder / "versions",
                version,
                n_weights=_WEIGHTS,
                created_at_ns=created_ns,
                lineage=lineage,
                **changes,
            )
        self._detector = ToldDetector(version=4)
        models = Models(self.station.broker, self._now_ns - 2 * _HOUR_NS)
        self._comparing = Comparing(self.station, self._detector, models=models, max_frames=300)
        self._comparing.begin_anew(self.station.book)
        models.promote(3, note="the starter")

    def _learn(self) -> None:
        """A version that has learned most of what people said, and one mistake more."""
        for number, one in enumerate(self.cases):
            right = Verdict.FAIL if one.truth else Verdict.PASS
            stays = one.is_wrong and number % 5 == 0
            self._detector.says[one.part_id] = one.verdict if stays else right
        self._comparing.models.promote(4, note="learned from the corrections of last week")
        self._comparing.models.add(5)
        self._comparing.run()

    def _follow(self, on_state: Callable[[AliasState], None]) -> ModelRegistry:
        reader = MemoryTopicReader(self.station.broker, [topics.MODELS])
        return ModelRegistry(reader, timeout_s=1.0, on_state=on_state)


def _heat(seen: NDArray[np.bool_], *, spread: float, noise: np.random.Generator) -> NDArray[np.float16]:
    """A map that is hottest over what was seen, at most 1, with a little unevenness everywhere."""
    small = cv2.resize(seen.astype(np.float32), (_MAP_PX, _MAP_PX), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), spread * _MAP_PX)
    peak = float(blurred.max())
    uneven = cv2.GaussianBlur(noise.normal(0, 1, (_MAP_PX, _MAP_PX)).astype(np.float32), (0, 0), 6)
    return ((blurred / peak if peak > 0 else blurred) + uneven).astype(np.float16)
