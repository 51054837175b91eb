"""What the routes work with: built once by whoever makes the application."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from services.dashboard.archive import VerdictArchive
from services.dashboard.components import ComponentBoard
from services.dashboard.live import LiveModel
from services.dashboard.pictures import Pictures
from services.dashboard.settings import DashboardSettings
from services.dashboard.stream import LiveStream


@dataclass(frozen=True, slots=True)
class Context:
    """The application's parts, as the routes see them."""

    settings: DashboardSettings
    model: LiveModel
    board: ComponentBoard
    stream: LiveStream
    archive: VerdictArchive
    pictures: Pictures
    picture_pool: ThreadPoolExecutor
    picture_slots: asyncio.Semaphore
    """One for each request that may work or wait."""
    version: str
    static_dir: Path
