"""What the routes work with: built once by whoever makes the application."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from services.adapters.changesclient import ChangesClient
from services.core.types import Inspection
from services.dashboard.archive import FrameArchive
from services.dashboard.bulk import CaseSearch
from services.dashboard.components import ComponentBoard
from services.dashboard.explanations import ExplanationIndex, KeptExplanations
from services.dashboard.exporting import Exports
from services.dashboard.lines import Lines
from services.dashboard.live import LiveModel
from services.dashboard.models import ModelBoard, ModelShelf
from services.dashboard.ondemand import OnDemand
from services.dashboard.overlays import Overlays
from services.dashboard.pictures import Pictures
from services.dashboard.posted import Bodies
from services.dashboard.rates import Rates
from services.dashboard.reviewing import Reviewing
from services.dashboard.settings import DashboardSettings
from services.dashboard.signing import SigningIn
from services.dashboard.statistics import StatisticsService
from services.dashboard.stream import LiveStream
from services.dashboard.training import Training


@dataclass(frozen=True, slots=True)
class Context:
    """The application's parts, as the routes see them."""

    settings: DashboardSettings
    model: LiveModel
    board: ComponentBoard
    stream: LiveStream
    archive: FrameArchive[Inspection]
    explanations: ExplanationIndex
    explained_archive: FrameArchive[KeptExplanations]
    overlays: Overlays
    on_demand: OnDemand
    reviewing: Reviewing
    statistics: StatisticsService | None
    """None offers no statistics."""
    exports: Exports
    search: CaseSearch | None
    signing: SigningIn
    bodies: Bodies
    rates: Rates
    pictures: Pictures
    picture_pool: ThreadPoolExecutor
    picture_slots: asyncio.Semaphore
    """One for each request that may work or wait."""
    models: ModelBoard
    shelf: ModelShelf
    changes: ChangesClient | None
    """At the feedback service; None where none is set."""
    training: Training
    lines: Lines
    version: str
    static_dir: Path
