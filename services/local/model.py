"""The model that a fresh line begins with: fitted once, cached, stored, and made the one that decides."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from services.adapters.connection import KafkaConnection, StoreConnection
from services.adapters.kafka import KafkaRecordWriter, KafkaTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.modelstore import ModelStore
from services.adapters.objectstore import S3ObjectStore
from services.adapters.trainingrecord import TrainingRecord
from services.core import alias as transitions
from services.core.errors import SightlineError, UnavailableError
from services.core.topics import MODELS
from services.core.training_run import RunOutcome, RunStage, TrainingRun
from services.core.types import AliasState
from services.local.process import ChildProcess
from services.local.tools import REPOSITORY_ROOT

ALIAS = "default"
_ACTOR = "first start"
_FIT_TIMEOUT_S = 600.0

ProgressReport = Callable[[float, str], None]
"""Told the share that is done, 0 to 1, and what is being done."""


def write_progress(path: Path, share: float, what: str) -> None:
    """Leave word for whoever waits in another process; whole at any moment."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(json.dumps({"share": share, "what": what}))
    fresh.replace(path)


def cache_directory() -> Path:
    """Where fitted starter models are kept: ``SIGHTLINE_CACHE``, or ``.cache`` of the checkout."""
    return Path(os.environ.get("SIGHTLINE_CACHE") or REPOSITORY_ROOT / ".cache").resolve() / "starter"


def starter_key() -> str:
    """Changes with the code that a starter model comes from, so that a cached one is never stale."""
    package = Path(__file__).resolve().parents[1]
    state = hashlib.sha256()
    for path in sorted([*(package / "core").rglob("*.py"), Path(__file__).with_name("starter.py")]):
        state.update(path.name.encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:16]


class CancelledError(SightlineError):
    """Somebody wished to stop while something was waited for."""

    reason = "cancelled"


class StarterModel:
    """Fits the starter model in a process of its own, unless it is in the cache.

    Args:
        cache: Folder of fitted models.
        log_path: Where the fit's output goes.
        report: Told of its progress.
        cancelled: Asked while it fits; True ends the fit with an error.
    """

    def __init__(
        self,
        cache: Path,
        *,
        log_path: Path,
        report: ProgressReport = lambda _share, _what: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = cache / starter_key()
        self._log_path = log_path
        self._report = report
        self._cancelled = cancelled

    @property
    def cached(self) -> bool:
        """Whether it need not be fitted."""
        return (self._folder / "checksums.json").is_file()

    def folder(self) -> Path:
        """The version's folder, fitted if need be.

        Raises:
            UnavailableError: When the fit fails; with the end of its output.
        """
        if not self.cached:
            self._fit()
        return self._folder

    def _fit(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        progress = self._log_path.with_suffix(".progress")
        progress.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "services.cli", "fit-starter", str(self._folder), "--progress", str(progress)]
        # The only thing at work while it runs: it may have every core.
        env = {
            **os.environ,
            "OMP_NUM_THREADS": str(os.cpu_count() or 1),
            # Or torch leaves a folder of its own behind in the temporary folder.
            "TORCHINDUCTOR_CACHE_DIR": str(self._log_path.parent / "torchinductor"),
        }
        child = ChildProcess("fit of the starter model", argv, log_path=self._log_path, env=env)
        child.start()
        end_s = time.monotonic() + _FIT_TIMEOUT_S
        while not child.wait(0.2):
            self._tell(progress)
            if self._cancelled():
                child.kill()
                raise CancelledError("the start was cancelled while the starter model was fitted")
            if time.monotonic() > end_s:
                child.kill()
        progress.unlink(missing_ok=True)
        if child.returncode != 0 or not self.cached:
            raise UnavailableError(f"the starter model must be fitted, it was not:\n{child.log_tail()}")

    def _tell(self, progress: Path) -> None:
        try:
            said = json.loads(progress.read_text())
            self._report(float(said["share"]), str(said["what"]))
        except (OSError, ValueError, KeyError):
            return


def latest_proven(versions: Sequence[int], runs: Iterable[TrainingRun]) -> int:
    """The latest version that may decide without anybody looking at it; 0 where there is none.

    Args:
        versions: Those in the store.
        runs: Those on record: what they made and refused, took back or left undecided lies in the store too.
    """
    unproven = {
        run.candidate_version
        for run in runs
        if run.outcome is not RunOutcome.PROMOTED and run.stage is not RunStage.WATCH
    }
    return max((version for version in versions if version not in unproven), default=0)


def ensure_live_model(kafka: KafkaConnection, objects: StoreConnection, starter: StarterModel) -> AliasState:
    """Make sure that the alias of the line has a version that decides.

    A version that is live stays. Where the broker has forgotten which one was (it may keep records in memory only), the
    latest that the object store holds becomes live again, of those that a training made only one that went live and
    stayed; where there is none, the starter model does.

    Returns:
        The alias' state.

    Raises:
        SightlineError: When the broker or the store does not answer, or the starter model cannot be fitted.
    """
    bucket = S3ObjectStore(objects)
    store = ModelStore(bucket)
    writer = KafkaRecordWriter(kafka)
    registry = ModelRegistry(KafkaTopicReader(kafka, [MODELS]), writer)
    try:
        registry.read_all()
        now = registry.states.get(ALIAS)
        if now is not None and now.live_version:
            return now
        stored = latest_proven(store.versions(ALIAS), TrainingRecord(bucket).newest(ALIAS))
        version = stored or store.upload(starter.folder()).version
        if now is None or version not in transitions.known_versions(now):
            registry.change(ALIAS, lambda state: transitions.add(state, version, actor=_ACTOR, at_ns=time.time_ns()))
        return registry.change(
            ALIAS, lambda state: transitions.promote(state, version, actor=_ACTOR, at_ns=time.time_ns())
        )
    finally:
        registry.close()
        writer.close(10)
