"""A whole line on one machine: servers, services and a model, started in parallel and stopped in order."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.core.errors import SightlineError, UnavailableError
from services.local.answers import plc_command, read_cameras, simulated_lines, write_outcome_settings
from services.local.member import Member, Program, metric_total
from services.local.model import CancelledError, ProgressReport, StarterModel, cache_directory, ensure_live_model
from services.local.process import LOOPBACK, free_port, tail
from services.local.servers import Servers

#: The order in which work stops flowing: who takes it in first, who tells of it last.
STOP_ORDER = ("ingest", "detector", "outcome", "explainer", "feedback", "trainer", "serving", "dashboard")
_READY_TIMEOUT_S = 180.0
#: The broker of this machine keeps every byte in memory: maps are as large as they need to be to be seen. And where the
#: processor does not suffice for every case in full, a short queue explains as many in full as a long one, only sooner.
_EXPLAINER = {"MAP_SIDE_PX": "64", "KAFKA__COMPRESSION": "gzip", "POLICY__FAST_ABOVE_CASES": "8"}
# The broker keeps every record in memory: of all frames, what the model saw would take more than their verdicts.
_DETECTOR = {"EMBEDDING_SHARE": "0.2"}
_FEEDBACK = {"EMBEDDINGS__MEMORY_BYTES": "150000000"}
# A line to try out: thirty answers show what they changed within minutes.
_TRAINER = {
    "TRIGGERS__AFTER_REVIEWS": "30",
    "TRIGGERS__MIN_INTERVAL_S": "60",
    "PROMOTE_ITSELF": "true",
    "IN_SHADOW__FRAMES": "20",
    "IN_SHADOW__MAX_S": "120",
    # Of so few frames one that fails is chance.
    "IN_SHADOW__MAX_FAILED_SHARE": "0.2",
    # Of 240 defective parts, which are kept apart, so few are chance too; and on 480 parts the Matthews correlation of
    # two models that rank them equally well differs by up to .04 (95 %; the gate tells the interval).
    "GATES__MAX_MORE_ESCAPES": "6",
    "GATES__MAX_MCC_FALL": "0.06",
    "WATCH__S": "60",
    "WATCH__MIN_FRAMES": "20",
    "LEASE_S": "10",
}
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class LinePlan:
    """What a line is made of.

    Attributes:
        data: Folder for everything that it keeps.
        ingest_config: YAML settings of ingest: which cameras there are.
        engine: How the broker keeps records; see ``services.local.servers``.
        page_port: Port of the page; ``None`` leaves the dashboard out.
        answers: Whether parts are answered: an outcome service, and a PLC for each line whose simulated cameras wait
            for one.
        outcome_config: YAML settings of the outcome service instead of those made for the cameras.
        settings: Further settings by service, without the prefix; they win.
    """

    data: Path
    ingest_config: Path
    engine: Literal["memory", "durable"]
    page_port: int | None = None
    answers: bool = False
    outcome_config: Path | None = None
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Line:
    """Starts, watches and stops the parts of one line.

    Args:
        plan: What it is made of.
        report: Told of each part that is up, with its name and the seconds it took.
        model_report: Told of the progress of the starter model's fit.
        cancelled: Asked while it waits; True ends a start with an error.
    """

    def __init__(
        self,
        plan: LinePlan,
        *,
        report: Callable[[str, float], None] = lambda _name, _seconds: None,
        model_report: ProgressReport = lambda _share, _what: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan = plan
        self._report = report
        self._cancelled = cancelled
        self.logs = plan.data / "logs"
        self.servers = Servers(plan.data, engine=plan.engine)
        self.members: dict[str, Member] = {}
        self.plcs: list[Program] = []
        self.timings_s: dict[str, float] = {}
        self._feedback_port = free_port()
        self._trainer_port = free_port()
        self._outcome_port = free_port()
        self._starter = StarterModel(
            cache_directory(), log_path=self.logs / "starter.log", report=model_report, cancelled=cancelled
        )

    # ---- start

    def start(self) -> None:
        """Start everything but ingest; returns when a frame would get its verdict.

        Raises:
            SightlineError: When a part does not come up; what was started goes with :meth:`stop`.
        """
        with ThreadPoolExecutor(1) as pool:
            # A data folder without a store needs the starter model: fit it while the servers come up.
            fit = None if (self._plan.data / "store").exists() else pool.submit(self._starter.folder)
            self.servers.start()
            for name, seconds in self.servers.timings_s.items():
                self._note(name, seconds)
            if fit is not None:
                with self._timed("starter model"):
                    fit.result()
        # Services wait for what they need by themselves: their imports and the model's way here overlap.
        self._make_members()
        for name in ("serving", "detector", "outcome", "explainer", "feedback", "trainer", "dashboard"):
            if name in self.members:
                self.members[name].start()
        with self._timed("model"):
            ensure_live_model(self.servers.kafka, self.servers.objects, self._starter)
        for name in ("serving", "dashboard", "detector", "outcome", "explainer", "feedback", "trainer"):
            if name in self.members:
                with self._timed(name):
                    self._wait_ready(self.members[name])

    def start_ingest(self) -> None:
        """Let the frames flow."""
        with self._timed("ingest"):
            self.members["ingest"].start()
            self._wait_ready(self.members["ingest"])
        for plc in self.plcs:
            plc.start()

    @property
    def index_url(self) -> str:
        """Where the case index lies."""
        return f"sqlite:///{(self._plan.data / 'index' / 'cases.db').resolve()}"

    def command_settings(self) -> dict[str, str]:
        """What commands in another terminal need, by name without the prefix."""
        return {
            **self.servers.settings(),
            "INDEX__URL": self.index_url,
            "FEEDBACK__ADDRESS": f"{LOOPBACK}:{self._feedback_port}",
            "TRAINER__ADDRESS": f"{LOOPBACK}:{self._trainer_port}",
            **({"OUTCOME__ADDRESS": f"{LOOPBACK}:{self._outcome_port}"} if self._plan.answers else {}),
        }

    def _make_members(self) -> None:
        common = self.servers.settings()
        explainer_port, detector_port, serving_port = str(free_port()), str(free_port()), str(free_port())
        ingest_port = str(free_port())
        services: dict[str, dict[str, str]] = {
            "ingest": {
                "CONFIG": str(self._plan.ingest_config.resolve()),
                "GRPC__PORT": ingest_port,
                "SPOOL__DIRECTORY": str((self._plan.data / "spool").resolve()),
            },
            "detector": {"GRPC__PORT": detector_port, **_DETECTOR},
            "explainer": {"GRPC__PORT": explainer_port, **_EXPLAINER},
            "feedback": {
                "GRPC__PORT": str(self._feedback_port),
                "INDEX__URL": self.index_url,
                "DETECTOR__ADDRESS": f"{LOOPBACK}:{detector_port}",
                **_FEEDBACK,
            },
            "trainer": {
                "GRPC__PORT": str(self._trainer_port),
                "WORK": str((self._plan.data / "training").resolve()),
                "SERVING__ADDRESSES": f"{LOOPBACK}:{serving_port}",
                **_TRAINER,
            },
            "serving": {
                "TRITON_URL": self.servers.triton_url,
                "REPOSITORY": str(self.servers.repository.resolve()),
                "DATA": str((self._plan.data / "versions").resolve()),
                "GRPC__PORT": serving_port,
            },
        }
        if self._plan.answers:
            services["outcome"] = {
                "CONFIG": str(self._answers().resolve()),
                "GRPC__PORT": str(self._outcome_port),
                "INGEST__ADDRESS": f"{LOOPBACK}:{ingest_port}",
                "DATA": str((self._plan.data / "outcome").resolve()),
            }
        if self._plan.page_port is not None:
            services["dashboard"] = {
                "WEB__HOST": LOOPBACK,
                "WEB__PORT": str(self._plan.page_port),
                "EXPLAINER__ADDRESS": f"{LOOPBACK}:{explainer_port}",
                "FEEDBACK__ADDRESS": f"{LOOPBACK}:{self._feedback_port}",
                "TRAINER__ADDRESS": f"{LOOPBACK}:{self._trainer_port}",
                **({"OUTCOME__ADDRESS": f"{LOOPBACK}:{self._outcome_port}"} if self._plan.answers else {}),
            }
        for name, own in services.items():
            more = self._plan.settings.get(name, {})
            self.members[name] = Member(name, {**common, **own, **more}, logs=self.logs)
        if "dashboard" in services:
            urls = {name: member.ready_url for name, member in self.members.items() if name != "dashboard"}
            if self.servers.triton is not None:
                urls["triton"] = f"http://{self.servers.triton.http_url}/v2/health/ready"
            settings = {**common, **services["dashboard"], "COMPONENTS__URLS": json.dumps(urls)}
            more = self._plan.settings.get("dashboard", {})
            self.members["dashboard"] = Member("dashboard", {**settings, **more}, logs=self.logs)

    def _answers(self) -> Path:
        """The settings of the outcome service; the simulated PLCs are made with them."""
        if self._plan.outcome_config is not None:
            return self._plan.outcome_config
        cameras = read_cameras(self._plan.ingest_config)
        ports = [free_port() for _ in {camera.line_id for camera in cameras}]
        simulated = simulated_lines(cameras, ports)
        self.plcs = [Program(f"plc-{line.line_id}", plc_command(line), {}, logs=self.logs) for line in simulated]
        path = self._plan.data / "outcome.yaml"
        return write_outcome_settings(path, cameras, simulated, (self._plan.data / "outcomes").resolve())

    def _wait_ready(self, member: Member) -> None:
        end_s = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < end_s:
            if self._cancelled():
                raise CancelledError(f"the start was cancelled while it waited for {member.name}")
            if member.ready():
                return
            if not member.process.alive:
                raise UnavailableError(
                    f"{member.name} must keep running, it ended ({member.process.returncode}):\n"
                    f"{tail(member.process.log_path)}"
                )
            time.sleep(_POLL_S)
        raise UnavailableError(
            f"{member.name} must be ready within {_READY_TIMEOUT_S:.0f} s, it waits for {member.waiting_for()}:\n"
            f"{tail(member.process.log_path)}"
        )

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        since_s = time.monotonic()
        yield
        self._note(name, time.monotonic() - since_s)

    def _note(self, name: str, seconds: float) -> None:
        self.timings_s[name] = seconds
        self._report(name, seconds)

    # ---- while it runs

    @property
    def page_url(self) -> str:
        """Address of the page; empty without one."""
        port = self._plan.page_port
        return f"http://{LOOPBACK}:{port}" if port is not None else ""

    def addresses(self) -> dict[str, str]:
        """Page, probes of every service by name, and Triton's metrics where it is this line's own."""
        found = {name: member.ready_url.removesuffix("/readyz") for name, member in self.members.items()}
        if self.servers.triton is not None:
            found["triton_metrics"] = f"http://{self.servers.triton.metrics_url}"
        return {**found, "page": self.page_url}

    def verdicts(self) -> int:
        """Verdicts acknowledged since the detector started."""
        return int(metric_total(self.members["detector"].metrics(), "sightline_detector_verdicts_total"))

    def watch(self) -> list[str]:
        """Look after everything once; tells what happened, a line each."""
        happened = []
        try:
            revived = self.servers.revive()
            happened += [f"{name} had died and is up again" for name in revived]
            if "broker" in revived and self._plan.engine == "memory":
                happened.append(self._begin_anew())
        except SightlineError as error:
            happened.append(str(error).splitlines()[0])
        for member in (*self.members.values(), *self.plcs):
            restart = member.watch()
            if restart is not None:
                happened.append(
                    f"{restart.name} ended ({restart.returncode}) and starts again in {restart.again_in_s:.1f} s; "
                    f"its log: {restart.log_path}"
                )
        return happened

    def _begin_anew(self) -> str:
        """Bring the line back after the broker lost every record: places in topics that services remember are void."""
        for member in self.members.values():
            member.process.kill()
        ensure_live_model(self.servers.kafka, self.servers.objects, self._starter)
        for member in self.members.values():
            member.start()
        return "the broker keeps records in memory and has lost them: every service starts anew"

    # ---- stop

    def stop_services(
        self,
        report: Callable[[str, bool], None] = lambda _name, _drained: None,
        names: Sequence[str] = STOP_ORDER,
    ) -> bool:
        """Stop services in the order in which frames flow, so that what is under way still gets its verdict.

        Args:
            report: Told of each service that has stopped, with whether it drained by itself.
            names: Which ones, in that order.

        Returns:
            Whether every one of them drained.
        """
        for plc in self.plcs:
            plc.stop()
        drained = True
        for name in names:
            member = self.members.get(name)
            if member is None or not member.process.alive:
                continue
            gracefully = member.stop() and member.process.returncode == 0
            drained &= gracefully
            report(name, gracefully)
        return drained

    def stop(self, report: Callable[[str, bool], None] = lambda _name, _drained: None) -> bool:
        """Stop services, then servers; idempotent. Takes and gives what :meth:`stop_services` does."""
        try:
            return self.stop_services(report)
        finally:
            self.servers.stop()
